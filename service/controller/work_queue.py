"""A work queue with the semantics of client-go's: one worker at a time processes an item.

Adding a queued item changes nothing, so many events cause one reconciliation. Adding an item that is in progress
queues it again when it is done, so no event is lost. A failed item comes back after a pause of its own, which grows
with its consecutive failures and delays no other item.
"""

import asyncio
from collections.abc import Hashable, Iterable
from itertools import islice
from typing import Generic, TypeVar

from service.domain.backoff import Backoff

T = TypeVar("T", bound=Hashable)


class WorkQueue(Generic[T]):
    """`batch` and `low_batch` limit how many items of each priority one `get` returns.

    Items of low priority are returned when there are no others. `first` and `longest` bound the pauses after failures,
    in seconds. For one event loop; only `get` waits.
    """

    def __init__(self, *, batch: int = 1, low_batch: int | None = None, first: float, longest: float) -> None:
        self._batch = batch
        self._low_batch = low_batch or batch
        self._pauses = (first, longest)
        self._queued: dict[bool, dict[T, None]] = {False: {}, True: {}}
        """By whether the priority is low, each in the order in which items were added."""
        self._in_progress: dict[T, bool] = {}
        """Returned by `get` and not done yet, with whether the priority was low."""
        self._dirty: dict[T, bool] = {}
        """Items that were added again while in progress."""
        self._timers: dict[T, asyncio.TimerHandle] = {}
        self._backoffs: dict[T, Backoff] = {}
        self._signals: asyncio.Queue[None] = asyncio.Queue()
        """Holds a signal when there may be items for a waiting `get`."""
        self.retries = 0
        """Items that were added again because they had failed."""

    def __len__(self) -> int:
        """Items that `get` could return now."""
        return sum(map(len, self._queued.values()))

    @property
    def in_progress(self) -> int:
        return len(self._in_progress)

    def add(self, item: T, *, low: bool = False) -> None:
        """Queue the item, or queue it again once it is done if it is in progress. Cancels a pending `add_after`.

        The highest priority requested since the last `get` counts.
        """
        self._cancel_timer(item)
        if item in self._in_progress:
            self._dirty[item] = self._dirty.get(item, True) and low
        elif item not in self._queued[False]:
            if not low:
                self._queued[True].pop(item, None)
            self._queued[low][item] = None
            self._notify()

    def add_after(self, item: T, seconds: float) -> None:
        """Add the item after a delay, unless it is added before."""
        if any(item in queued for queued in self._queued.values()):
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(item)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        self._cancel_timer(item)
        self._timers[item] = loop.call_later(seconds, self.add, item)

    def add_rate_limited(self, item: T) -> float:
        """The item failed: add it after a pause, which is returned in seconds."""
        pause = self._backoffs.setdefault(item, Backoff(*self._pauses)).next()
        self.retries += 1
        self.add_after(item, pause)
        return pause

    def failures(self, item: T) -> int:
        """The item's consecutive failures."""
        backoff = self._backoffs.get(item)
        return backoff.failures if backoff else 0

    def forget(self, item: T) -> None:
        """Reset the item's failures, since it succeeded or is not needed any more."""
        self._backoffs.pop(item, None)

    async def get(self) -> list[T]:
        """Wait for items and take them. Call `done` for each of them, whatever the result."""
        while not len(self):
            await self._signals.get()
        low = not self._queued[False]
        queued = self._queued[low]
        batch = list(islice(queued, self._low_batch if low else self._batch))
        for item in batch:
            del queued[item]
            self._in_progress[item] = low
        self._notify()
        return batch

    def done(self, item: T) -> None:
        """The item is no longer in progress; it is queued again if it was added in that time."""
        if self._in_progress.pop(item, None) is not None and item in self._dirty:
            self.add(item, low=self._dirty.pop(item))

    def put_back(self, items: Iterable[T]) -> None:
        """Return unprocessed items to the front of the queue, with the priority that they had."""
        front: dict[bool, dict[T, None]] = {False: {}, True: {}}
        for item in items:
            if item in self._in_progress:
                low, wanted_low = self._in_progress.pop(item), self._dirty.pop(item, True)
                self._cancel_timer(item)
                front[low and wanted_low][item] = None
        for low, queued in self._queued.items():
            self._queued[low] = front[low] | queued
        self._notify()

    def release(self) -> None:
        """The workers have ended: queue what was in progress, and what was delayed."""
        for item in list(self._timers):  # first, so that an item in progress keeps the priority of its retry
            self.add(item)
        self.put_back(list(self._in_progress))

    def _cancel_timer(self, item: T) -> None:
        timer = self._timers.pop(item, None)
        if timer is not None:
            timer.cancel()

    def _notify(self) -> None:
        """Wake one waiting `get`, which wakes the next if it leaves items."""
        if len(self) and self._signals.empty():
            self._signals.put_nowait(None)
