"""Carries out the steps that `domain.lifecycle` finds due, for many sessions at the same time.

Anybody may `enqueue` a session. The wake queues of a batch are read in one call, and each session whose cached workload
does not match its queue gets the steps that it lacks. Reconciling is level-triggered: it does not matter how often a
session is enqueued, by whom, or how many reconcilers there are.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.controller.leadership import Leadership
from service.controller.work_queue import WorkQueue
from service.domain.clock import utc_now
from service.domain.errors import SessionError, SessionReleased, Unavailable
from service.domain.idle_times import IdleTimes
from service.domain.lifecycle import Step, renewal, settled_until, steps
from service.domain.names import SessionId
from service.domain.observers import StepObserver, WakeObserver, isolated
from service.domain.ports import Cluster, Queues, WorkloadCache
from service.domain.queue_state import QueueState
from service.domain.rate_limiter import RateLimiter

log = logging.getLogger(__name__)

_BATCH = 500
_RESYNC_BATCH = 100
"""Smaller, since a resync must not delay sessions that something has happened to."""
_CONCURRENT = 64
"""Sessions that steps are carried out for at the same time."""
_CONCURRENT_PARKS = 8
_FEW_STARTS = 4
"""Unparks are deferred while more pods than this are starting."""
_RETRY = (0.25, 5.0)
"""Seconds: the first pause after a failure, and the longest."""
_EXPECTATION = timedelta(seconds=5)
"""How long a write is expected to show in the cache before it is repeated."""
_OWN_WAKE = timedelta(seconds=60)
"""How long a replica follows a wake that it accepted itself, even if it does not lead."""
_WAKE_STEPS = (Step.SCALE_UP, Step.UNPARK, Step.RENEW, Step.SETTLE)
"""In the order of starting: the pod matters most."""
_EXPECTED = frozenset({Step.SCALE_UP, Step.UNPARK})
"""Steps whose effect the cache shows."""


@dataclass(slots=True)
class _Expectation:
    """Writes that the cache does not show yet, as client-go's expectations."""

    steps: frozenset[Step]
    since: datetime


class Reconciler(WakeObserver):
    """See the module.

    `parks_per_second`, `unparks_per_second` and `defer_unparks` slow down the writes that nobody waits for;
    `defer_unparks` is the longest time that unparks wait for starting pods.
    """

    def __init__(
        self,
        *,
        queues: Queues,
        cluster: Cluster,
        cache: WorkloadCache,
        idle_times: IdleTimes,
        leadership: Leadership,
        observers: Sequence[StepObserver] = (),
        parking: bool = True,
        parks_per_second: float = 50,
        unparks_per_second: float = 20,
        defer_unparks: timedelta = timedelta(seconds=30),
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._queues = queues
        self._cluster = cluster
        self._cache = cache
        self._idle_times = idle_times
        self._leadership = leadership
        self._observers = observers
        self._parking = parking
        self._park_limiter = RateLimiter(parks_per_second)
        self._unpark_limiter = RateLimiter(unparks_per_second)
        self._defer_unparks = defer_unparks
        self._clock = clock
        self._workers = asyncio.Semaphore(_CONCURRENT)
        self._parkers = asyncio.Semaphore(_CONCURRENT_PARKS)
        self._work: WorkQueue[SessionId] = WorkQueue(
            batch=_BATCH, low_batch=_RESYNC_BATCH, first=_RETRY[0], longest=_RETRY[1]
        )
        self._own_wakes: dict[SessionId, datetime] = {}
        """When this replica accepted them."""
        self._starting: dict[SessionId, datetime] = {}
        """When this reconciler requested the pods that are not ready yet."""
        self._deferred_unparks: dict[SessionId, None] = {}
        """Oldest first."""
        self._requeued_at_once = max(1, int(unparks_per_second * _RETRY[0]))
        self._requeue_timer: asyncio.TimerHandle | None = None
        self._expectations: dict[SessionId, _Expectation] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.done: Counter[Step] = Counter()
        """Steps carried out since the start of the process."""

    @property
    def retries(self) -> int:
        """Reconciliations that were put off because a step failed."""
        return self._work.retries

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or in progress; sessions may still wait for a retry."""
        return not len(self._work) and not self._work.in_progress

    def enqueue(self, uuid: SessionId) -> None:
        """Reconcile the session soon. Returns at once; call it from the event loop's thread."""
        self._work.add(uuid)

    def resync(self, uuid: SessionId) -> None:
        """Reconcile the session when nothing more urgent is queued."""
        self._work.add(uuid, low=True)

    def on_wake(self, uuid: SessionId) -> None:
        """This replica accepted a wake: it follows the session until the wake is settled, whoever leads."""
        self._own_wakes[uuid] = self._clock()
        self.enqueue(uuid)

    def changed(self, uuid: SessionId) -> None:
        """The cache shows a change of the session."""
        if uuid in self._expectations:
            self._meet_expectations(uuid)
        if self._leadership.held or uuid in self._own_wakes:
            self.enqueue(uuid)

    def _meet_expectations(self, uuid: SessionId) -> None:
        workload, expectation = self._cache.workload(uuid), self._expectations[uuid]
        met = {Step.SCALE_UP: workload.replicas > 0, Step.UNPARK: not workload.parked}
        expectation.steps = frozenset(step for step in expectation.steps if not met[step])
        if not expectation.steps:
            del self._expectations[uuid]

    async def run(self) -> None:
        """Reconcile until cancelled."""
        unsubscribe = self._cache.subscribe(self.changed)
        try:
            while True:
                await self._process(await self._work.get())
        finally:
            unsubscribe()
            if self._requeue_timer is not None:
                self._requeue_timer.cancel()
                self._requeue_timer = None
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._work.release()
            self._expectations.clear()

    async def _process(self, batch: list[SessionId]) -> None:
        try:
            queue_states = await self._read_queues(batch)
        except Unavailable as unavailable:
            log.warning("sessions are not reconciled until %s answers", unavailable.part)
            self._work.put_back(batch)
            await asyncio.sleep(_RETRY[0])
            return
        now = self._clock()
        for uuid, queue in queue_states.items():
            try:
                started = self._reconcile(uuid, queue, now)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._retry(uuid, error)
                started = False
            if not started:
                self._work.done(uuid)

    async def _read_queues(self, batch: Sequence[SessionId]) -> dict[SessionId, QueueState]:
        """The queues that can be read. A session that makes the call fail is retried later, without the others."""
        try:
            found = await self._queues.read(batch)
            return {uuid: found[uuid] for uuid in batch}
        except Unavailable:
            raise
        except Exception as error:
            if len(batch) == 1:
                self._retry(batch[0], error)
                self._work.done(batch[0])
                return {}
            log.exception("a batch of queues cannot be read; searching for the session that causes it")
        middle = len(batch) // 2
        return {**await self._read_queues(batch[:middle]), **await self._read_queues(batch[middle:])}

    def _reconcile(self, uuid: SessionId, queue: QueueState, now: datetime) -> bool:
        """Start the steps that are due; returns whether there are any, and then a task calls `done`."""
        due = self._without_deferred(uuid, self._due(uuid, queue, now), now)
        if due:
            self._start(uuid, due, queue, now)
        else:
            self._work.forget(uuid)
        if uuid in self._own_wakes and (queue.pending_since is None or now - self._own_wakes[uuid] > _OWN_WAKE):
            del self._own_wakes[uuid]
        return bool(due)

    def _due(self, uuid: SessionId, queue: QueueState, now: datetime) -> frozenset[Step]:
        """The steps that are due and that the cache is not expected to show soon."""
        due = steps(self._cache.workload(uuid), queue, now=now, parking=self._parking, idle_times=self._idle_times)
        expectation = self._expectations.get(uuid)
        return due - expectation.steps if expectation and now - expectation.since < _EXPECTATION else due

    def _without_deferred(self, uuid: SessionId, due: frozenset[Step], now: datetime) -> frozenset[Step]:
        """Defer an unpark while more than a few pods are starting.

        Only the scale makes a wake fast. What KEDA does for each unpark would slow the scales down, and the wake is
        kept pending until KEDA has seen it anyway.
        """
        if Step.SCALE_UP in due:
            self._starting[uuid] = now
        if Step.UNPARK not in due or (not self._many_are_starting(now) and self._unpark_limiter.try_accept()):
            return due
        self._deferred_unparks[uuid] = None
        if self._requeue_timer is None:
            self._requeue_timer = asyncio.get_running_loop().call_later(_RETRY[0], self._requeue_deferred)
        return due - {Step.UNPARK}

    def _requeue_deferred(self) -> None:
        """Enqueue as many of the deferred unparks as the limit allows."""
        self._requeue_timer = None
        if not self._many_are_starting(self._clock()):
            for uuid in list(self._deferred_unparks)[: self._requeued_at_once]:
                del self._deferred_unparks[uuid]
                self.enqueue(uuid)
        if self._deferred_unparks:
            self._requeue_timer = asyncio.get_running_loop().call_later(_RETRY[0], self._requeue_deferred)

    def _many_are_starting(self, now: datetime) -> bool:
        for uuid, since in list(self._starting.items()):
            if self._cache.workload(uuid).ready or now - since >= self._defer_unparks:
                del self._starting[uuid]
            elif len(self._starting) <= _FEW_STARTS:
                break
        return len(self._starting) > _FEW_STARTS

    def _start(self, uuid: SessionId, due: frozenset[Step], queue: QueueState, now: datetime) -> None:
        if due & _EXPECTED:
            # Before the write, since the cache may show its effect before the API server's answer arrives.
            earlier = self._expectations.get(uuid)
            expected = due & _EXPECTED | (earlier.steps if earlier else frozenset())
            self._expectations[uuid] = _Expectation(expected, now)
        task = asyncio.create_task(self._execute(uuid, due, queue), name=f"reconcile {uuid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, uuid: SessionId, due: frozenset[Step], queue: QueueState) -> None:
        try:
            if Step.PARK in due:
                async with self._parkers:
                    await self._park(uuid)
            else:
                async with self._workers:
                    await self._wake(uuid, due, queue)
            self._work.forget(uuid)
        except asyncio.CancelledError:
            self._work.add(uuid)  # for the next run: which steps were carried out is unknown
            raise
        except SessionReleased:
            self._work.forget(uuid)
            log.info("the session's release is gone", extra={"uuid": uuid})
        except Exception as error:  # noqa: BLE001 - it is logged
            self._retry(uuid, error)
        finally:
            self._work.done(uuid)

    def _retry(self, uuid: SessionId, error: Exception) -> None:
        """Reconcile again after a pause that grows with every failure."""
        self._expectations.pop(uuid, None)
        if not isinstance(error, SessionError):
            log.error("a session cannot be reconciled", exc_info=error, extra={"uuid": uuid})
        pause = self._work.add_rate_limited(uuid)
        log.warning("reconciling again in %.2f s: %s", pause, error, extra={"uuid": uuid})

    async def _wake(self, uuid: SessionId, due: frozenset[Step], queue: QueueState) -> None:
        """Carry out the steps of a wake concurrently: none depends on another, so the slowest sets the time."""
        calls = (self._run_step(uuid, step, queue) for step in _WAKE_STEPS if step in due)
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def _park(self, uuid: SessionId) -> None:
        """Park the session, unless it is wanted by now."""
        await self._park_limiter.wait()
        queue = (await self._queues.read([uuid]))[uuid]
        if Step.PARK not in self._due(uuid, queue, self._clock()):
            self.enqueue(uuid)
            return
        # A wake that comes now is found by the reconciliation that the cache starts when it shows this park.
        await self._run_step(uuid, Step.PARK, queue)

    async def _run_step(self, uuid: SessionId, step: Step, queue: QueueState) -> None:
        for observer in self._observers:
            isolated(observer.on_step_started, uuid, step)
        await self._call(uuid, step, queue)
        if uuid in self._expectations:
            self._expectations[uuid].since = self._clock()
        self.done[step] += 1
        for observer in self._observers:
            isolated(observer.on_step_done, uuid, step)

    async def _call(self, uuid: SessionId, step: Step, queue: QueueState) -> None:
        workload = self._cache.workload(uuid)
        match step:
            case Step.SCALE_UP:
                await self._cluster.scale(uuid, 1)
            case Step.UNPARK:
                await self._cluster.unpark(uuid)
            case Step.PARK:
                await self._cluster.park(uuid)
            case Step.RENEW:
                await self._queues.renew(uuid, renewal(workload, workload.idle_times or self._idle_times))
            case Step.SETTLE:
                now = self._clock()
                await self._queues.settle(uuid, settled_until(workload, queue, now) or now)
