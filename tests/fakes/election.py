"""The Election in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass
class MemoryElection:
    """See `service.domain.ports.Election`: candidates of one election share `lease`."""

    identity: str
    term: timedelta = timedelta(seconds=10)
    lease: dict[str, datetime] = field(default_factory=dict)
    """The holder, and until when."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def stand(self) -> bool:
        others = [until for holder, until in self.lease.items() if holder != self.identity]
        if any(until > self.clock() for until in others):
            return False
        self.lease.clear()
        self.lease[self.identity] = self.clock() + self.term
        return True

    async def resign(self) -> None:
        self.lease.pop(self.identity, None)
