"""The Tickets in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from service.domain.names import SessionId
from service.domain.ports import TICKETS


@dataclass
class MemoryTickets:
    """See `service.domain.ports.Tickets`; a test may move `clock`."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    tickets: dict[SessionId, dict[str, datetime]] = field(default_factory=dict)
    """Id -> digests of unused tickets, and when they expire."""
    used: dict[str, datetime] = field(default_factory=dict)
    former_secret: str | None = None

    async def put(self, digest: str, uuid: SessionId, life: timedelta) -> None:
        live = {each: ends for each, ends in self.tickets.get(uuid, {}).items() if ends > self.clock()}
        live[digest] = self.clock() + life
        self.tickets[uuid] = dict(list(live.items())[-TICKETS:])

    async def take(self, digest: str, uuid: SessionId) -> bool:
        ends = self.tickets.get(uuid, {}).pop(digest, None)
        return ends is not None and ends > self.clock()

    async def use_once(self, digest: str, life: timedelta) -> bool:
        now = self.clock()
        if self.used.get(digest, now) > now:
            return False
        self.used[digest] = now + life
        return True

    async def drop_secret(self) -> None:
        self.former_secret = None
