"""A bound on work that costs a process each: so many run at once, so many wait in line, and no more."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from service.domain.errors import TooManyCreates


class AdmissionQueue:
    """First a place in the line, which may be refused; then, when everything else is ready, a slot to run in."""

    def __init__(self, *, running: int, waiting: int) -> None:
        self._running = asyncio.Semaphore(running)
        self._width = running
        self._places = running + waiting
        self._taken = 0
        self._seconds = 1.0
        self.refused = 0
        """Callers that found no place."""

    @property
    def taken(self) -> int:
        """Places held now, those in a slot included."""
        return self._taken

    @contextmanager
    def line(self) -> Iterator[None]:
        """Hold a place. Raises TooManyCreates when all are taken, with the estimated wait for one in `retry_after`."""
        if self._taken >= self._places:
            self.refused += 1
            raise TooManyCreates(retry_after=max(1, round(self._taken * self._seconds / self._width)))
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        async with self._running:
            clock = asyncio.get_running_loop().time
            started = clock()
            yield
            self._seconds += 0.2 * (clock() - started - self._seconds)
