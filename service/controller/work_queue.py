"""The work queue of the reconcilers, with the semantics of client-go's: an item is worked on by one worker at a time.

Adding an item that is queued changes nothing, so any number of events make one piece of work. Adding one that is in
progress queues it again when it is done, so no event is lost. A failed item comes back after a pause of its own, which
grows with its failures in a row; nobody else waits for it.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Hashable, Iterable
from itertools import islice
from typing import Generic, TypeVar

from service.domain.backoff import Backoff

T = TypeVar("T", bound=Hashable)


class WorkQueue(Generic[T]):
    """`batch` and `low_batch`: how many items of each priority one `get` returns at most.

    Items of low priority are handed out when there are no others. `first` and `longest` are the pauses after failures,
    in seconds. For one event loop; no method but `get` waits.
    """

    def __init__(self, *, batch: int = 1, low_batch: int | None = None, first: float, longest: float) -> None:
        self._batch = batch
        self._low_batch = low_batch or batch
        self._pauses = (first, longest)
        self._queued: dict[bool, dict[T, None]] = {False: {}, True: {}}
        """By whether the priority is low, each in the order of adding."""
        self._in_progress: dict[T, bool] = {}
        """Handed out and not done yet, with whether the priority was low."""
        self._again: dict[T, bool] = {}
        """Those in progress that were added meanwhile."""
        self._timers: dict[T, asyncio.TimerHandle] = {}
        self._backoffs: dict[T, Backoff] = {}
        self._getters: deque[asyncio.Future[None]] = deque()
        self.retries = 0
        """Items that came back, or will, since they failed."""

    def __len__(self) -> int:
        """Items that could be handed out now."""
        return sum(map(len, self._queued.values()))

    @property
    def in_progress(self) -> int:
        return len(self._in_progress)

    def add(self, item: T, *, low: bool = False) -> None:
        """Have the item worked on, soon or after the work on it that is under way.

        With the higher priority of all that were asked for since it was last handed out. A delayed item is not delayed
        any longer.
        """
        self._forget_timer(item)
        if item in self._in_progress:
            self._again[item] = self._again.get(item, True) and low
        elif item not in self._queued[False]:
            if not low:
                self._queued[True].pop(item, None)
            self._queued[low][item] = None
            self._wake()

    def add_after(self, item: T, seconds: float) -> None:
        """Add the item then, unless it is added before."""
        if any(item in queued for queued in self._queued.values()):
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(item)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        self._forget_timer(item)
        self._timers[item] = loop.call_later(seconds, self.add, item)

    def add_rate_limited(self, item: T) -> float:
        """The item has failed: add it after a pause, which is returned, in seconds."""
        backoff = self._backoffs.get(item)
        if backoff is None:
            backoff = self._backoffs[item] = Backoff(*self._pauses)
        pause = backoff.next()
        self.retries += 1
        self.add_after(item, pause)
        return pause

    def failures(self, item: T) -> int:
        """How often in a row it has failed."""
        backoff = self._backoffs.get(item)
        return backoff.failures if backoff else 0

    def forget(self, item: T) -> None:
        """The item has succeeded, or nobody wants it any more: its next failure is its first."""
        self._backoffs.pop(item, None)

    async def get(self) -> list[T]:
        """Wait for work, and take it. Call `done` for each of the items, whatever becomes of it."""
        while not len(self):
            await self._news()
        low = not self._queued[False]
        queued = self._queued[low]
        batch = list(islice(queued, self._low_batch if low else self._batch))
        for item in batch:
            del queued[item]
            self._in_progress[item] = low
        if len(self):
            self._wake()
        return batch

    def done(self, item: T) -> None:
        """Nobody works on it any more; it is queued again when it was added meanwhile."""
        if self._in_progress.pop(item, None) is not None and item in self._again:
            self.add(item, low=self._again.pop(item))

    def put_back(self, items: Iterable[T]) -> None:
        """They could not be worked on: they go back to the front, with the priority that they had."""
        front: dict[bool, dict[T, None]] = {False: {}, True: {}}
        for item in items:
            if item in self._in_progress:
                low, wanted_low = self._in_progress.pop(item), self._again.pop(item, True)
                self._forget_timer(item)
                front[low and wanted_low][item] = None
        for low, queued in self._queued.items():
            self._queued[low] = front[low] | queued
        if len(self):
            self._wake()

    def release(self) -> None:
        """The workers have ended: what they had is handed out again, and what was delayed at once."""
        self.put_back(list(self._in_progress))
        for item in list(self._timers):
            self.add(item)

    def _forget_timer(self, item: T) -> None:
        timer = self._timers.pop(item, None)
        if timer is not None:
            timer.cancel()

    async def _news(self) -> None:
        getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._getters.append(getter)
        try:
            await getter
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self._getters.remove(getter)
            if len(self):
                self._wake()  # it may have been woken for work that another one has to do now
            raise

    def _wake(self) -> None:
        """Wake one of those who wait."""
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return
