"""Reads of many callers at once, made as one: what a request to Redis costs, costs mostly per request."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class BatchLoader(Generic[K, V]):
    """`read` gets keys and gives a value for each.

    One read is under way at a time; who asks meanwhile is in the next. So nobody is answered by a read that was begun
    before he asked, and who asks alone waits for nobody.
    """

    def __init__(self, read: Callable[[Sequence[K]], Awaitable[Sequence[V]]], *, most: int) -> None:
        self._read = read
        self._most = most
        self._wanted: dict[K, asyncio.Future[V]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def one(self, key: K) -> V:
        """The value of the key; raises what `read` raises."""
        future = self._wanted.get(key)
        if future is None:
            future = self._wanted[key] = asyncio.get_running_loop().create_future()
        if self._reading is None:
            self._reading = asyncio.create_task(self._run())
        # Somebody else may want the same: a caller that goes away takes nothing along.
        return await asyncio.shield(future)

    async def _run(self) -> None:
        try:
            while self._wanted:
                keys = list(self._wanted)[: self._most]
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
        except Exception as error:  # noqa: BLE001 - it is the callers' to handle
            for future in batch.values():
                future.set_exception(error)
                future.exception()  # whoever wanted it may be gone
        else:
            for future, value in values:
                future.set_result(value)
