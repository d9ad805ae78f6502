"""A bound on how fast something is done, so that a mass event does not become a flood."""

import asyncio


class RateLimiter:
    """So many a second on average, with a burst of as many; those over it wait their turn."""

    def __init__(self, per_second: float) -> None:
        self._gap = 1 / per_second
        self._free_at = 0.0

    def free(self) -> bool:
        """Take a turn if there is one at once; whether there was."""
        now = asyncio.get_running_loop().time()
        if max(self._free_at, now - 1) + self._gap > now:
            return False
        self._free_at = max(self._free_at, now - 1) + self._gap
        return True

    async def turn(self) -> None:
        """Wait for the next turn."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now - 1) + self._gap
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
