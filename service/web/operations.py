"""The table of operations. The router and the OpenAPI document are both made from it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web
from pydantic import BaseModel

from service.domain.names import SESSION_ID_PATTERN
from service.edge.event_stream import LAST_EVENT_ID
from service.web import examples, handlers
from service.web.models import DeleteQuery, ListQuery, OpenQuery, ProgressEvent


@dataclass(frozen=True)
class Answer:
    """An answer that is not a problem. `examples` are bodies by name; their class is the schema. None: no body."""

    description: str
    examples: Mapping[str, BaseModel] | Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"
    item: type[BaseModel] | None = None
    """Of a stream of server-sent events: what each one has as its data."""


@dataclass(frozen=True)
class Header:
    """A header that an operation reads or sends."""

    name: str
    description: str
    example: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call of the API. `problems` are the slugs that its answers may have."""

    method: str
    path: str
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    tag: str
    summary: str
    description: str = ""
    answers: Mapping[int, Answer]
    problems: tuple[str, ...] = ()
    body: Mapping[str, BaseModel] | None = None
    """Examples by name; their class is the schema."""
    query: type[BaseModel] | None = None
    public: bool = False
    """Whether it needs no key."""
    headers: tuple[Header, ...] = ()
    request_headers: tuple[Header, ...] = ()

    @property
    def name(self) -> str:
        return self.handler.__name__.rstrip("_")


SESSIONS, ACTIVITY, SERVICE = "sessions", "activity", "service"
TAGS = {
    SESSIONS: "Create, inspect and delete sessions.",
    ACTIVITY: "Wake a session, follow its wake, keep it awake, send it to sleep.",
    SERVICE: "The state of the service itself.",
}

_ID = ("not-found", "session-not-found")
_BODY = (
    "not-json", "bad-request", "request-timeout", "request-entity-too-large", "unsupported-media-type", "does-not-fit",
)  # fmt: skip
_USABLE = ("session-released", "session-broken", "session-unreadable", "session-deleting")
_STATE = (
    "redis-unavailable", "redis-denied", "redis-key-invalid", "index-incomplete", "kubernetes-unavailable",
    "unavailable",
)  # fmt: skip
_WRITE = (*_STATE, "redis-full", "redis-read-only", "redis-writes-refused")
_HELM = (*_WRITE, "too-many-creates", "helm-unavailable", "helm-timeout", "install-failed", "chart-invalid")

OPERATIONS = (
    Operation(
        method="POST", path="/session/create", handler=handlers.create, tag=SESSIONS, summary="Create a session",
        description="A user has one session: every call for the same `user_id` returns it. The pod is installed"
        " asleep.",
        body=examples.CREATE,
        answers={
            201: Answer("The session was installed, or installed again.", examples.CREATED),
            200: Answer("The session already existed.", examples.CREATED),
        },
        problems=(
            *_BODY, "invalid-user-id", "idle-times-refused", "session-busy", "session-broken", "session-unreadable",
            *_HELM,
        ),
        headers=(Header("Location", "Path of the session's status.", f"/session/{examples.UUID}/status"),),
    ),
    Operation(
        method="POST", path="/session/{uuid}/wake", handler=handlers.wake, tag=ACTIVITY, summary="Wake the pod",
        description="Also the heartbeat: call it on every user message.",
        answers={202: Answer("The wake is in the queue.", examples.WAKE)},
        problems=(*_ID, *_USABLE, *_WRITE),
    ),
    Operation(
        method="POST", path="/session/{uuid}/sleep", handler=handlers.sleep, tag=ACTIVITY,
        summary="Send the pod to sleep now", description="It sleeps even if somebody is using it.",
        answers={202: Answer("The pod is being stopped.", examples.SLEEP)},
        problems=(*_ID, *_USABLE, "session-paused", *_WRITE),
    ),
    Operation(
        method="POST", path="/session/{uuid}/activity", handler=handlers.activity, tag=ACTIVITY,
        summary="Report activity", description="Keeps an awake session awake. It never wakes a sleeping one.",
        body=examples.ACTIVITY,
        answers={202: Answer("The activity was recorded.", examples.ACTIVITY_NOTED)},
        problems=(*_ID, *_BODY, *_USABLE, "session-asleep", *_WRITE),
    ),
    Operation(
        method="POST", path="/session/{uuid}/extend", handler=handlers.extend, tag=ACTIVITY,
        summary="Keep the pod awake for a time", description="Counts from now, regardless of activity.",
        body=examples.EXTENSION,
        answers={202: Answer("The pod stays awake until `kept_until`.", examples.EXTENDED)},
        problems=(*_ID, *_BODY, "idle-times-refused", *_USABLE, "session-asleep", *_WRITE),
    ),
    Operation(
        method="POST", path="/session/{uuid}/open", handler=handlers.open_, tag=ACTIVITY,
        summary="Get a link to the workspace",
        description="The link signs a browser in and works once. Give it to the session's user only.",
        query=OpenQuery,
        answers={201: Answer("The link.", examples.OPENED)},
        problems=(*_ID, "does-not-fit", *_USABLE, "gateway-off", "signing-keys-unavailable", *_WRITE),
    ),
    Operation(
        method="GET", path="/session/{uuid}/status", handler=handlers.status, tag=SESSIONS,
        summary="Get a session's status",
        answers={200: Answer("The session's record, release, pod and queue.", examples.STATUS)},
        problems=(*_ID, *_STATE),
    ),
    Operation(
        method="GET", path="/session/{uuid}/events", handler=handlers.events, tag=ACTIVITY,
        summary="Follow a wake",
        description="Server-sent events: the current wake from its start, or the last one. The stream ends after"
        " `ready`, `asleep`, or a `failed` that is final. Comments are heartbeats. The data of each event is a"
        " `ProgressEvent` as JSON.",
        answers={
            200: Answer(
                "The events, one after another.", examples.EVENTS, media_type="text/event-stream", item=ProgressEvent
            ),
            204: Answer("There are no events after `Last-Event-ID`."),
        },
        problems=(*_ID, *_STATE, "too-many-streams-of-session", "too-many-streams"),
        request_headers=(
            Header(LAST_EVENT_ID, "Id of the last event seen; continue after it.", examples.LAST_EVENT_ID),
        ),
    ),
    Operation(
        method="GET", path="/session/{uuid}/history", handler=handlers.history, tag=SESSIONS,
        summary="List a session's wakes, sleeps and failures",
        answers={200: Answer("The most recent entries, about fifteen wakes.", examples.HISTORY)},
        problems=(*_ID, *_STATE),
    ),
    Operation(
        method="DELETE", path="/session/{uuid}", handler=handlers.delete, tag=SESSIONS, summary="Delete a session",
        description="Removes the release and the keys and, with `keep_data=false`, the volume.",
        query=DeleteQuery,
        answers={204: Answer("The session is gone.")},
        problems=(*_ID, "does-not-fit", "session-busy", *_HELM),
    ),
    Operation(
        method="GET", path="/sessions", handler=handlers.list_sessions, tag=SESSIONS, summary="List sessions",
        description="Ordered by id. A page may be short although more follow: rely on `cursor`.",
        query=ListQuery,
        answers={200: Answer("A page of sessions.", examples.SESSIONS)},
        problems=("does-not-fit", "invalid-cursor", "session-unreadable", *_STATE),
    ),
    Operation(
        method="GET", path="/health", handler=handlers.health, tag=SERVICE, public=True,
        summary="Check what the service depends on",
        answers={
            200: Answer("Redis, Kubernetes, KEDA, helm and the chart work.", examples.HEALTHY),
            503: Answer("At least one part does not work.", examples.UNHEALTHY),
        },
    ),
    Operation(
        method="GET", path="/metrics", handler=handlers.metrics, tag=SERVICE, summary="Get metrics for Prometheus",
        description="The same as `METRICS_PORT` serves without a key.",
        answers={
            200: Answer("Prometheus' text format, or OpenMetrics if accepted.", examples.METRICS, "text/plain"),
        },
    ),
    Operation(
        method="GET", path="/livez", handler=handlers.livez, tag=SERVICE, public=True,
        summary="Check whether the process is alive",
        answers={200: Answer("It is.", examples.ALIVE)}, problems=("not-alive",),
    ),
    Operation(
        method="GET", path="/readyz", handler=handlers.readyz, tag=SERVICE, public=True,
        summary="Check whether the process can serve",
        answers={200: Answer("It can.", examples.ALIVE)}, problems=("not-ready",),
    ),
)  # fmt: skip


def routes() -> list[web.RouteDef]:
    """Routes whose pattern takes well-formed ids only: anything else is a 404 before a handler runs."""
    return [
        web.route(o.method, o.path.replace("{uuid}", f"{{uuid:{SESSION_ID_PATTERN}}}"), o.handler, name=o.name)
        for o in OPERATIONS
    ]
