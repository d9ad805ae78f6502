"""Combines the reads of concurrent callers into one, because most of the cost of a Redis read is per request."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BatchLoader(Generic[K, V]):
    """Loads up to `batch_size` keys per call of `read`, which returns one value for each key.

    One read runs at a time; keys requested meanwhile go into the next. So no caller gets a value that was read before
    it asked, and a lone caller does not wait for others.
    """

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Sequence[V]]], *, batch_size: int) -> None:
        self._read = read
        self._batch_size = batch_size
        self._wanted: dict[K, asyncio.Future[V]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def load(self, key: K) -> V:
        """Return the value of the key. Raises what `read` raises."""
        future = self._wanted.get(key)
        if future is None:
            future = self._wanted[key] = asyncio.get_running_loop().create_future()
        if self._reading is None:
            self._reading = asyncio.create_task(self._run())
        # Other callers may wait for the same key: a cancelled caller must not cancel the read.
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            while self._wanted:
                keys = list(self._wanted)[: self._batch_size]
                await self._settle({key: self._wanted.pop(key) for key in keys})
        finally:
            self._reading = None

    async def _settle(self, batch: dict[K, "asyncio.Future[V]"]) -> None:
        try:
            values = list(zip(batch.values(), await self._read(list(batch)), strict=True))
        except asyncio.CancelledError:
            for future in batch.values():
                future.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - the callers handle it
            for future in batch.values():
                future.set_exception(error)
                future.exception()  # mark it as retrieved: its caller may have been cancelled
        else:
            for future, value in values:
                future.set_result(value)
