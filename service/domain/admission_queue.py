"""Bounds helm work, which costs a process each: a fixed number run, a fixed number wait, the rest are refused."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from service.domain.errors import HelmQueueFull


class AdmissionQueue:
    """First `admit`, which may refuse; then, when everything else is ready, a `slot` to run in."""

    def __init__(self, *, running: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(running)
        self._running = running
        self._capacity = running + waiting
        self._seconds = 1.0
        """Moving average of how long a slot is held."""
        self.admitted = 0
        """Callers that hold a slot or wait for one."""
        self.refused = 0
        """Callers refused so far."""

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Take one place of the queue. Raises HelmQueueFull when it is full, with the expected wait, in seconds."""
        if self.admitted >= self._capacity:
            self.refused += 1
            raise HelmQueueFull(retry_after=max(1, round(self.admitted * self._seconds / self._running)))
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        async with self._slots:
            clock = asyncio.get_running_loop().time
            started = clock()
            yield
            self._seconds += 0.2 * (clock() - started - self._seconds)
