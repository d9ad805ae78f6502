"""The times that decide when a session falls asleep."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTimes:
    """The times that decide when a session falls asleep; its release is installed with them."""

    lease: timedelta = timedelta(seconds=15)
    """How long one wake keeps the queue non-empty."""
    cooldown: timedelta = timedelta(seconds=120)
    """How long KEDA waits after it last saw the queue non-empty."""
    poll: timedelta = timedelta(seconds=5)
    """How often KEDA reads the queue."""
    background: timedelta = timedelta(0)
    """How long after the last activity a working program may keep the pod awake. 0: it does not."""

    MARGIN: ClassVar[timedelta] = timedelta(seconds=2)
    """How long KEDA may take to reconcile, beyond its poll."""

    @property
    def shortest_lease(self) -> timedelta:
        """KEDA could miss a shorter lease, or first poll an unparked session after the lease has expired."""
        return 2 * self.poll + self.MARGIN

    @property
    def until_seen(self) -> timedelta:
        """How long a token has to stay for KEDA to see it, if it polls already."""
        return min(self.lease, self.poll + self.MARGIN)

    def earliest_sleep(self, lease_until: datetime) -> datetime:
        """The earliest time to fall asleep when the lease expires at `lease_until`.

        KEDA last sees the queue at most one poll before it expires. It acts within one poll after its cooldown, so the
        pod is gone by `earliest_sleep` + 2 polls + MARGIN.
        """
        return lease_until - self.poll + self.cooldown
