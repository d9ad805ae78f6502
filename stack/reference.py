"""Pages of the documentation's reference that come from the OpenAPI document, the problem types and the charts."""

import html
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_MADE = "This page is made by `make generated`; a test compares it with the code."


def rest(document: Mapping[str, Any]) -> str:
    """Every operation of an OpenAPI document with its parameters, body and answers, then the bodies."""
    lines = [
        "# REST calls",
        "",
        _MADE,
        "The service serves the same as a page at `/docs` and for programs at `/openapi.json`.",
        "",
        "With [keys](../how-to/api-keys.md) configured, send one as `Authorization: Bearer <key>`. Calls marked *open*",
        "need none, and 403 says that the key's role does not allow the call.",
        "Errors are [problem documents](problems.md).",
        "",
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            lines += [f"## {method.upper()} {path}", "", *_operation(operation), ""]
    lines += ["## Bodies", ""]
    for name, schema in document["components"]["schemas"].items():
        lines += [f"### {name}", "", *_body(schema), ""]
    return _page(lines)


def problems(kinds: Sequence[tuple[str, int, str]]) -> str:
    """Every problem type: slug, status, meaning."""
    rows = [f"| `{slug}` | {status} | {_cell(meaning)} |" for slug, status, meaning in kinds]
    return _page(
        [
            "# Problem types",
            "",
            _MADE,
            "",
            "Every error is an RFC 9457 problem document (`application/problem+json`): `type` is `/problems/<type>`,",
            "`detail` a sentence that users may read, and `instance` names the occurrence in the service's log. A 503",
            "names the failing `part`, and a 422 lists what does not fit in `errors`. 429 and 503 have `Retry-After`.",
            "",
            "| type | status | meaning |",
            "| --- | --- | --- |",
            *rows,
        ]
    )


def command_line(text: str) -> str:
    """The help of every command, from the Markdown that typer makes of it."""
    # "[required]" at the end of a line would be taken for a link.
    text = re.sub(r" +\[([^\]\n]+)\]$", r" (\1)", html.unescape(text).strip(), flags=re.MULTILINE)
    lines = [line for line in text.split("\n") if not line.startswith("Exit codes:")]
    more = "[The how-to](../how-to/command-line.md) has examples and the exit codes."
    return re.sub(r"\n{3,}", "\n\n", _page(["# The command line", "", f"{_MADE} {more}", "", *lines[1:]]))


def chart(name: str, readme: str) -> str:
    """The values of a chart, from the README that helm-docs made."""
    values = re.sub(r"^\| ([a-z]\S*) \|", r"| `\1` |", readme.partition("## Values")[2].strip(), flags=re.MULTILINE)
    about = f"The values of `chart/{name}`; `chart/{name}/README.md` says how to use it."
    return _page([f"# Values of {name}", "", f"{about} {_MADE}", "", values])


def _operation(operation: Mapping[str, Any]) -> Iterator[str]:
    about = " ".join([operation["summary"].rstrip(".") + ".", *operation.get("description", "").split()])
    yield about + ("" if operation.get("security") else " *Open.*")
    parameters = operation.get("parameters", [])
    if parameters:
        yield from ("", "| parameter | in | type | meaning |", "| --- | --- | --- | --- |")
    for each in parameters:
        yield f"| `{each['name']}` | {each['in']} | {_type(each['schema'])} | {_cell(each.get('description', ''))} |"
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield from ("", f"Body: {_type(content['schema'])}")
    yield from ("", "| answer | body | meaning |", "| --- | --- | --- |")
    for status, answer in operation["responses"].items():
        bodies = [_type(each["schema"]) for each in answer.get("content", {}).values() if "schema" in each]
        yield f"| {status} | {', '.join(bodies)} | {_cell(answer['description'])} |"


def _body(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        yield f"One of {', '.join(f'`{value}`' for value in schema['enum'])}."
        return
    if "description" in schema:
        yield from (" ".join(schema["description"].split()), "")
    yield from ("| member | type | meaning |", "| --- | --- | --- |")
    required = schema.get("required", [])
    for name, each in schema.get("properties", {}).items():
        optional = "" if name in required else ", optional"
        yield f"| `{name}` | {_type(each)}{optional} | {_cell(each.get('description', ''))} |"


def _type(schema: Mapping[str, Any]) -> str:
    """In words, with links to the bodies."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "items" in schema:
        return f"array of {_type(schema['items'])}"
    return str(schema.get("format") or schema.get("type", "any"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _page(lines: Sequence[str]) -> str:
    """The lines as a page. Prose is wrapped; a row of a table has to stay a line."""
    text = "\n".join(lines).strip()
    return "\n".join(line if line.startswith("|") else _wrapped(line) for line in text.split("\n")) + "\n"


def _wrapped(line: str) -> str:
    return textwrap.fill(line, 120, break_long_words=False, break_on_hyphens=False)
