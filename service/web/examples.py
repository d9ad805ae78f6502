"""Examples of every body, built from the models, so that they cannot differ from the schemas."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from service.domain import errors
from service.domain.history import Kind
from service.domain.progress import Stage
from service.domain.session import Phase, RecordStatus, ReleaseState
from service.domain.sleep_cause import SleepReason
from service.edge.problems import ERROR_STATUSES
from service.web.models import (
    Action,
    Activity,
    Alive,
    CreatedSession,
    CreateSession,
    Extension,
    HealthReport,
    History,
    HistoryEntry,
    IdleTimes,
    Opened,
    Problem,
    ProblemError,
    ProgressEvent,
    ReleaseView,
    SessionList,
    SessionRecord,
    Status,
)

UUID = "abc123xy"
_USER = "john@example.com"
_NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
_REQUEST = "4f0c2a9b81d3e657"
_FAILURE = "ImagePullBackOff: Back-off pulling image"

CREATE = {
    "default times": CreateSession(user_id=_USER),
    "times of its own": CreateSession(user_id=_USER, idle=IdleTimes(cooldown=1800)),
}
CREATED = {"session": CreatedSession(uuid=UUID, user_id=_USER)}

WAKE = {"wake": Action(uuid=UUID, action="wake", queue_length=1)}
SLEEP = {"sleep": Action(uuid=UUID, action="sleep")}
ACTIVITY = {"typing": Activity(source="typing")}
ACTIVITY_NOTED = {"activity": Action(uuid=UUID, action="activity")}
EXTENSION = {"one hour": Extension(seconds=3600)}
EXTENDED = {"extended": Action(uuid=UUID, action="extend", kept_until=_NOW + timedelta(hours=1))}
OPENED = {
    "link": Opened(
        uuid=UUID,
        url=f"https://vs-code-{UUID}.example.com/.user-pods/enter?ticket=Zm9vYmFy&to=%2F",
        expires_at=_NOW + timedelta(minutes=1),
    )
}

_ASLEEP = Status(
    uuid=UUID,
    session=SessionRecord(user_id=_USER, status=RecordStatus.CREATED),
    queue_length=0,
    replicas=0,
    ready_replicas=0,
    phase=Phase.ASLEEP,
    reason=None,
    final=False,
    warning=None,
    release=ReleaseView(name=f"user-{UUID}", revision=1, state=ReleaseState.DEPLOYED, chart="user-pod-0.1.0"),
    created_at=_NOW - timedelta(days=1),
    last_activity=None,
    activity_source=None,
    sleeps_at=None,
    kept_awake_by=None,
    kept_until=None,
    parked=True,
    behind_seconds=None,
)
_WAKING = _ASLEEP.model_copy(
    update={
        "queue_length": 1,
        "replicas": 1,
        "phase": Phase.WAKING,
        "last_activity": _NOW,
        "activity_source": "wake",
        "sleeps_at": _NOW + timedelta(seconds=135),
        "kept_awake_by": "wake",
        "parked": False,
    }
)
_RELEASED = SessionRecord(user_id=_USER, status=RecordStatus.RELEASED)
STATUS = {
    "asleep": _ASLEEP,
    "waking": _WAKING,
    "ready": _WAKING.model_copy(update={"ready_replicas": 1, "phase": Phase.READY}),
    "failed": _WAKING.model_copy(update={"phase": Phase.FAILED, "reason": _FAILURE}),
    "released": _ASLEEP.model_copy(
        update={"session": _RELEASED, "phase": Phase.RELEASED, "release": None, "parked": False}
    ),
}
SESSIONS = {
    "a page with more after it": SessionList(sessions=[_ASLEEP], cursor=UUID),
    "the last page": SessionList(sessions=[], cursor=None),
}
HISTORY = {
    "a visit, and the sleep after it": History(
        uuid=UUID,
        entries=[
            HistoryEntry(
                kind=Kind.SLEEP,
                at=_NOW + timedelta(minutes=20),
                by=None,
                ready_at=None,
                seconds=1197.5,
                cause=SleepReason.IDLE,
                idle_since=_NOW + timedelta(minutes=17, seconds=42),
                reason=None,
                request_id=None,
            ),
            HistoryEntry(
                kind=Kind.WAKE,
                at=_NOW,
                by="visit",
                ready_at=_NOW + timedelta(seconds=2.5),
                seconds=2.5,
                cause=None,
                idle_since=None,
                reason=None,
                request_id=_REQUEST,
            ),
        ],
    )
}
HEALTHY = {"healthy": HealthReport(status="healthy", parts={"redis": "ok", "kubernetes": "ok", "helm": "ok"})}
UNHEALTHY = {
    "Redis is away": HealthReport(
        status="unhealthy",
        failing=["redis"],
        parts={"redis": "Redis does not answer", "kubernetes": "ok", "helm": "ok"},
    )
}
ALIVE = {"ok": Alive()}
METRICS = {
    "text format": "# HELP user_pods_false_sleeps_total Sessions that fell asleep while in use.\n"
    "# TYPE user_pods_false_sleeps_total counter\nuser_pods_false_sleeps_total 0.0\n"
}


def _stream(events: Iterable[ProgressEvent]) -> str:
    """Server-sent events as `service.web.stream` writes them."""
    return "".join(
        f"id: 1772443800000-{number}\nevent: {event.phase}\ndata: {event.model_dump_json()}\n\n"
        for number, event in enumerate(events)
    )


EVENTS: Mapping[str, str] = {
    "a wake": _stream(
        ProgressEvent(phase=stage, at=_NOW + timedelta(seconds=seconds), seconds=seconds, reason=None, final=False)
        for stage, seconds in (
            (Stage.ACCEPTED, 0.0),
            (Stage.SCALED, 0.12),
            (Stage.SCHEDULED, 0.3),
            (Stage.PULLED, 0.9),
            (Stage.STARTED, 1.2),
            (Stage.READY, 2.5),
        )
    ),
    "a failure that is retried": _stream(
        [
            ProgressEvent(phase=Stage.ACCEPTED, at=_NOW, seconds=0, reason=None, final=False),
            ProgressEvent(
                phase=Stage.FAILED, at=_NOW + timedelta(seconds=4), seconds=4,
                reason=_FAILURE, final=False,
            ),
        ]
    ),
}  # fmt: skip
LAST_EVENT_ID = "1772443800000-0"

_PARTS = {row.slug: row.error.part for row in ERROR_STATUSES if issubclass(row.error, errors.Unavailable)}
_ERRORS = {"does-not-fit": [ProblemError(pointer="/user_id", detail="Field required")]}


def problem(slug: str, status: int, detail: str) -> Problem:
    """A problem document of this kind."""
    return Problem(
        type=f"/problems/{slug}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=f"urn:request:{_REQUEST}",
        part="leader" if slug == "not-alive" else _PARTS.get(slug),
        errors=_ERRORS.get(slug),
    )
