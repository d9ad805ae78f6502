"""Limits how many operations a second are started, so that a mass event does not flood what they call."""

import asyncio
import math


class RateLimiter:
    """A token bucket: `per_second` operations on average, and a burst of as many."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._next_free = 0.0

    def try_accept(self) -> bool:
        """Take a token if one is available; returns whether it was."""
        return self._take(0) is not None

    async def wait(self, longest: float = math.inf) -> bool:
        """Take a token, and wait until it is available: at most `longest` seconds, or else not at all.

        Returns whether it was taken.
        """
        seconds = self._take(longest)
        if seconds:
            await asyncio.sleep(seconds)
        return seconds is not None

    def _take(self, longest: float) -> float | None:
        """In how many seconds the token is available that was taken; None when that would be too long."""
        now = asyncio.get_running_loop().time()
        taken = self._after_next(now)
        if taken > now + longest:
            return None
        self._next_free = taken
        return max(0.0, taken - now)

    def _after_next(self, now: float) -> float:
        return max(self._next_free, now - 1) + self._interval
