"""What the page shows of a session, as keys of texts and plain values."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from service.domain.history import Entry, Kind
from service.domain.phase import Phase
from service.domain.session import Session
from service.domain.wake_cause import VISIT
from service.gateway.errors import PageKind
from service.gateway.texts import catalogue

_LINES = 20
"""Lines of the history."""
_HOURS = (1, 4)
_GONE = {Phase.RELEASED: PageKind.REMOVED, Phase.DELETING: PageKind.DELETING}
_TEXTS = catalogue.LANGUAGES[catalogue.DEFAULT]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of the history. `what`, `cause` and `detail` are keys of texts, `name` and `duration` go into them."""

    at: datetime
    what: str
    cause: str | None = None
    name: str = ""
    detail: str | None = None
    duration: str = ""
    note: str | None = None
    """Another key."""
    reason: str | None = None
    """Kubernetes' own words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    state: str
    awake: bool
    asleep: bool
    gone: str | None
    """The kind of page that says what became of it, when no pod can run."""
    now: datetime
    sleeps_at: datetime | None
    why: str | None
    why_time: datetime | None
    why_name: str
    reason: str | None
    """What the log and Kubernetes say about the state, if anything."""
    deletes_at: datetime | None
    """When the service deletes it, if that is soon."""
    deletes_because: str | None
    """Another key."""
    hours: Sequence[int]
    """How long it may be kept awake, of what the page offers."""
    history: Sequence[Line]


def view(session: Session, history: Iterable[Entry], *, longest_extension: float, now: datetime | None = None) -> View:
    """`longest_extension` is in seconds."""
    source = session.kept_awake_by
    why = _key("own.why", source) if source else None
    record, expiry = session.record, session.expiry if session.deletion_warned else None
    return View(
        state=f"own.state.{session.phase}",
        awake=session.awake,
        asleep=session.phase is Phase.ASLEEP,
        gone=_GONE.get(session.phase),
        now=now or datetime.now(UTC),
        sleeps_at=session.sleeps_at,
        why=why,
        why_time=record.kept_until if source == "extension" else record.last_activity,
        why_name=source or "",
        reason=session.reason or session.warning,
        deletes_at=expiry.at if expiry else None,
        deletes_because=f"own.deletes.{expiry.reason}" if expiry else None,
        hours=[hours for hours in _HOURS if hours * 3600 <= longest_extension],
        history=[_line(entry) for entry in history][:_LINES],
    )


def _line(entry: Entry) -> Line:
    return _LINE_OF.get(entry.kind, _other)(entry)


def _wake(entry: Entry) -> Line:
    cause = _key("own.woken", entry.by) if entry.by else "own.woken.replaced"
    duration = _duration(entry.seconds) if entry.ready_at else ""
    detail = "own.woken.ready" if duration else None
    return Line(at=entry.at, what="own.wake", cause=cause, name=entry.by or "", detail=detail, duration=duration)


def _sleep(entry: Entry) -> Line:
    cause = f"own.slept.{entry.why}" if entry.why else None
    if entry.by is not None:
        cause = "own.slept.visit" if entry.by == VISIT else _key("own.woken", entry.by)
    duration = _duration(entry.seconds)
    detail = "own.slept.awake" if duration else None
    note = "own.slept.interrupted" if entry.interrupted else None
    name = entry.by or ""
    return Line(at=entry.at, what="own.slept", cause=cause, name=name, detail=detail, duration=duration, note=note)


def _failure(entry: Entry) -> Line:
    return Line(at=entry.at, what="own.failure", reason=entry.reason)


def _deletion_warning(entry: Entry) -> Line:
    return Line(at=entry.at, what="own.deletion-warning", reason=entry.reason)


def _other(entry: Entry) -> Line:
    return Line(at=entry.at, what=_key("own", entry.kind), name=entry.kind)


_LINE_OF: Mapping[Kind, Callable[[Entry], Line]] = {
    Kind.WAKE: _wake,
    Kind.SLEEP: _sleep,
    Kind.FAILURE: _failure,
    Kind.DELETION_WARNING: _deletion_warning,
}


def _key(prefix: str, name: str) -> str:
    """The key for that name, or the one for names that the catalogue does not know."""
    key = f"{prefix}.{name}"
    return key if key in _TEXTS else f"{prefix}.other"


def _duration(seconds: float | None) -> str:
    """For people, in two units at most: `0.6 s`, `48 s`, `2 min`, `1 h 05 min`; empty when unknown."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
