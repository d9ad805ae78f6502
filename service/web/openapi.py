"""The OpenAPI 3.1 document of the operations."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import __version__
from service.domain.limits import Limits
from service.domain.names import SESSION_ID_PATTERN
from service.web import examples, problems
from service.web.models import Problem
from service.web.operations import OPERATIONS, TAGS, Answer, Header, Operation

Json = dict[str, Any]

_KINDS = {slug: (status, meaning) for slug, status, meaning in problems.kinds()}
_OF_THE_CALLER = ("unauthorized", "cross-site")
"""Problems of every operation that needs a key."""
_BUGS = ("internal", "session-error")
"""Problems of every operation."""
_DESCRIPTION = """One pod per user that sleeps when idle and wakes when its user returns.

Send a key as `Authorization: Bearer <key>`; a service on loopback may have none. Errors are problem documents
(RFC 9457) whose `type` names the kind. Any call may also get the problem types for malformed
HTTP and exceeded connection limits. Ignore unknown members of a body: more may be added."""


def document(limits: Limits | None = None) -> Json:
    """The document, for these limits of what a caller may ask for."""
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "user-pods", "version": __version__, "description": _DESCRIPTION},
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(limits or Limits()),
            "examples": {slug: _problem_example(slug) for slug in sorted(_KINDS)},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _models() -> Iterable[type[BaseModel]]:
    yield Problem
    for operation in OPERATIONS:
        if operation.body:
            yield _model(operation.body)
        for answer in operation.answers.values():
            if answer.item:
                yield answer.item
            elif answer.examples and answer.media_type == "application/json":
                yield _model(answer.examples)


def _model(bodies: Mapping[str, Any]) -> type[Any]:
    (model,) = {type(body) for body in bodies.values()}
    return model


def _schemas(limits: Limits) -> Json:
    ordered = sorted(set(_models()), key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    schemas: Json = definitions["$defs"]
    # The configured bounds in place of the models', which no setting can exceed.
    for model, member, most in (
        ("IdleTimes", "cooldown", limits.cooldown),
        ("IdleTimes", "lease", limits.lease),
        ("Extension", "seconds", limits.extension),
    ):
        part = schemas[model]["properties"][member]
        number = part["anyOf"][0] if "anyOf" in part else part
        seconds = most.total_seconds()
        number["maximum"] = int(seconds) if number["type"] == "integer" else seconds
    return schemas


def _operation(operation: Operation) -> Json:
    described: Json = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "security": [] if operation.public else [{"key": []}],
        "parameters": [*_parameters(operation)],
        "responses": {str(status): _answer(operation, answer) for status, answer in operation.answers.items()},
    }
    for status, slugs in _by_status(operation).items():
        described["responses"][str(status)] = _problems(slugs, status)
    if operation.body:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": _media(operation.body, exclude_unset=True)},
        }
    return {name: part for name, part in described.items() if part or name == "security"}


def _answer(operation: Operation, answer: Answer) -> Json:
    described: Json = {"description": answer.description}
    if answer.item:
        described["content"] = {answer.media_type: _event_stream(answer, answer.item)}
    elif answer.examples:
        described["content"] = {answer.media_type: _media(answer.examples)}
    if operation.headers:
        described["headers"] = {header.name: _header(header) for header in operation.headers}
    return described


def _media(bodies: Mapping[str, BaseModel] | Mapping[str, str], *, exclude_unset: bool = False) -> Json:
    """`exclude_unset`: callers leave out what they do not set; the service sends every member."""
    model = _model(bodies)
    return {
        "schema": {"type": "string"} if model is str else _reference(model),
        "examples": {name: {"value": _value(body, exclude_unset=exclude_unset)} for name, body in bodies.items()},
    }


def _value(body: BaseModel | str, *, exclude_unset: bool) -> Any:
    return body if isinstance(body, str) else body.model_dump(mode="json", exclude_unset=exclude_unset)


def _event_stream(answer: Answer, item: type[BaseModel]) -> Json:
    """A string, which generated clients can read, with the extension that OpenAPI 3.2 knows as `itemSchema`."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": _reference(item)}
    return {
        **_media(answer.examples),
        "x-itemSchema": {
            "type": "object",
            "required": ["event", "data"],
            "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": data},
        },
    }


def _reference(model: type[Any]) -> Json:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _by_status(operation: Operation) -> dict[int, list[str]]:
    of_the_caller = () if operation.public else _OF_THE_CALLER
    found: dict[int, list[str]] = {}
    for slug in sorted({*operation.problems, *of_the_caller, *_BUGS}):
        found.setdefault(_KINDS[slug][0], []).append(slug)
    return dict(sorted(found.items()))


def _problems(slugs: Iterable[str], status: int) -> Json:
    described: Json = {
        "description": "Problem: " + ", ".join(f"`{slug}`" for slug in slugs) + ".",
        "content": {
            "application/problem+json": {
                "schema": _reference(Problem),
                "examples": {slug: {"$ref": f"#/components/examples/{slug}"} for slug in slugs},
            }
        },
    }
    header = {
        401: Header("WWW-Authenticate", "How to authenticate.", "Bearer"),
        429: Header("Retry-After", "Seconds to wait.", "5"),
        503: Header("Retry-After", "Seconds to wait.", "5"),
    }.get(status)
    if header:
        described["headers"] = {header.name: _header(header)}
    return described


def _header(header: Header) -> Json:
    return {"description": header.description, "schema": {"type": "string"}, "example": header.example}


def _problem_example(slug: str) -> Json:
    status, meaning = _KINDS[slug]
    return {"value": examples.problem(slug, status, meaning).model_dump(exclude_none=True)}


def _parameters(operation: Operation) -> Iterable[Json]:
    if "{uuid}" in operation.path:
        schema = {"type": "string", "pattern": f"^{SESSION_ID_PATTERN}$", "examples": [examples.UUID]}
        yield {"name": "uuid", "in": "path", "required": True, "description": "Id of the session.", "schema": schema}
    for header in operation.request_headers:
        schema = {"type": "string", "examples": [header.example]}
        yield {"name": header.name, "in": "header", "description": header.description, "schema": schema}
    if operation.query:
        model: Json = operation.query.model_json_schema()
        for name, raw in model["properties"].items():
            part = _inlined(raw, model.get("$defs", {}))
            description = part.pop("description", "")
            yield {"name": name, "in": "query", "description": description, "schema": _without_null(part)}


def _inlined(part: Json, definitions: Json) -> Json:
    if "anyOf" in part:
        return {**part, "anyOf": [_inlined(option, definitions) for option in part["anyOf"]]}
    return definitions[part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else dict(part)


def _without_null(part: Json) -> Json:
    """A query has no null: an optional parameter is left out."""
    options = [option for option in part.get("anyOf", []) if option.get("type") != "null"]
    if not options:
        return part
    kept = {name: value for name, value in part.items() if name not in ("anyOf", "default")}
    return {**options[0], **kept}
