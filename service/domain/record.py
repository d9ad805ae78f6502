"""What Redis stores about a session."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from service.domain.expiry import ExpiryReason, ExpiryWarning
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.queue_state import QueueState


class RecordStatus(StrEnum):
    """State of the session's record, `session.status` in answers."""

    CREATED = "created"
    RELEASED = "released"
    """The record exists, but its Helm release does not (`helm uninstall`)."""
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class SleepRequest:
    """A call that asked for sleep: its time, its request id, and its caller's name; earlier versions wrote no name."""

    at: datetime
    request: str | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What Redis stores about one session. The essential parts can be rebuilt from the cluster."""

    uuid: SessionId
    user_id: str
    status: RecordStatus
    created_at: datetime
    written_at: datetime | None = None
    """When helm last finished work on the session. The workload cache may be older for a moment."""
    last_activity: datetime | None = None
    activity_source: str | None = None
    """The last activity's source: `wake`, or the name that its reporter gave."""
    last_output: datetime | None = None
    """When the gateway last saw a program in the pod work: terminal output, or a download."""
    kept_until: datetime | None = None
    """The end of the extension that the user asked for."""
    sleep_request: SleepRequest | None = None
    """The last request for sleep; later activity makes it void."""
    sleep_due: datetime | None = None
    """When a request for sleep is carried out, so that pages can save before; a wake makes it void."""
    renewed_until: datetime | None = None
    """Until when the service has last renewed the lease of a wake that came through it, while its pod was late."""
    spared_until: datetime | None = None
    """Somebody wants the session kept from deletion until then."""
    deletion_warning: ExpiryWarning | None = None
    """What its user has been told about its deletion by the service; None while it stays."""
    released_at: datetime | None = None
    """When the release was first found missing; None while there is one."""
    keep_data: bool = True
    """While deleting: whether the volume outlives the session."""
    deleting_since: datetime | None = None
    """While deleting: since when."""
    expired: ExpiryReason | None = None
    """While deleting: why the service began it; None for a request."""
    queue: QueueState = field(default_factory=QueueState)
    read_error: str | None = None
    """Why the record cannot be read, and what repairs it."""

    def keeps_working(self, now: datetime, idle_times: IdleTimes) -> bool:
        """Whether a program that works in the pod counts, and has filled the queue."""
        if self.last_output is None or self.last_activity is None:
            return False
        return now < min(self.last_output + idle_times.lease, self.last_activity + idle_times.background)
