"""Limits how many operations a second are started, so that a mass event does not flood the API server."""

import asyncio


class RateLimiter:
    """A token bucket: `per_second` operations on average, and a burst of as many."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._next_free = 0.0

    def try_accept(self) -> bool:
        """Take a token if one is available; returns whether it was."""
        now = asyncio.get_running_loop().time()
        taken = self._after_next(now)
        if taken > now:
            return False
        self._next_free = taken
        return True

    async def wait(self) -> None:
        """Take a token, and wait until it is available."""
        now = asyncio.get_running_loop().time()
        self._next_free = self._after_next(now)
        if self._next_free > now:
            await asyncio.sleep(self._next_free - now)

    def _after_next(self, now: float) -> float:
        return max(self._next_free, now - 1) + self._interval
