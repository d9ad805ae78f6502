"""The Election in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class MemoryElection:
    """See `service.domain.ports.Election`: candidates share `lease`."""

    identity: str
    lease_duration: timedelta = timedelta(seconds=10)
    lease: dict[str, datetime] = field(default_factory=dict)
    """The holder, and when its lease expires."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def acquire_or_renew(self) -> bool:
        others = [until for holder, until in self.lease.items() if holder != self.identity]
        if any(until > self.clock() for until in others):
            return False
        self.lease.clear()
        self.lease[self.identity] = self.clock() + self.lease_duration
        return True

    async def release(self) -> None:
        self.lease.pop(self.identity, None)
