"""The levels of requests in memory."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.domain.errors import RedisUnavailable
from service.domain.rate_limits import LevelChange


@dataclass
class MemorySharedLevels:
    """See `service.domain.rate_limits.SharedLevels`; a test may exchange `now`."""

    now: Callable[[], float] = time.monotonic
    levels: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Level and when it was that high, by name."""
    away: bool = False
    calls: int = 0

    async def add(self, changes: Sequence[LevelChange]) -> Sequence[float]:
        self.calls += 1
        if self.away:
            raise RedisUnavailable
        return [self._add(change) for change in changes]

    def _add(self, change: LevelChange) -> float:
        level, at = self.levels.get(change.name, (0.0, 0.0))
        if level > change.highest:
            level = 0.0
        level = min(change.highest, max(0.0, level - (self.now() - at) * change.per_second) + change.count)
        self.levels[change.name] = (level, self.now())
        return level
