"""The table of operations: router and OpenAPI document are both made from it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import __version__
from service.domain.limits import Limits
from service.domain.names import SESSION_ID_PATTERN
from service.edge.event_stream import LAST_EVENT_ID
from service.web import handlers
from service.web.models import (
    Action,
    Activity,
    Alive,
    CreatedSession,
    CreateSession,
    DeleteQuery,
    Extension,
    HealthReport,
    History,
    ListQuery,
    Opened,
    OpenQuery,
    Problem,
    ProgressEvent,
    SessionList,
    Status,
)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call of the API. `answers` maps a status to its body (None: no body) and a sentence."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    summary: str
    answers: Mapping[int, tuple[type[BaseModel] | None, str]]
    problems: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    open: bool = False
    media: str = "application/json"
    """Of the answers, problems excepted."""
    headers: Mapping[str, str] = field(default_factory=dict)
    request_headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.handler.__name__.rstrip("_")


OPERATIONS = (
    Operation(
        method="POST", path="/session/create", handler=handlers.create, body=CreateSession,
        summary="Give a user a session: the same one for every call. It is installed asleep.",
        answers={
            201: (CreatedSession, "It was installed, or installed again."),
            200: (CreatedSession, "It was there already."),
        },
        problems=(400, 408, 409, 413, 415, 422, 429, 503, 504), headers={"Location": "Where its status is."},
    ),
    Operation(
        method="POST", path="/session/{uuid}/wake", handler=handlers.wake,
        summary="Ask for the pod, or say that its user is still there. Call it on every user message.",
        answers={202: (Action, "The wake is in the queue.")}, problems=(404, 409, 503),
    ),
    Operation(
        method="POST", path="/session/{uuid}/sleep", handler=handlers.sleep,
        summary="Send the pod to sleep now, whoever uses it.",
        answers={202: (Action, "The pod is being ended.")}, problems=(404, 409, 503),
    ),
    Operation(
        method="POST", path="/session/{uuid}/activity", handler=handlers.activity, body=Activity,
        summary="Say that the user of an awake session is active. It never wakes a sleeper: a wake does.",
        answers={202: (Action, "Noted.")}, problems=(400, 404, 408, 409, 413, 415, 422, 503),
    ),
    Operation(
        method="POST", path="/session/{uuid}/extend", handler=handlers.extend, body=Extension,
        summary="Keep an awake session awake for so long from now, whatever its user does.",
        answers={202: (Action, "It is kept awake.")}, problems=(400, 404, 408, 409, 413, 415, 422, 503),
    ),
    Operation(
        method="POST", path="/session/{uuid}/open", handler=handlers.open_, query=OpenQuery,
        summary="A URL that opens the workspace in its user's browser. Give it to that user only: it is good once.",
        answers={201: (Opened, "The URL.")}, problems=(404, 409, 422, 501, 503),
    ),
    Operation(
        method="GET", path="/session/{uuid}/status", handler=handlers.status,
        summary="Everything about a session: record, release, pod, queue.",
        answers={200: (Status, "Its state.")}, problems=(404, 503),
    ),
    Operation(
        method="GET", path="/session/{uuid}/events", handler=handlers.events, media="text/event-stream",
        summary="How the wake comes along, or how the last one did, as server-sent events from its beginning. Ends"
        " after `ready`, `failed` or `asleep`; comments are heartbeats.",
        answers={
            200: (ProgressEvent, "One event after another, each with this as its data."),
            204: (None, "Nothing comes after the given event."),
        },
        problems=(404, 429, 503), request_headers={LAST_EVENT_ID: "Go on after the event of this id."},
    ),
    Operation(
        method="GET", path="/session/{uuid}/history", handler=handlers.history,
        summary="The session's last wakes, sleeps and failures: who asked, why, and how long it took.",
        answers={200: (History, "What is kept of it: twenty rounds or so.")}, problems=(404, 503),
    ),
    Operation(
        method="DELETE", path="/session/{uuid}", handler=handlers.delete, query=DeleteQuery,
        summary="Remove a session: release, keys and, if wanted, the volume.",
        answers={204: (None, "It is gone.")}, problems=(404, 409, 422, 429, 503, 504),
    ),
    Operation(
        method="GET", path="/sessions", handler=handlers.list_sessions, query=ListQuery,
        summary="List sessions in the order of their ids. A page may be short although more follow: go by the cursor.",
        answers={200: (SessionList, "A page.")}, problems=(409, 422, 503),
    ),
    Operation(
        method="GET", path="/health", handler=handlers.health, open=True,
        summary="Whether Redis, Kubernetes, KEDA, helm and the chart do their work.",
        answers={200: (HealthReport, "All do."), 503: (HealthReport, "Some do not.")},
    ),
    Operation(
        method="GET", path="/metrics", handler=handlers.metrics,
        summary="Metrics of this process, for Prometheus: the same as `METRICS_PORT` serves without a key.",
        answers={200: (None, "In Prometheus' text format, or OpenMetrics to whom accepts that.")},
    ),
    Operation(
        method="GET", path="/livez", handler=handlers.livez, open=True,
        summary="Whether the process lives.", answers={200: (Alive, "It does.")}, problems=(503,),
    ),
    Operation(
        method="GET", path="/readyz", handler=handlers.readyz, open=True,
        summary="Whether this process can serve.", answers={200: (Alive, "It can.")}, problems=(503,),
    ),
)  # fmt: skip


def routes() -> list[web.RouteDef]:
    """Routes whose pattern takes well-formed ids only: anything else is a 404 before any code of ours runs."""
    return [
        web.route(o.method, o.path.replace("{uuid}", f"{{uuid:{SESSION_ID_PATTERN}}}"), o.handler, name=o.name)
        for o in OPERATIONS
    ]


def openapi(limits: Limits | None = None) -> dict[str, Any]:
    """The OpenAPI 3.1 document, for these limits of what a caller may ask for."""
    models = {m for o in OPERATIONS for m in (o.body, *(model for model, _ in o.answers.values())) if m} | {Problem}
    ordered = sorted(models, key=lambda model: model.__name__)
    _, definitions = models_json_schema(
        [(model, "validation") for model in ordered], ref_template="#/components/schemas/{model}"
    )
    _bound(definitions["$defs"], limits or Limits())
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _describe(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "user-pods",
            "version": __version__,
            "description": "An own pod for every user, that sleeps when idle and wakes when its user returns.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _bound(schemas: dict[str, Any], limits: Limits) -> None:
    """Put the configured bounds in place of the models', which are those that no setting can exceed."""
    for model, member, most in (
        ("IdleTimes", "cooldown", limits.cooldown),
        ("IdleTimes", "lease", limits.lease),
        ("Extension", "seconds", limits.extension),
    ):
        part = schemas[model]["properties"][member]
        number = part["anyOf"][0] if "anyOf" in part else part
        seconds = most.total_seconds()
        number["maximum"] = int(seconds) if number["type"] == "integer" else seconds


def _describe(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "security": [] if operation.open else [{"key": []}],
        "responses": {str(status): _answer(operation, status) for status in operation.answers},
    }
    refusals = operation.problems if operation.open else (*operation.problems, 401, 403)
    for status in sorted(refusals):
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
        described["responses"].setdefault(str(status), {"description": "A problem.", "content": content})
    parameters = _parameters(operation)
    if parameters:
        described["parameters"] = parameters
    if operation.body:
        schema = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return described


def _answer(operation: Operation, status: int) -> dict[str, Any]:
    model, sentence = operation.answers[status]
    answer: dict[str, Any] = {"description": sentence}
    if model:
        answer["content"] = {operation.media: {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
    if operation.headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in operation.headers.items()
        }
    return answer


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if "{uuid}" in operation.path:
        schema = {"type": "string", "pattern": f"^{SESSION_ID_PATTERN}$", "examples": ["abc123xy"]}
        found.append({"name": "uuid", "in": "path", "required": True, "schema": schema})
    for name, text in operation.request_headers.items():
        found.append({"name": name, "in": "header", "description": text, "schema": {"type": "string"}})
    if operation.query:
        model: dict[str, Any] = operation.query.model_json_schema()
        for name, raw in model["properties"].items():
            part = _inlined(raw, model.get("$defs", {}))
            description = part.pop("description", "")
            found.append({"name": name, "in": "query", "description": description, "schema": _without_null(part)})
    return found


def _inlined(part: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "anyOf" in part:
        return {**part, "anyOf": [_inlined(option, definitions) for option in part["anyOf"]]}
    return definitions[part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else dict(part)


def _without_null(part: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: an optional parameter is left out."""
    options = [option for option in part.get("anyOf", []) if option.get("type") != "null"]
    if not options:
        return part
    kept = {name: value for name, value in part.items() if name not in ("anyOf", "default")}
    return {**options[0], **kept}
