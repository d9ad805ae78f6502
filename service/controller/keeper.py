"""Carries out the steps that `domain.lifecycle` finds due, for one session at a time and many sessions at once.

Told of a session by anybody (`tend`), it reads the pulses of all it was told of in one go, and acts where view and
pulse call for it. Nothing is remembered between two looks, so it does not matter how often it is told, by whom, or how
many keepers there are.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from service.controller.pace import Pace
from service.domain.errors import SessionError, SessionReleased, Unavailable
from service.domain.lifecycle import Step, served, steps
from service.domain.names import SessionId
from service.domain.ports import Cluster, Queues, View
from service.domain.session import Pulse, Rhythm

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
"""How long what the cluster was asked for is trusted to show in the view, before it is asked for again."""
_MINE = timedelta(seconds=60)
"""How long a replica looks after a wake that it took itself, whoever leads."""


class Keeper:
    """See the module. `parks_per_second`, `unparks_per_second` and `patience` hold back the writes nobody waits for."""

    def __init__(
        self,
        *,
        queues: Queues,
        cluster: Cluster,
        view: View,
        rhythm: Rhythm,
        parking: bool = True,
        parks_per_second: float = 50,
        unparks_per_second: float = 20,
        patience: timedelta = timedelta(seconds=30),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._queues = queues
        self._cluster = cluster
        self._view = view
        self._rhythm = rhythm
        self._parking = parking
        self._pace = Pace(parks_per_second)
        self._unparks = Pace(unparks_per_second)
        self._patience = patience
        """How long unparks wait for pods that are being started."""
        self._clock = clock
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._parks = asyncio.Semaphore(_PARKS_AT_ONCE)
        self._told: dict[SessionId, None] = {}
        """Whom to look at, in the order of telling."""
        self._swept: dict[SessionId, None] = {}
        """Whom to look at when there is nobody else."""
        self._busy: set[SessionId] = set()
        self._mine: dict[SessionId, datetime] = {}
        self._starting: dict[SessionId, datetime] = {}
        """Whose pod this keeper has asked for, and when; until it is ready."""
        self._put_off: dict[SessionId, None] = {}
        """Who waits for an unpark, in the order of coming."""
        self._resumed_at_once = max(1, int(unparks_per_second * _RETRY[0]))
        self._resumption: asyncio.TimerHandle | None = None
        self._asked: dict[SessionId, tuple[frozenset[Step], datetime]] = {}
        """What the cluster was asked for and the view does not show yet."""
        self._failures: Counter[SessionId] = Counter()
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.leading = False
        """Whether this keeper looks after every change, or only after the wakes that its own replica took."""
        self.done: Counter[Step] = Counter()
        """Steps carried out so far."""
        self.retries = 0
        """Looks at a session that were put off because a step had failed."""
        self.begins: Callable[[SessionId, Step], None] = lambda _uuid, _step: None
        self.carried_out: Callable[[SessionId, Step], None] = lambda _uuid, _step: None

    def tend(self, uuid: SessionId) -> None:
        """Look at this session soon. Returns at once; may be called from anywhere in the loop's thread."""
        self._told[uuid] = None
        self._news.set()

    def sweep(self, uuid: SessionId) -> None:
        """Look at this session when there is time."""
        self._swept[uuid] = None
        self._news.set()

    def woken(self, uuid: SessionId) -> None:
        """This replica has taken a wake: it sees to it until it is settled, whoever leads."""
        self._mine[uuid] = self._clock()
        self.tend(uuid)

    def changed(self, uuid: SessionId) -> None:
        """The view has changed."""
        if uuid in self._asked:
            self._shown(uuid)
        if self.leading or uuid in self._mine:
            self.tend(uuid)

    def _shown(self, uuid: SessionId) -> None:
        workload, (asked, at) = self._view.workload(uuid), self._asked.pop(uuid)
        shown = {Step.SCALE_UP: workload.replicas > 0, Step.UNPARK: not workload.parked}
        if left := frozenset(step for step in asked if not shown[step]):
            self._asked[uuid] = (left, at)

    async def run(self) -> None:
        """Work until cancelled."""
        unsubscribe = self._view.subscribe(self.changed)
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while batch := self._next():
                    await self._look(batch)
        finally:
            unsubscribe()
            if self._resumption is not None:
                self._resumption.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _next(self) -> list[SessionId]:
        """Those to look at who are not being worked on; the others are looked at when that ends."""
        batch = [uuid for uuid in self._told if uuid not in self._busy][:_BATCH]
        for uuid in batch:
            del self._told[uuid]
        if batch:
            return batch
        swept = list(islice(self._swept, _SWEEP_BATCH))
        for uuid in swept:
            del self._swept[uuid]
        # Who is being worked on has been looked at just now.
        return [uuid for uuid in swept if uuid not in self._busy]

    async def _look(self, batch: list[SessionId]) -> None:
        try:
            pulses = await self._queues.pulses(batch)
        except Unavailable as unavailable:
            log.warning("the keeper waits for %s", unavailable.part)
            self._told = dict.fromkeys(batch) | self._told
            await asyncio.sleep(_RETRY[0])
            return
        now = self._clock()
        for uuid in batch:
            due = self._bounded(uuid, self._due(uuid, pulses[uuid], now), now)
            if due:
                self._start(uuid, due, pulses[uuid], now)
            else:
                self._failures.pop(uuid, None)
            if uuid in self._mine and (pulses[uuid].pending_since is None or now - self._mine[uuid] > _MINE):
                del self._mine[uuid]

    def _due(self, uuid: SessionId, pulse: Pulse, now: datetime) -> frozenset[Step]:
        due = steps(self._view.workload(uuid), pulse, now=now, parking=self._parking, rhythm=self._rhythm)
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
                self.tend(uuid)
        if self._put_off:
            self._resumption = asyncio.get_running_loop().call_later(_RETRY[0], self._resume)

    def _starts_many(self, now: datetime) -> bool:
        for uuid, since in list(self._starting.items()):
            if self._view.workload(uuid).ready or now - since >= self._patience:
                del self._starting[uuid]
            elif len(self._starting) <= _FEW:
                break
        return len(self._starting) > _FEW

    def _start(self, uuid: SessionId, due: frozenset[Step], pulse: Pulse, now: datetime) -> None:
        self._busy.add(uuid)
        asked = due & {Step.SCALE_UP, Step.UNPARK}
        if asked:
            # Before the request, since the view may show what came of it before its answer is here.
            self._asked[uuid] = (asked | self._asked.get(uuid, (asked,))[0], now)
        task = asyncio.create_task(self._work(uuid, due, pulse))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, uuid: SessionId, due: frozenset[Step], pulse: Pulse) -> None:
        try:
            if Step.PARK in due:
                async with self._parks:
                    await self._park(uuid)
            else:
                async with self._slots:
                    await self._carry_out(uuid, due, pulse)
            self._failures.pop(uuid, None)
        except SessionReleased:
            log.info("the session is gone", extra={"uuid": uuid})
        except SessionError as error:
            self._again(uuid, error)
        except Exception:
            log.exception("the keeper failed", extra={"uuid": uuid})
            self._again(uuid, None)
        finally:
            self._busy.discard(uuid)
            self._news.set()

    def _again(self, uuid: SessionId, error: SessionError | None) -> None:
        """Look again after a pause that grows with every failure."""
        self._asked.pop(uuid, None)
        pause = min(_RETRY[1], _RETRY[0] * 2 ** self._failures[uuid])
        self._failures[uuid] += 1
        self.retries += 1
        log.warning("to be tried again in %.2f s: %s", pause, error, extra={"uuid": uuid})
        asyncio.get_running_loop().call_later(pause, self.tend, uuid)

    async def _carry_out(self, uuid: SessionId, due: frozenset[Step], pulse: Pulse) -> None:
        """All steps of a wake side by side: each alone does no harm, and together they are as fast as the slowest."""
        workload = self._view.workload(uuid)
        lease = (workload.rhythm or self._rhythm).lease
        settled = served(workload, pulse, self._clock()) or self._clock()
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
        await self._pace.turn()
        pulse = (await self._queues.pulses([uuid]))[uuid]
        if Step.PARK not in self._due(uuid, pulse, self._clock()):
            self.tend(uuid)
            return
        # Who came in between is found by the next look, which the view's news of this very park brings about.
        await self._note(uuid, Step.PARK, self._cluster.park(uuid))
