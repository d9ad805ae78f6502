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
        self._keys: dict[K, None] | None = None
        """Of the next read; None when there is none."""
        self._last: asyncio.Task[dict[K, V]] | None = None
        """The next read, or else the one before."""

    async def load(self, key: K) -> V:
        """Return the value of the key. Raises what `read` raises."""
        if self._keys is None or (len(self._keys) >= self._batch_size and key not in self._keys):
            self._keys = {}
            self._last = asyncio.create_task(self._read_batch(self._keys, self._last))
            # If every caller is cancelled, nobody else retrieves the read's error, and asyncio would log it.
            self._last.add_done_callback(lambda read: read.cancelled() or read.exception())
        self._keys[key] = None
        assert self._last is not None  # noqa: S101 - it was created with the keys
        # Other callers may wait for the same read: a cancelled caller must not cancel it.
        return (await asyncio.shield(self._last))[key]

    async def _read_batch(self, keys: dict[K, None], earlier: "asyncio.Task[dict[K, V]] | None") -> dict[K, V]:
        if earlier is not None and not earlier.done():
            await asyncio.wait([earlier])
        if self._keys is keys:
            self._keys = None
        return dict(zip(keys, await self._read(list(keys)), strict=True))
