"""Bounds the requests of one session that are in progress; more wait in a queue, and beyond that they are refused.

A page may request hundreds of modules at once. They are served first come, first served. A request that takes long (a
download, an event stream, a held request) gives up its slot when others wait, so that it delays none of them.
"""

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass, field

from service.domain.metrics import RequestOutcome
from service.domain.names import SessionId
from service.gateway.errors import GatewayError, PageKind

_LONG_RUNNING = 5.0
"""Seconds after which a request in progress gives up its slot to one that waits."""


class QueueFull(GatewayError):
    """The queue is full, or no slot became free in time."""

    def __init__(self) -> None:
        detail = "This workspace has reached its limit of open requests. Try again in a moment."
        super().__init__(
            429, "Too many requests", detail, retry_after=2, outcome=RequestOutcome.BUSY, page=PageKind.BUSY
        )


@dataclass(slots=True, eq=False)
class Slot:
    """One request in progress, since `begun` (seconds of time.monotonic)."""

    begun: float


@dataclass(slots=True, eq=False)
class _Queue:
    """The requests of one session."""

    in_progress: dict[Slot, None] = field(default_factory=dict)
    """The oldest first."""
    long_running: set[Slot] = field(default_factory=set)
    """In progress too; they no longer count against the limit."""
    waiting: deque[asyncio.Future[Slot]] = field(default_factory=deque)
    timer: asyncio.TimerHandle | None = None


class RequestQueues:
    """The queues of all sessions. In each, `limit` requests are in progress, as many run long, and `size` wait."""

    def __init__(self, *, limit: int, size: int, timeout: float) -> None:
        """`timeout`: seconds that a request waits at most."""
        self._limit = limit
        self._size = size
        self._timeout = timeout
        self._queues: dict[SessionId, _Queue] = {}

    @property
    def waiting(self) -> int:
        """How many requests wait, of all sessions."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    @property
    def is_empty(self) -> bool:
        return not self._queues

    def acquire_now(self, uuid: SessionId) -> Slot | None:
        """A slot, or None when the request has to wait. Give every slot back by `release`."""
        queue = self._queues.get(uuid)
        if queue is None:
            queue = self._queues[uuid] = _Queue()
        elif queue.waiting or len(queue.in_progress) >= self._limit:
            return None
        slot = Slot(time.monotonic())
        queue.in_progress[slot] = None
        return slot

    async def acquire(self, uuid: SessionId) -> Slot:
        """Wait for a slot, after `acquire_now` has returned None. Raises QueueFull."""
        queue = self._queues[uuid]
        if len(queue.waiting) >= self._size:
            raise QueueFull
        granted: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        queue.waiting.append(granted)
        self._grant(uuid, queue)
        try:
            async with asyncio.timeout(self._timeout):
                return await granted
        except BaseException as error:
            if not granted.cancelled():
                self.release(uuid, granted.result())  # granted just as the client disconnected
            else:
                with contextlib.suppress(ValueError):  # `_grant` may have removed it already
                    queue.waiting.remove(granted)
                self._remove_if_empty(uuid, queue)
            if isinstance(error, TimeoutError):
                raise QueueFull from None
            raise

    def release(self, uuid: SessionId, slot: Slot) -> None:
        queue = self._queues[uuid]
        if slot in queue.in_progress:
            del queue.in_progress[slot]
        else:
            queue.long_running.discard(slot)
        if queue.waiting:
            self._grant(uuid, queue)
        else:
            self._remove_if_empty(uuid, queue)

    def _grant(self, uuid: SessionId, queue: _Queue) -> None:
        """Grant free slots, and come back when a request in progress becomes long-running."""
        now = time.monotonic()
        self._set_aside(queue, now)
        while queue.waiting and len(queue.in_progress) < self._limit:
            granted = queue.waiting.popleft()
            if granted.cancelled():
                continue  # its client has gone away, and `acquire` has not run since
            slot = Slot(now)
            queue.in_progress[slot] = None
            granted.set_result(slot)
        if queue.waiting and queue.timer is None and len(queue.long_running) < self._limit:
            delay = max(0.0, next(iter(queue.in_progress)).begun + _LONG_RUNNING - now)
            queue.timer = asyncio.get_running_loop().call_later(delay, self._on_timer, uuid, queue)

    def _set_aside(self, queue: _Queue, now: float) -> None:
        """Let long-running requests give up their slots, as many as others wait for."""
        for slot in list(queue.in_progress):
            needed = len(queue.in_progress) - self._limit + len(queue.waiting) > 0
            if not needed or len(queue.long_running) >= self._limit or now - slot.begun < _LONG_RUNNING:
                break
            del queue.in_progress[slot]
            queue.long_running.add(slot)

    def _on_timer(self, uuid: SessionId, queue: _Queue) -> None:
        queue.timer = None
        if queue.waiting:
            self._grant(uuid, queue)

    def _remove_if_empty(self, uuid: SessionId, queue: _Queue) -> None:
        if queue.in_progress or queue.long_running or queue.waiting or self._queues.get(uuid) is not queue:
            return
        if queue.timer is not None:
            queue.timer.cancel()
        del self._queues[uuid]
