"""The Companions in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.domain.names import SessionId
from service.domain.ports import COMPANION_SEEN, COMPANIONS


@dataclass
class MemoryCompanions:
    """See `service.domain.ports.Companions`; a test may move `clock`."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    browsers: dict[SessionId, dict[str, datetime]] = field(default_factory=dict)
    """Id -> names of browsers, and until when they count."""

    async def seen(self, uuid: SessionId, browser: str) -> None:
        live = {each: ends for each, ends in self.browsers.get(uuid, {}).items() if ends > self.clock()}
        live.pop(browser, None)
        live[browser] = self.clock() + COMPANION_SEEN
        self.browsers[uuid] = dict(list(live.items())[-COMPANIONS:])

    async def any_seen(self, uuid: SessionId) -> bool:
        return any(until > self.clock() for until in self.browsers.get(uuid, {}).values())

    async def is_seen(self, uuid: SessionId, browser: str) -> bool:
        ends = self.browsers.get(uuid, {}).get(browser)
        return ends is not None and ends > self.clock()
