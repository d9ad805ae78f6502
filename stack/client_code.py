"""The part of the Python client that is made from the OpenAPI document and the problem types."""

import builtins
import json
import keyword
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stack.stack import ROOT

Json = Mapping[str, Any]

_FOLDER = "client/user_pods_client"
_MADE = "Made by `make generated`; a test compares it with the service."
_SCALARS = {"string": "str", "integer": "int", "number": "float", "boolean": "bool"}


def files(document: Json, kinds: Sequence[tuple[str, int, str]]) -> dict[str, str]:
    """Each generated module of the client, by its path below the checkout."""
    modules = {
        "models": _models(_answered(document)),
        "problems": _problems(kinds),
        "calls": _calls(document),
        "operations": _operations(document),
    }
    return {f"{_FOLDER}/{name}.py": _formatted("\n".join(lines)) for name, lines in modules.items()}


def methods(document: Json) -> list[tuple[str, str, Json]]:
    """Method, path and operation of all that the document has."""
    return [(verb, path, each) for path, verbs in document["paths"].items() for verb, each in verbs.items()]


def _answered(document: Json) -> Json:
    """The schemas that a caller sees. Members of a request's body are parameters; problems are exceptions."""
    schemas = document["components"]["schemas"]
    sent = {
        content["schema"]["$ref"].rpartition("/")[2]
        for _, _, operation in methods(document)
        for content in operation.get("requestBody", {}).get("content", {}).values()
    }
    return {name: schema for name, schema in schemas.items() if name not in sent | {"Problem", "ProblemError"}}


def _formatted(code: str) -> str:
    """As the project's formatter leaves it."""
    for arguments in (("check", "--quiet", "--select", "I", "--fix"), ("format",)):
        argv = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", f"{_FOLDER}/generated.py", "-"]
        code = subprocess.run(argv, input=code, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return code


def _models(schemas: Json) -> Iterator[str]:
    yield f'"""What the service answers. {_MADE}"""'
    yield "from __future__ import annotations"
    yield "from dataclasses import dataclass, field"
    yield "from datetime import datetime"
    yield "from typing import Literal"
    yield "from user_pods_client.decoding import Model"
    for name, schema in schemas.items():
        if "enum" in schema:
            yield f"{name} = Literal[{', '.join(map(json.dumps, schema['enum']))}]"
    for name, schema in schemas.items():
        if "enum" not in schema:
            yield from _dataclass(name, schema)


def _dataclass(name: str, schema: Json) -> Iterator[str]:
    yield "@dataclass(frozen=True, kw_only=True, eq=False, repr=False)"
    yield f"class {name}(Model):"
    yield from _docstring(schema.get("description", ""), "    ")
    for member, each in schema["properties"].items():
        default = "" if member in schema.get("required", []) else _default(each)
        yield f"    {member}: {_optional(each, default)}{default}"
        yield from _docstring(each.get("description", ""), "    ")


def _default(schema: Json) -> str:
    value = schema.get("default")
    if isinstance(value, list | dict):
        return "" if "$ref" in schema else f" = field(default_factory={type(value).__name__})"
    return f" = {value!r}"


def _optional(schema: Json, default: str) -> str:
    kind = _type(schema)
    return f"{kind} | None" if default == " = None" and "None" not in kind.split(" | ") else kind


def _type(schema: Json) -> str:
    """The Python type of a schema."""
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    return str(schema["$ref"].rpartition("/")[2]) if "$ref" in schema else _type_in_place(schema)


def _type_in_place(schema: Json) -> str:
    """Enumerations are Literals, so that a value of a newer service is no error."""
    if "const" in schema or "enum" in schema:
        return f"Literal[{', '.join(map(json.dumps, schema.get('enum', [schema.get('const')])))}]"
    if schema.get("type") == "array":
        return f"list[{_type(schema['items'])}]"
    if schema.get("type") == "object":
        return f"dict[str, {_type(schema['additionalProperties'])}]"
    if schema.get("format") == "date-time":
        return "datetime"
    return "None" if schema["type"] == "null" else _SCALARS[schema["type"]]


def _problems(kinds: Sequence[tuple[str, int, str]]) -> Iterator[str]:
    yield f'"""An exception for each type of problem. {_MADE}"""'
    yield "from user_pods_client.errors import ServiceProblem"
    for slug, status, meaning in kinds:
        yield f"class {class_of(slug)}(ServiceProblem):"
        yield from _docstring(f"{status}: {meaning}", "    ")
        yield f'    slug = "{slug}"'
    yield "BY_SLUG: dict[str, type[ServiceProblem]] = {"
    yield from (f'    "{slug}": {class_of(slug)},' for slug, _, _ in kinds)
    yield "}"


def class_of(slug: str) -> str:
    """The exception of a problem type: `session-not-found` is SessionNotFound."""
    name = "".join(part.capitalize() for part in slug.split("-"))
    return f"{name}Problem" if name in dir(builtins) else name


def _calls(document: Json) -> Iterator[str]:
    operations = methods(document)
    yield f'"""One function per operation of the service. {_MADE}"""'
    yield "from typing import Any"
    yield "from urllib.parse import quote"
    yield "from user_pods_client.call import Call"
    yield from _imports(operations, document)
    for verb, path, operation in operations:
        result = _result(operation)
        yield f"def {_function(operation)}({_signature(operation, document)}) -> Call[{result}]:"
        yield "    return Call("
        yield f'        name="{operation["operationId"]}",'
        yield f'        method="{verb.upper()}",'
        yield f"        path={_path(path)},"
        yield f"        answers={{{', '.join(f'{s}: {result}' for s in _good(operation))}}},"
        yield from _sent(operation, document)
        yield "    )"
    yield "def _segment(value: str) -> str:"
    yield '    return quote(value, safe="")'
    yield "def _body(**members: Any) -> dict[str, Any]:"
    yield "    return {name: value for name, value in members.items() if value is not None}"


def _path(path: str) -> str:
    if "{" not in path:
        return f'"{path}"'
    return f'f"{path.replace("{", "{_segment(").replace("}", ")}")}"'


def _sent(operation: Json, document: Json) -> Iterator[str]:
    parameters = operation.get("parameters", [])
    query = [each["name"] for each in parameters if each["in"] == "query"]
    headers = [each["name"] for each in parameters if each["in"] == "header"]
    if query:
        yield f"        query={{{', '.join(f'{_json(name)}: {_python(name)}' for name in query)}}},"
    if headers:
        yield f"        sent_headers={{{', '.join(f'{_json(name)}: {_python(name)}' for name in headers)}}},"
    if body := _body(operation, document):
        yield f"        body=_body({', '.join(f'{name}={name}' for name in body['properties'])}),"


def _operations(document: Json) -> Iterator[str]:
    operations = [each for each in methods(document) if not is_stream(each[2])]
    yield f'"""A method per operation, for both clients. {_MADE}"""'
    yield "from abc import ABC, abstractmethod"
    yield "from typing import TypeVar"
    yield "from user_pods_client import calls"
    yield "from user_pods_client.call import Call"
    yield from _imports(operations, document)
    yield 'T = TypeVar("T")'
    for name, prefix, wait in (("Operations", "", ""), ("AsyncOperations", "async ", "await ")):
        yield f"class {name}(ABC):"
        yield "    @abstractmethod"
        yield f"    {prefix}def _send(self, call: Call[T]) -> T:"
        yield '        """The result of a call. Raises a ClientError."""'
        for _, _, operation in operations:
            signature = _signature(operation, document)
            given = ", ".join(filter(None, ["self", signature]))
            yield f"    {prefix}def {operation['operationId']}({given}) -> {_result(operation)}:"
            yield from _docstring(_about(operation), "        ")
            yield f"        {'return '}{wait}self._send(calls.{_function(operation)}({_passed(operation, document)}))"


def _about(operation: Json) -> str:
    return " ".join([operation["summary"].rstrip(".") + ".", *operation.get("description", "").split()])


def _imports(operations: Sequence[tuple[str, str, Json]], document: Json) -> Iterator[str]:
    """Of the models that the signatures name."""
    names = {_result(operation) for _, _, operation in operations}
    for _, _, operation in operations:
        for each in _parameters(operation, document):
            names |= set(each.kind.split(" | "))
    schemas = document["components"]["schemas"]
    yield f"from user_pods_client.models import {', '.join(sorted(names & set(schemas)))}"


class _Parameter:
    """One parameter of a method; without a default it is given by position."""

    def __init__(self, name: str, schema: Json, *, required: bool) -> None:
        self.name = _python(name)
        default = None if isinstance(schema.get("default"), list | dict) else schema.get("default")
        self.default = "" if required else f" = {default!r}"
        self.kind = _optional(schema, self.default)


def _parameters(operation: Json, document: Json) -> list[_Parameter]:
    given = [
        _Parameter(each["name"], each["schema"], required=each.get("required", False))
        for each in operation.get("parameters", [])
    ]
    if body := _body(operation, document):
        given += [
            _Parameter(name, each, required=name in body.get("required", []))
            for name, each in body["properties"].items()
        ]
    return given


def _signature(operation: Json, document: Json) -> str:
    given = _parameters(operation, document)
    by_name = [f"{each.name}: {each.kind}{each.default}" for each in given if each.default]
    by_place = [f"{each.name}: {each.kind}" for each in given if not each.default]
    return ", ".join([*by_place, *(["*", *by_name] if by_name else [])])


def _passed(operation: Json, document: Json) -> str:
    given = _parameters(operation, document)
    by_name = [f"{each.name}={each.name}" for each in given if each.default]
    return ", ".join([*(each.name for each in given if not each.default), *by_name])


def _body(operation: Json, document: Json) -> Json | None:
    for content in operation.get("requestBody", {}).get("content", {}).values():
        name = content["schema"]["$ref"].rpartition("/")[2]
        schema: Json = document["components"]["schemas"][name]
        return schema
    return None


def _good(operation: Json) -> list[str]:
    """Statuses that are no problems: an unhealthy /health answers 503 with a report."""
    return [
        status
        for status, answer in operation["responses"].items()
        if "application/problem+json" not in answer.get("content", {})
    ]


def _result(operation: Json) -> str:
    for status in _good(operation):
        for content in operation["responses"][status].get("content", {}).values():
            return _type(content["schema"])
    return "None"


def is_stream(operation: Json) -> bool:
    """Whether it answers with events, which the clients read in a method of their own."""
    return any("text/event-stream" in answer.get("content", {}) for answer in operation["responses"].values())


def _function(operation: Json) -> str:
    return _python(operation["operationId"])


def _python(name: str) -> str:
    name = name.replace("-", "_").lower()
    return f"{name}_" if name in dir(builtins) or keyword.iskeyword(name) else name


def _json(name: str) -> str:
    return json.dumps(name)


def _docstring(text: str, indent: str) -> Iterator[str]:
    if not text:
        return
    text = text[0].upper() + text[1:]
    lines = textwrap.wrap(f'"""{text.rstrip(".")}."""', 118 - len(indent), break_long_words=False)
    yield from (indent + line for line in lines)
