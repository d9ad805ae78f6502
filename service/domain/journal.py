"""The journal: what happens to sessions, one entry each, for the log and for the session's history.

The replica that handles a call writes creates, wakes, visits and deletes. The leader writes what the cluster shows:
ready pods, sleeps, failures of pods, and wakes that did not come through the service.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Protocol

from service.domain import names
from service.domain.clock import utc_now
from service.domain.expiry import ExpiryReason
from service.domain.metrics import Creation
from service.domain.names import SessionId
from service.domain.request_context import current_request_id
from service.domain.sleep_cause import SleepReason

REASON_LIMIT = 300
"""Characters kept of a reason: Kubernetes and helm can be wordy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """Base of all entries. Durations are in seconds."""

    EVENT: ClassVar[str]
    """The message of the log line."""

    uuid: SessionId | None
    """None for a create that failed before it had an id."""
    user: str | None
    """Hash of the user id (`hashed`), never the id itself; None for a chart that was installed by hand."""
    at: datetime = field(default_factory=utc_now)
    request: str = field(default_factory=current_request_id)
    """Id of the request that caused it; `-` when there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Created(JournalEntry):
    EVENT: ClassVar[str] = "session created"
    outcome: Creation
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Woken(JournalEntry):
    """A wake of a sleeping session was accepted. Heartbeats of awake sessions are not written."""

    EVENT: ClassVar[str] = "session woken"
    by: str
    """The name of the API caller, `visit`, `queue` (a push by another program) or `operator`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready(JournalEntry):
    EVENT: ClassVar[str] = "session ready"
    seconds: float | None
    """Since the wake was accepted. If no wake is known, since a pod was first wanted; of a pod that replaces another
    one, since it was created. None if nobody saw that."""
    pod: str
    """The pod's uid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slept(JournalEntry):
    EVENT: ClassVar[str] = "session slept"
    why: SleepReason
    by: str | None = None
    """Who asked for it: the name of the API caller, or `visit`. None if nobody did, or an earlier version wrote it."""
    idle_since: datetime | None = None
    seconds: float | None = None
    """How long a pod was wanted; None if no replica saw the beginning."""
    pod: str | None = None
    """The uid of the pod that ended."""
    interrupted: bool = False
    """A program was still working."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visited(JournalEntry):
    """A browser has opened the workspace. Requests of its pages are not written."""

    EVENT: ClassVar[str] = "workspace visited"
    asleep: bool
    """Whether the visit woke the session."""
    seconds: float
    """Until the pod answered or the waiting page was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed(JournalEntry):
    EVENT: ClassVar[str] = "session failed"
    doing: str
    """`create`, `delete`, `upgrade`, or `wake` for a failure of the pod."""
    reason: str
    seconds: float | None = None
    """Since the operation began."""
    pod: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted(JournalEntry):
    EVENT: ClassVar[str] = "session deleted"
    by: str
    """`request`, `lifetime` or `dormancy`; `retention` when its release was gone for longer than the retention time."""
    keep_data: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded(JournalEntry):
    """The release has got today's chart and chart values. `at`: when that began, before a pod was replaced by it."""

    EVENT: ClassVar[str] = "session upgraded"
    by: str
    """The name of the API caller, who may have asked for an upgrade of all sessions."""
    revision: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Revoked(JournalEntry):
    """All sign-ins to the workspace were revoked."""

    EVENT: ClassVar[str] = "access revoked"
    by: str
    """The name of the API caller."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpiryAnnounced(JournalEntry):
    """From now on, the session's user is warned that it will be deleted."""

    EVENT: ClassVar[str] = "session expires"
    why: ExpiryReason
    due: datetime


HistoryEvent = Woken | Ready | Slept | Failed | Revoked | Upgraded | ExpiryAnnounced
"""The entries that a session's history holds."""


class Journal(Protocol):
    """Receives journal entries. Returns at once and never raises."""

    def note(self, entry: JournalEntry) -> None: ...


class Journals:
    """Passes entries on to several journals."""

    def __init__(self, *journals: Journal) -> None:
        self._journals = journals

    def note(self, entry: JournalEntry) -> None:
        for journal in self._journals:
            journal.note(entry)


SILENT = Journals()
"""Discards all entries."""


def hashed(user_id: str | None) -> str | None:
    """The hash of the user id, as on the labels of the user's objects."""
    return names.user_hash(user_id) if user_id is not None else None
