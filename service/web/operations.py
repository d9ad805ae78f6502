"""The table of operations. The router and the OpenAPI document are both made from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler
from pydantic import BaseModel

from service.domain.names import SESSION_ID_PATTERN
from service.edge.event_stream import LAST_EVENT_ID
from service.web import handlers, models


@dataclass(frozen=True)
class Answer:
    """An answer that is not a problem. `body`: its schema, or that of each event of a stream. None: no body."""

    description: str
    body: type[BaseModel] | type[str] | None = None
    media_type: str = "application/json"


@dataclass(frozen=True)
class Header:
    """A header that an operation reads or sends."""

    name: str
    description: str
    example: str


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One call of the API. `problems` are the slugs that its answers may have; examples.json has its bodies."""

    method: str
    path: str
    handler: Handler
    tag: str
    summary: str
    description: str = ""
    answers: Mapping[int, Answer]
    problems: tuple[str, ...] = ()
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    public: bool = False
    """Whether it needs no key."""
    headers: tuple[Header, ...] = ()
    request_headers: tuple[Header, ...] = ()

    @property
    def name(self) -> str:
        return self.handler.__name__.rstrip("_")


SESSIONS, ACTIVITY, UPGRADE, SERVICE = "sessions", "activity", "upgrade", "service"
TAGS = {
    SESSIONS: "Create, inspect and delete sessions.",
    ACTIVITY: "Wake a session, follow its wake, keep it awake, send it to sleep.",
    UPGRADE: "Bring releases to the chart and the chart values that new ones are made from.",
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
        body=models.CreateSession,
        answers={
            201: Answer("The session was installed, or installed again.", models.CreatedSession),
            200: Answer("The session already existed.", models.CreatedSession),
        },
        problems=(
            *_BODY, "invalid-user-id", "unknown-profile", "group-refused", "idle-times-refused", "session-busy",
            "session-broken", "session-unreadable", *_HELM,
        ),
        headers=(Header("Location", "Path of the session's status.", "/session/abc123xy/status"),),
    ),
    Operation(
        method="POST", path="/session/{uuid}/wake", handler=handlers.wake, tag=ACTIVITY, summary="Wake the pod",
        description="Also the heartbeat: call it on every user message.",
        answers={202: Answer("The wake is in the queue.", models.Action)},
        problems=(*_ID, *_USABLE, "awake-limit-reached", *_WRITE),
    ),
    Operation(
        method="POST", path="/session/{uuid}/sleep", handler=handlers.sleep, tag=ACTIVITY,
        summary="Send the pod to sleep now",
        description="It sleeps even if somebody is using it. While a page of it is open, the answer comes two seconds "
        "later: the page saves. A wake or an extension meanwhile makes the call void.",
        query=models.SleepQuery,
        answers={202: Answer("The pod is being stopped.", models.Action)},
        problems=(*_ID, "does-not-fit", *_USABLE, "session-paused", *_WRITE),
    ),
    Operation(
        method="POST", path="/session/{uuid}/activity", handler=handlers.activity, tag=ACTIVITY,
        summary="Report activity", description="Keeps an awake session awake. It never wakes a sleeping one.",
        body=models.Activity,
        answers={202: Answer("The activity was recorded.", models.Action)},
        problems=(*_ID, *_BODY, *_USABLE, "session-asleep", *_WRITE),
    ),
    Operation(
        method="POST", path="/session/{uuid}/extend", handler=handlers.extend, tag=ACTIVITY,
        summary="Keep the pod awake for a time", description="Counts from now, regardless of activity.",
        body=models.Extension,
        answers={202: Answer("The pod stays awake until `kept_until`.", models.Action)},
        problems=(*_ID, *_BODY, "idle-times-refused", *_USABLE, "session-asleep", *_WRITE),
    ),
    Operation(
        method="POST", path="/session/{uuid}/keep", handler=handlers.keep, tag=ACTIVITY,
        summary="Keep the session from deletion for a time",
        description="From the deletion that `deletes_at` announces, not from that by `DELETE`. It wakes nothing.",
        body=models.Sparing,
        answers={202: Answer("It is not deleted before `spared_until`.", models.Spared)},
        problems=(
            *_ID, *_BODY, "idle-times-refused", "session-deleting", "session-unreadable", *_WRITE,
        ),
    ),
    Operation(
        method="POST", path="/session/{uuid}/open", handler=handlers.open_, tag=ACTIVITY,
        summary="Get a link to the workspace",
        description="The link signs a browser in and works once. Give it to the session's user only.",
        query=models.OpenQuery,
        answers={201: Answer("The link.", models.Opened)},
        problems=(*_ID, "does-not-fit", *_USABLE, "gateway-off", "signing-keys-unavailable", *_WRITE),
    ),
    Operation(
        method="POST", path="/session/{uuid}/revoke", handler=handlers.revoke, tag=ACTIVITY,
        summary="Revoke all sign-ins to the workspace",
        description="Within seconds, every replica of the gateway refuses all links and session cookies that exist, and"
        " closes open WebSockets and downloads. A new link opens the workspace again, so first stop whatever issues"
        " links to this user.",
        answers={202: Answer("The sign-ins are being refused.", models.Revoked)},
        problems=(*_ID, *_STATE),
    ),
    Operation(
        method="GET", path="/session/{uuid}/status", handler=handlers.status, tag=SESSIONS,
        summary="Get a session's status",
        answers={200: Answer("The session's record, release, pod and queue.", models.Status)},
        problems=(*_ID, *_STATE),
    ),
    Operation(
        method="GET", path="/session/{uuid}/events", handler=handlers.events, tag=ACTIVITY,
        summary="Follow a wake",
        description="Server-sent events: the current wake from its start, or the last one. The stream ends after"
        " `ready`, `asleep`, or a `failed` that is final. Comments are heartbeats. The data of each event is a"
        " `ProgressEvent` as JSON.",
        answers={
            200: Answer("The events, one after another.", models.ProgressEvent, "text/event-stream"),
            204: Answer("There are no events after `Last-Event-ID`."),
        },
        problems=(*_ID, *_STATE, "too-many-streams-of-session", "too-many-streams"),
        request_headers=(Header(LAST_EVENT_ID, "Id of the last event seen; continue after it.", "1772443800000-0"),),
    ),
    Operation(
        method="GET", path="/session/{uuid}/history", handler=handlers.history, tag=SESSIONS,
        summary="List a session's wakes, sleeps, failures, upgrades and revocations",
        answers={200: Answer("The most recent entries, about fifteen wakes.", models.History)},
        problems=(*_ID, *_STATE),
    ),
    Operation(
        method="DELETE", path="/session/{uuid}", handler=handlers.delete, tag=SESSIONS, summary="Delete a session",
        description="Removes the release and the keys and, with `keep_data=false`, the volume.",
        query=models.DeleteQuery,
        answers={204: Answer("The session is gone.")},
        problems=(*_ID, "does-not-fit", "session-busy", *_HELM),
    ),
    Operation(
        method="GET", path="/sessions", handler=handlers.list_sessions, tag=SESSIONS, summary="List sessions",
        description="Ordered by id. A page may be short although more follow: rely on `cursor`.",
        query=models.ListQuery,
        answers={200: Answer("A page of sessions.", models.SessionList)},
        problems=("does-not-fit", "invalid-cursor", "session-unreadable", *_STATE),
    ),
    Operation(
        method="GET", path="/summary", handler=handlers.summary, tag=SERVICE, summary="Count the sessions",
        description="All sessions by phase, and how many are awake of how many that may be.",
        answers={200: Answer("The counts.", models.Summary)},
        problems=("redis-unavailable", "redis-denied", "unavailable"),
    ),
    Operation(
        method="GET", path="/profiles", handler=handlers.profiles, tag=SESSIONS, summary="List profiles",
        description="What a create can choose from: sets of chart values that the operator has defined.",
        answers={200: Answer("The profiles that the caller may choose.", models.ProfileList)},
    ),
    Operation(
        method="POST", path="/session/{uuid}/upgrade", handler=handlers.upgrade, tag=UPGRADE,
        summary="Upgrade a session's release",
        description="A sleeping session stays asleep. A release that fails is rolled back.",
        query=models.UpgradeQuery,
        answers={200: Answer("The release is up to date.", models.Upgraded)},
        problems=(
            *_ID, "does-not-fit", *_USABLE, "session-awake", "session-busy", *_WRITE, "too-many-creates",
            "helm-unavailable", "upgrade-conflict", "upgrade-failed",
        ),
    ),
    Operation(
        method="POST", path="/upgrade", handler=handlers.start_upgrade, tag=UPGRADE,
        summary="Start to upgrade all sessions",
        description="Sleeping sessions are upgraded at once and stay asleep, the others when they sleep. While an"
        " upgrade to the same target is under way, nothing changes.",
        body=models.UpgradeAll,
        answers={202: Answer("The upgrade is under way.", models.Upgrade)},
        problems=(*_BODY, "upgrade-running", "session-busy", *_WRITE),
    ),
    Operation(
        method="GET", path="/upgrade", handler=handlers.show_upgrade, tag=UPGRADE,
        summary="Get how many sessions are up to date, and the last upgrade",
        description="Cheap enough to be asked every second. The numbers are a second old at most.",
        answers={200: Answer("The numbers, and the last upgrade.", models.Upgrade)},
        problems=_STATE,
    ),
    Operation(
        method="POST", path="/upgrade/continue", handler=handlers.continue_upgrade, tag=UPGRADE,
        summary="Upgrade the rest without waiting for the canaries",
        answers={202: Answer("The rest follows.", models.Upgrade)},
        problems=("no-upgrade", "session-busy", *_WRITE),
    ),
    Operation(
        method="POST", path="/upgrade/stop", handler=handlers.stop_upgrade, tag=UPGRADE,
        summary="Stop the upgrade of all sessions",
        description="Those that are being upgraded are finished.",
        answers={202: Answer("No further session is upgraded.", models.Upgrade)},
        problems=("no-upgrade", "session-busy", *_WRITE),
    ),
    Operation(
        method="GET", path="/audit", handler=handlers.audit, tag=SERVICE,
        summary="List who has done what",
        description="Every change that callers of the API have asked for, and every refusal. A page may be short"
        " although more follow: rely on `cursor`.",
        query=models.AuditQuery,
        answers={200: Answer("A page of entries.", models.AuditPage)},
        problems=("does-not-fit", "invalid-cursor", "redis-unavailable", "redis-denied", "unavailable"),
    ),
    Operation(
        method="GET", path="/diagnosis", handler=handlers.diagnosis, tag=SERVICE,
        summary="Find faults of the whole system",
        description="Looks at Redis, the cluster and every session: up to half a minute. A check that cannot run is a"
        " finding, too.",
        answers={200: Answer("The findings, the worst first.", models.Diagnosis)},
    ),
    Operation(
        method="POST", path="/diagnosis/fix", handler=handlers.fix, tag=SERVICE, summary="Mend a finding",
        description="Looks again, and mends what is `fixable`, which loses nothing of anybody's. Repeat it at will.",
        body=models.Fix,
        answers={200: Answer("What was done.", models.Fixed)},
        problems=(
            *_BODY, "session-busy", "session-broken", "session-unreadable", "notifications-refused", *_HELM,
        ),
    ),
    Operation(
        method="GET", path="/whoami", handler=handlers.whoami, tag=SERVICE, summary="Get who calls",
        answers={200: Answer("The caller, as the key says.", models.WhoAmI)},
        problems=("session-unreadable", *_STATE),
    ),
    Operation(
        method="GET", path="/health", handler=handlers.health, tag=SERVICE, public=True,
        summary="Check what the service depends on",
        answers={
            200: Answer("Redis, Kubernetes, KEDA, helm and the chart work.", models.HealthReport),
            503: Answer("At least one part does not work.", models.HealthReport),
        },
    ),
    Operation(
        method="GET", path="/metrics", handler=handlers.metrics, tag=SERVICE, summary="Get metrics for Prometheus",
        description="The same as `METRICS_PORT` serves without a key.",
        answers={200: Answer("Prometheus' text format, or OpenMetrics if accepted.", str, "text/plain")},
    ),
    Operation(
        method="GET", path="/livez", handler=handlers.livez, tag=SERVICE, public=True,
        summary="Check whether the process is alive",
        answers={200: Answer("It is.", models.Alive)}, problems=("not-alive",),
    ),
    Operation(
        method="GET", path="/readyz", handler=handlers.readyz, tag=SERVICE, public=True,
        summary="Check whether the process can serve",
        answers={200: Answer("It can.", models.Alive)}, problems=("not-ready",),
    ),
)  # fmt: skip


def routes() -> list[web.RouteDef]:
    """Routes whose pattern takes well-formed ids only: anything else is a 404 before a handler runs."""
    return [
        web.route(o.method, o.path.replace("{uuid}", f"{{uuid:{SESSION_ID_PATTERN}}}"), o.handler, name=o.name)
        for o in OPERATIONS
    ]
