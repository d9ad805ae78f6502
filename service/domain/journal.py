"""What happens to sessions, noted once each as it happens: for the log, and for the session's own history.

The replica that takes a call notes creates, wakes, visits and deletes; the leader notes what the cluster shows, that is
readiness, sleeps and failures of pods, and wakes by others than the service's callers.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol

from service.domain import names
from service.domain.clock import utc_now
from service.domain.metrics import Creation
from service.domain.names import SessionId
from service.domain.request_context import current_request_id
from service.domain.sleep import SleepReason

REASON_LIMIT = 300
"""Characters kept of a reason: Kubernetes and helm can be wordy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """Base of all. Durations are in seconds."""

    EVENT: ClassVar[str]
    """The log line's event."""

    uuid: SessionId | None
    """None for a create that failed before it had an id."""
    user: str | None
    """Hash of the user's id (`hashed`), never the id itself; None for a chart installed by hand."""
    at: datetime = field(default_factory=utc_now)
    request: str = field(default_factory=current_request_id)
    """Id of the request behind it; `-` when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created(JournalEntry):
    EVENT: ClassVar[str] = "session created"
    outcome: Creation
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken(JournalEntry):
    """A wake that found a sleeper was accepted; heartbeats of the awake are not noted."""

    EVENT: ClassVar[str] = "session woken"
    by: str
    """Who asked: the name of the API caller, `visit`, `queue` (a push of somebody else), `operator`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready(JournalEntry):
    EVENT: ClassVar[str] = "session ready"
    seconds: float | None
    """Since the wake was accepted, or since the pod was wanted where no wake is known."""
    pod: str
    """The pod's uid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slept(JournalEntry):
    EVENT: ClassVar[str] = "session slept"
    why: SleepReason
    idle_since: datetime | None = None
    seconds: float | None = None
    """How long a pod was wanted; None when nobody saw it begin."""
    pod: str | None = None
    """The uid of the pod that ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited(JournalEntry):
    """A person's browser has opened the workspace; not every request of its pages."""

    EVENT: ClassVar[str] = "workspace visited"
    asleep: bool
    """Whether the visit found a sleeper, which it wakes."""
    seconds: float
    """Until the pod answered, or the waiting page was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(JournalEntry):
    EVENT: ClassVar[str] = "session failed"
    doing: str
    """`create`, `delete`, or `wake`: the pod."""
    reason: str
    seconds: float | None = None
    """Since it began."""
    pod: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(JournalEntry):
    EVENT: ClassVar[str] = "session deleted"
    by: str
    """`request`, or `retention`: its release had been gone for long."""
    keep_data: bool
    seconds: float


HistoryEvent = Woken | Ready | Slept | Failed
HISTORY_EVENTS = (Woken, Ready, Slept, Failed)
"""What a session's history can hold."""


class Journal(Protocol):
    """Whoever wants to know. Returns at once and never raises."""

    def note(self, happening: JournalEntry) -> None: ...


class NoJournal:
    """Notes nothing."""

    def note(self, happening: JournalEntry) -> None: ...


SILENT = NoJournal()


class Journals:
    """Several journals as one."""

    def __init__(self, *journals: Journal) -> None:
        self._journals = journals

    def note(self, happening: JournalEntry) -> None:
        for journal in self._journals:
            journal.note(happening)


def hashed(user_id: str | None) -> str | None:
    """The user as a journal entry names them: the same hash as on the labels of their objects."""
    return names.user_hash(user_id) if user_id is not None else None
