"""The OpenAPI 3.1 document of the operations."""

import json
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from service import __version__
from service.domain.errors import Unavailable
from service.domain.limits import Limits
from service.edge.problems import ERROR_STATUSES, problem
from service.web.models import Problem, Uuid
from service.web.operations import OPERATIONS, TAGS, Answer, Header, Operation
from service.web.problems import KINDS

Json = dict[str, Any]

_REFERENCE = "#/components/schemas/{model}"
_PARTS = {row.slug: row.error.part for row in ERROR_STATUSES if issubclass(row.error, Unavailable)}
_PARTS["not-alive"] = "leader"
_EXAMPLES: Json = json.loads((Path(__file__).parent / "examples.json").read_text())
"""By operation and status, or `body` for the request's."""
_OF_THE_CALLER = ("unauthorized", "forbidden", "cross-site", "too-many-requests", "identity-provider-unavailable")
"""Problems of every operation that needs a key."""
_BUGS = ("internal", "session-error")
"""Problems of every operation."""
_DESCRIPTION = """One pod per user that sleeps when idle and wakes when its user returns.

Send a key, or a token of the identity provider, as `Authorization: Bearer <key>`; a service on loopback may
need none. A caller with one user reaches that user's session only: all others look as if they did not exist.
Errors are problem documents (RFC 9457) whose `type` names the kind. Any call may also get the problem types
for malformed HTTP and exceeded connection limits. Ignore unknown members of a body: more may be added."""


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
            "examples": {slug: _problem_example(slug) for slug in sorted(KINDS)},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _models() -> set[type[BaseModel]]:
    bodies = (each for o in OPERATIONS for each in (o.body, *(answer.body for answer in o.answers.values())))
    return {Problem, *(each for each in bodies if each and issubclass(each, BaseModel))}


def _schemas(limits: Limits) -> Json:
    ordered = sorted(_models(), key=lambda model: model.__name__)
    _, definitions = models_json_schema([(model, "validation") for model in ordered], ref_template=_REFERENCE)
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
        "responses": {str(status): _answer(operation, status, answer) for status, answer in operation.answers.items()},
    }
    for status, slugs in _by_status(operation).items():
        described["responses"][str(status)] = _problems(slugs, status)
    if operation.body:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": _media(operation.body, _EXAMPLES[operation.name]["body"])},
        }
    return {name: part for name, part in described.items() if part or name == "security"}


def _answer(operation: Operation, status: int, answer: Answer) -> Json:
    described: Json = {"description": answer.description}
    if answer.body:
        bodies = _EXAMPLES[operation.name][str(status)]
        media = _event_stream if answer.media_type == "text/event-stream" else _media
        described["content"] = {answer.media_type: media(answer.body, bodies)}
    if operation.headers:
        described["headers"] = {header.name: _header(header) for header in operation.headers}
    return described


def _media(model: type[Any], bodies: Json) -> Json:
    return {
        "schema": {"type": "string"} if model is str else _reference(model),
        "examples": {name: {"value": body} for name, body in bodies.items()},
    }


def _event_stream(model: type[Any], streams: Json) -> Json:
    """A string, which generated clients can read, with the extension that OpenAPI 3.2 knows as `itemSchema`."""
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": _reference(model)}
    return {
        **_media(str, {name: "".join(map(_event, count(), events)) for name, events in streams.items()}),
        "x-itemSchema": {
            "type": "object",
            "required": ["event", "data"],
            "properties": {"id": {"type": "string"}, "event": {"type": "string"}, "data": data},
        },
    }


def _event(number: int, data: Json) -> str:
    """A server-sent event as `service.web.stream` sends it."""
    text = json.dumps(data, separators=(",", ":"))
    return f"id: 1772443800000-{number}\nevent: {data['phase']}\ndata: {text}\n\n"


def _reference(model: type[Any]) -> Json:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _by_status(operation: Operation) -> dict[int, list[str]]:
    of_the_caller = () if operation.public else _OF_THE_CALLER
    found: dict[int, list[str]] = {}
    for slug in sorted({*operation.problems, *of_the_caller, *_BUGS}):
        found.setdefault(KINDS[slug][0], []).append(slug)
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
    status, meaning = KINDS[slug]
    fields = [{"pointer": "/user_id", "detail": "Field required"}] if slug == "does-not-fit" else None
    response = problem(
        status, meaning, type_=f"/problems/{slug}", request_id="4f0c2a9b81d3e657", part=_PARTS.get(slug), fields=fields
    )
    return {"value": json.loads(response.text or "")}


def _parameters(operation: Operation) -> Iterable[Json]:
    if "{uuid}" in operation.path:
        yield {**_parameter("uuid", "path", TypeAdapter(Uuid).json_schema()), "required": True}
    for header in operation.request_headers:
        schema = {"type": "string", "description": header.description, "examples": [header.example]}
        yield _parameter(header.name, "header", schema)
    if operation.query:
        for name, schema in operation.query.model_json_schema(ref_template=_REFERENCE)["properties"].items():
            yield _parameter(name, "query", schema)


def _parameter(name: str, place: str, schema: Json) -> Json:
    schema = {key: value for key, value in schema.items() if value is not None}  # a query has no null as a default
    return {"name": name, "in": place, "description": schema.pop("description"), "schema": schema}
