"""Carries out the steps that `domain.lifecycle` finds due, for one session at a time and many sessions at once.

A session that anybody names (`enqueue`) goes into a work queue. The queues of a batch are read in one go, and each
session is acted on where cache and queue call for it. Nothing is remembered between two looks, so it does not matter
how often a session is named, by whom, or how many reconcilers there are.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from service.controller.rate_limiter import RateLimiter
from service.controller.work_queue import WorkQueue
from service.domain.errors import SessionError, SessionReleased, Unavailable
from service.domain.lifecycle import Step, served, steps
from service.domain.names import SessionId
from service.domain.ports import Cluster, Queues, WorkloadCache
from service.domain.session import IdleTimes, QueueState

log = logging.getLogger(__name__)

_BATCH = 500
_SWEEP_BATCH = 100
"""Of those that nothing is known to have happened to: a look at many at once would hold up everything else."""
_AT_ONCE = 64
"""Sessions worked on at the same moment; more wait."""
_PARKS_AT_ONCE = 8
_FEW = 4
"""So many pods may be started while sessions are unparked."""
_RETRY = (0.25, 5.0)
"""Seconds: the first pause after a failure, and the longest."""
_ANSWERED = timedelta(seconds=5)
"""How long what the cluster was asked for is trusted to show in the cache, before it is asked for again."""
_MINE = timedelta(seconds=60)
"""How long a replica looks after a wake that it took itself, whoever leads."""


class Reconciler:
    """See the module. `parks_per_second`, `unparks_per_second` and `patience` hold back the writes nobody waits for."""

    def __init__(
        self,
        *,
        queues: Queues,
        cluster: Cluster,
        cache: WorkloadCache,
        idle_times: IdleTimes,
        parking: bool = True,
        parks_per_second: float = 50,
        unparks_per_second: float = 20,
        patience: timedelta = timedelta(seconds=30),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._queues = queues
        self._cluster = cluster
        self._cache = cache
        self._idle_times = idle_times
        self._parking = parking
        self._limiter = RateLimiter(parks_per_second)
        self._unparks = RateLimiter(unparks_per_second)
        self._patience = patience
        """How long unparks wait for pods that are being started."""
        self._clock = clock
        self._admission = asyncio.Semaphore(_AT_ONCE)
        self._parks = asyncio.Semaphore(_PARKS_AT_ONCE)
        self._work: WorkQueue[SessionId] = WorkQueue(
            batch=_BATCH, low_batch=_SWEEP_BATCH, first=_RETRY[0], longest=_RETRY[1]
        )
        self._mine: dict[SessionId, datetime] = {}
        self._starting: dict[SessionId, datetime] = {}
        """Whose pod this reconciler has asked for, and when; until it is ready."""
        self._put_off: dict[SessionId, None] = {}
        """Who waits for an unpark, in the order of coming."""
        self._resumed_at_once = max(1, int(unparks_per_second * _RETRY[0]))
        self._resumption: asyncio.TimerHandle | None = None
        self._asked: dict[SessionId, tuple[frozenset[Step], datetime]] = {}
        """What the cluster was asked for and the cache does not show yet."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.leading = False
        """Whether this reconciler looks after every change, or only after the wakes that its own replica took."""
        self.done: Counter[Step] = Counter()
        """Steps carried out so far."""
        self.begins: Callable[[SessionId, Step], None] = lambda _uuid, _step: None
        self.carried_out: Callable[[SessionId, Step], None] = lambda _uuid, _step: None

    @property
    def retries(self) -> int:
        """Looks at a session that were put off because a step had failed."""
        return self._work.retries

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or in progress; what waits for a retry may be left."""
        return not len(self._work) and not self._work.in_progress

    def enqueue(self, uuid: SessionId) -> None:
        """Look at this session soon. Returns at once; may be called from anywhere in the loop's thread."""
        self._work.add(uuid)

    def sweep(self, uuid: SessionId) -> None:
        """Look at this session when there is time."""
        self._work.add(uuid, low=True)

    def on_wake(self, uuid: SessionId) -> None:
        """This replica has taken a wake: it sees to it until it is settled, whoever leads."""
        self._mine[uuid] = self._clock()
        self.enqueue(uuid)

    def changed(self, uuid: SessionId) -> None:
        """The cache has changed."""
        if uuid in self._asked:
            self._shown(uuid)
        if self.leading or uuid in self._mine:
            self.enqueue(uuid)

    def _shown(self, uuid: SessionId) -> None:
        workload, (asked, at) = self._cache.workload(uuid), self._asked.pop(uuid)
        shown = {Step.SCALE_UP: workload.replicas > 0, Step.UNPARK: not workload.parked}
        if left := frozenset(step for step in asked if not shown[step]):
            self._asked[uuid] = (left, at)

    async def run(self) -> None:
        """Work until cancelled."""
        unsubscribe = self._cache.subscribe(self.changed)
        try:
            while True:
                await self._look(await self._work.get())
        finally:
            unsubscribe()
            if self._resumption is not None:
                self._resumption.cancel()
                self._resumption = None
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._work.release()
            self._asked.clear()

    async def _look(self, batch: list[SessionId]) -> None:
        try:
            queue_states = await self._read_queues(batch)
        except Unavailable as unavailable:
            log.warning("the keeper waits for %s", unavailable.part)
            self._work.put_back(batch)
            await asyncio.sleep(_RETRY[0])
            return
        now = self._clock()
        for uuid, queue in queue_states.items():
            try:
                started = self._act(uuid, queue, now)
            except Exception:
                log.exception("the keeper failed", extra={"uuid": uuid})
                self._again(uuid, None)
                started = False
            if not started:
                self._work.done(uuid)

    async def _read_queues(self, batch: Sequence[SessionId]) -> dict[SessionId, QueueState]:
        """The queue_states of those that can be read. Whoever makes the read fail is put off; the others are not."""
        try:
            found = await self._queues.read(batch)
            return {uuid: found[uuid] for uuid in batch}
        except Unavailable:
            raise
        except Exception as error:
            if len(batch) == 1:
                log.warning("its queue cannot be read: %r", error, extra={"uuid": batch[0]})
                self._again(batch[0], None)
                self._work.done(batch[0])
                return {}
            log.exception("the queues of a batch cannot be read; looking for the one that is at fault")
        middle = len(batch) // 2
        return {**await self._read_queues(batch[:middle]), **await self._read_queues(batch[middle:])}

    def _act(self, uuid: SessionId, queue: QueueState, now: datetime) -> bool:
        """Start what is due for the session; whether there is anything, which then calls `done`."""
        due = self._bounded(uuid, self._due(uuid, queue, now), now)
        if due:
            self._start(uuid, due, queue, now)
        else:
            self._work.forget(uuid)
        if uuid in self._mine and (queue.pending_since is None or now - self._mine[uuid] > _MINE):
            del self._mine[uuid]
        return bool(due)

    def _due(self, uuid: SessionId, queue: QueueState, now: datetime) -> frozenset[Step]:
        due = steps(self._cache.workload(uuid), queue, now=now, parking=self._parking, idle_times=self._idle_times)
        asked, at = self._asked.get(uuid, (frozenset[Step](), now))
        return due - asked if now - at < _ANSWERED else due

    def _bounded(self, uuid: SessionId, due: frozenset[Step], now: datetime) -> frozenset[Step]:
        """Put off an unpark while more than a few pods are being started.

        The scale is what makes a wake fast; what KEDA does for each unpark would only get in its way, and the wake is
        held until KEDA has seen it.
        """
        if Step.SCALE_UP in due:
            self._starting[uuid] = now
        if Step.UNPARK not in due or (not self._starts_many(now) and self._unparks.free()):
            return due
        self._put_off[uuid] = None
        if self._resumption is None:
            self._resumption = asyncio.get_running_loop().call_later(_RETRY[0], self._resume)
        return due - {Step.UNPARK}

    def _resume(self) -> None:
        """Look again at as many of those put off as may go by now."""
        self._resumption = None
        if not self._starts_many(self._clock()):
            for uuid in list(self._put_off)[: self._resumed_at_once]:
                del self._put_off[uuid]
                self.enqueue(uuid)
        if self._put_off:
            self._resumption = asyncio.get_running_loop().call_later(_RETRY[0], self._resume)

    def _starts_many(self, now: datetime) -> bool:
        for uuid, since in list(self._starting.items()):
            if self._cache.workload(uuid).ready or now - since >= self._patience:
                del self._starting[uuid]
            elif len(self._starting) <= _FEW:
                break
        return len(self._starting) > _FEW

    def _start(self, uuid: SessionId, due: frozenset[Step], queue: QueueState, now: datetime) -> None:
        asked = due & {Step.SCALE_UP, Step.UNPARK}
        if asked:
            # Before the request, since the cache may show what came of it before its answer is here.
            self._asked[uuid] = (asked | self._asked.get(uuid, (asked,))[0], now)
        task = asyncio.create_task(self._carried(uuid, due, queue))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carried(self, uuid: SessionId, due: frozenset[Step], queue: QueueState) -> None:
        try:
            if Step.PARK in due:
                async with self._parks:
                    await self._park(uuid)
            else:
                async with self._admission:
                    await self._carry_out(uuid, due, queue)
            self._work.forget(uuid)
        except asyncio.CancelledError:
            self._work.add(uuid)  # for the next run: nobody knows how far this one came
            raise
        except SessionReleased:
            self._work.forget(uuid)
            log.info("the session is gone", extra={"uuid": uuid})
        except SessionError as error:
            self._again(uuid, error)
        except Exception:
            log.exception("the keeper failed", extra={"uuid": uuid})
            self._again(uuid, None)
        finally:
            self._work.done(uuid)

    def _again(self, uuid: SessionId, error: SessionError | None) -> None:
        """Look again after a pause that grows with every failure."""
        self._asked.pop(uuid, None)
        pause = self._work.add_rate_limited(uuid)
        log.warning("to be tried again in %.2f s: %s", pause, error, extra={"uuid": uuid})

    async def _carry_out(self, uuid: SessionId, due: frozenset[Step], queue: QueueState) -> None:
        """All steps of a wake side by side: each alone does no harm, and together they are as fast as the slowest."""
        workload = self._cache.workload(uuid)
        lease = (workload.idle_times or self._idle_times).lease
        settled = served(workload, queue, self._clock()) or self._clock()
        acts: dict[Step, Callable[[], Coroutine[Any, Any, None]]] = {
            Step.SCALE_UP: lambda: self._cluster.scale(uuid, 1),
            Step.UNPARK: lambda: self._cluster.unpark(uuid),
            Step.RENEW: lambda: self._queues.renew(uuid, lease),
            Step.SETTLE: lambda: self._queues.settle(uuid, settled),
        }
        order = [step for step in acts if step in due]
        results = await asyncio.gather(
            *(self._note(uuid, step, acts[step]()) for step in order), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _note(self, uuid: SessionId, step: Step, act: Coroutine[Any, Any, None]) -> None:
        self.begins(uuid, step)
        await act
        if uuid in self._asked:
            self._asked[uuid] = (self._asked[uuid][0], self._clock())
        self.done[step] += 1
        self.carried_out(uuid, step)

    async def _park(self, uuid: SessionId) -> None:
        """Park, unless it is wanted by now."""
        await self._limiter.turn()
        queue = (await self._queues.read([uuid]))[uuid]
        if Step.PARK not in self._due(uuid, queue, self._clock()):
            self.enqueue(uuid)
            return
        # Who came in between is found by the next look, which the cache's news of this very park brings about.
        await self._note(uuid, Step.PARK, self._cluster.park(uuid))
