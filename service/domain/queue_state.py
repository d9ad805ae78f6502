"""Whether and until when a session is wanted awake."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class QueueState:
    """Whether and until when the session is wanted awake: its wake queue and its pending wake."""

    tokens: int = 0
    lease_until: datetime | None = None
    """When the queue expires; None when it is empty, or when somebody pushed a token without an expiry."""
    pending_since: datetime | None = None
    """The oldest push of the pending wake. The service renews the lease while there is one."""

    read_error: str | None = None
    """Why the queue cannot be read, and what repairs it. Draw no conclusion from the other fields then."""

    @property
    def is_wanted(self) -> bool:
        """Whether the session is wanted awake."""
        return self.tokens > 0 or self.pending_since is not None


class PushResult(NamedTuple):
    """The result of a wake's push."""

    length: int
    """The queue's length."""
    first: bool
    """No other wake was pending. Of concurrent wakes, on any replicas, exactly one is the first."""
