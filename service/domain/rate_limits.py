"""How many requests a caller may send, and how many may concern one user, on average and at once.

Each is a level: a request raises it by one, and it falls by the limit per minute. A level may reach as much as a minute
allows. Every replica decides by what it knows, without a wait, and exchanges levels with the others each second. So
replicas together may let through what arrives in one second at each, and no more.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.domain.errors import TooManyRequests, Unavailable

log = logging.getLogger(__name__)

EXCHANGE_SECONDS = 1.0
_MINUTE = 60.0
_WORTH_TELLING = 0.1
"""Share of its limit from which on a level is exchanged: most never come near it, and cost Redis nothing."""


_BATCH = 200
"""Levels of one call to Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """What one replica adds to a level that falls by `per_second` and never exceeds `highest`."""

    name: str
    count: int
    per_second: float
    highest: float


class SharedLevels(Protocol):
    """The levels of all replicas, in Redis."""

    async def add(self, changes: Sequence[LevelChange]) -> Sequence[float]:
        """Add to each level, and return all of them."""


@dataclass(slots=True)
class _Level:
    limit: float
    """Per minute; also the highest level."""
    height: float
    at: float
    """When it was `height`, by this process's clock."""
    untold: int = 0
    """Requests since the last exchange."""

    def now(self, now: float) -> float:
        return max(0.0, self.height - (now - self.at) * self.limit / _MINUTE)

    def is_worth_telling(self, now: float) -> bool:
        return self.untold > 0 and self.now(now) >= self.limit * _WORTH_TELLING


class RateLimits:
    """`per_caller` and `per_user` are requests per minute; None: no limit."""

    def __init__(
        self,
        shared: SharedLevels,
        *,
        per_caller: int | None,
        per_user: int | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = shared
        self._per_caller = per_caller
        self._per_user = per_user
        self._now = now
        self._levels: dict[str, _Level] = {}
        self._alone = False
        """Redis did not answer the last exchange."""

    def count(self, *, caller: str | None, user: str | None) -> None:
        """Count a request of the caller that concerns the user; None: of nobody, or concerning nobody in particular.

        Raises TooManyRequests, with the seconds after which it would be let through. A refused request counts nothing.
        """
        now = self._now()
        levels = []
        if caller is not None and self._per_caller is not None:
            levels.append(self._level(f"caller:{caller}", self._per_caller, now))
        if user is not None and self._per_user is not None:
            levels.append(self._level(f"user:{user}", self._per_user, now))
        for level in levels:
            excess = level.now(now) + 1 - level.limit
            if excess > 0:
                raise TooManyRequests(retry_after=max(1, math.ceil(excess * _MINUTE / level.limit)))
        for level in levels:
            level.height, level.at = level.now(now) + 1, now
            level.untold += 1

    def _level(self, name: str, limit: int, now: float) -> _Level:
        level = self._levels.get(name)
        if level is None:
            level = self._levels[name] = _Level(limit, 0.0, now)
        return level

    async def run(self) -> None:
        """Exchange levels with the other replicas until cancelled. Without Redis, each replica counts alone."""
        while True:
            await asyncio.sleep(EXCHANGE_SECONDS)
            try:
                await self.exchange()
            except Unavailable as error:
                if not self._alone:
                    log.warning("request rates are not exchanged, so each replica counts alone: %s", error)
                self._alone = True

    async def exchange(self) -> None:
        """Tell what this replica has let through, and learn what the others have. Raises Unavailable."""
        now = self._now()
        self._levels = {name: level for name, level in self._levels.items() if level.now(now) > 0}
        told = [(name, level) for name, level in self._levels.items() if level.is_worth_telling(now)]
        for start in range(0, len(told), _BATCH):
            await self._tell(told[start : start + _BATCH])

    async def _tell(self, told: Sequence[tuple[str, _Level]]) -> None:
        now, counted = self._now(), [level.untold for _, level in told]
        changes = [
            LevelChange(
                name=name,
                # Of what was not told for long, some has drained away since.
                count=min(level.untold, math.ceil(level.now(now))),
                per_second=level.limit / _MINUTE,
                highest=level.limit,
            )
            for name, level in told
        ]
        heights = await self._shared.add(changes)
        self._alone, now = False, self._now()
        for (_, level), count, height in zip(told, counted, heights, strict=True):
            # Only now: what an exchange that failed was to tell is told by the next one.
            level.untold -= count
            # Requests that came meanwhile are not in it yet. Never lower: Redis may have lost what it knew.
            level.height, level.at = min(level.limit, max(height + level.untold, level.now(now))), now
