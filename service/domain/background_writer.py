"""Writes entries in the background, so that no call waits for it: in order, and after an outage those that waited."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from service.domain.backoff import Backoff
from service.domain.errors import Unavailable

log = logging.getLogger(__name__)

_BUFFER = 2000
"""Entries that wait; beyond that the oldest are dropped."""
_FLUSH_TIMEOUT = 1.0
"""Seconds at the end of the process to write the remaining entries."""

T = TypeVar("T")


class BackgroundWriter(Generic[T]):
    """`write` writes one entry, and may raise Unavailable. `what` names the whole in the log, such as `history`."""

    def __init__(self, what: str, write: Callable[[T], Awaitable[object]]) -> None:
        self._what = what
        self._write_one = write
        self._buffer: deque[T] = deque()
        self._dropped = 0
        self._filled = asyncio.Event()

    def put(self, entry: T) -> None:
        """Have the entry written soon. Returns at once."""
        if len(self._buffer) >= _BUFFER:
            self._buffer.popleft()
            self._dropped += 1
        self._buffer.append(entry)
        self._filled.set()

    async def run(self) -> None:
        """Write until cancelled, then write the remaining entries."""
        try:
            await self._write_forever()
        finally:
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_FLUSH_TIMEOUT):
                    await self._write()

    async def _write_forever(self) -> None:
        backoff = Backoff(0.5, 15)
        while True:
            await self._filled.wait()
            self._filled.clear()
            try:
                await self._write()
                backoff.reset()
            except Unavailable as unavailable:
                if not backoff.failures:
                    log.warning("%s is not written until %s answers", self._what, unavailable.part)
                await asyncio.sleep(backoff.next())
                self._filled.set()

    async def _write(self) -> None:
        if self._dropped:
            log.warning("%s lacks entries", self._what, extra={"missing": self._dropped})
            self._dropped = 0
        while self._buffer:
            entry = self._buffer[0]
            try:
                await self._write_one(entry)
            except Unavailable:
                raise
            except Exception:
                log.exception("%s lacks an entry", self._what)
            if self._buffer and self._buffer[0] is entry:
                self._buffer.popleft()
