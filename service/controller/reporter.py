"""Notes how wakes come along, from what the cache shows of sessions that are on their way to a ready pod.

Each replica reports the wakes that it took itself, and the leader those of all others. What two report is noted once.
An awake session costs a comparison per change, and nothing else.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from service.controller.work_queue import WorkQueue
from service.domain.backoff import Backoff
from service.domain.errors import SessionError, SessionReleased, Unavailable
from service.domain.lifecycle import Step
from service.domain.names import SessionId
from service.domain.ports import PodEvents, Progress, Queues, WorkloadCache
from service.domain.progress import ProgressUpdate, Stage, reached
from service.domain.session import Workload

log = logging.getLogger(__name__)

_AT_ONCE = 16
"""Sessions noted of at the same moment: half of the connections to Redis."""
_GLANCE = 1.0
"""Seconds between two looks at everybody who is on the way: a pod's deadline passes without any change."""
_RETRY = (0.25, 5.0)
"""Seconds: the first pause after a failure, and the longest."""
_HEAR_AGAIN = (1.0, 30.0)
"""The same for the pods' events, without which a wake is told with fewer words."""
_GIVE_UP = 10
"""Failures in a row, of a kind that nobody expects, after which a wake is reported no further."""
_CARRIED_OUT: dict[Step, tuple[ProgressUpdate, ...]] = {
    Step.SCALE_UP: (ProgressUpdate(Stage.SCALED),),
    Step.UNPARK: (ProgressUpdate(Stage.UNPARKED),),
    Step.PARK: (),
}
_ORDER = list(Stage)


@dataclass
class _Way:
    """What this replica knows of one wake."""

    told: list[ProgressUpdate] = field(default_factory=list)
    """By others than the cache, and still to be noted."""
    noted: set[ProgressUpdate] = field(default_factory=set)
    stood: bool = False
    """The cache has shown the release whole: before, it may only be behind."""
    rose: bool = False
    """A pod was wanted: none wanted any more is an end, unless the queue says otherwise."""


class Reporter:
    """See the module."""

    def __init__(self, *, progress: Progress, queues: Queues, cache: WorkloadCache, pod_events: PodEvents) -> None:
        self._progress = progress
        self._queues = queues
        self._cache = cache
        self._pod_events = pod_events
        self._leading = False
        self._ways: dict[SessionId, _Way] = {}
        self._work: WorkQueue[SessionId] = WorkQueue(first=_RETRY[0], longest=_RETRY[1])

    # --- being told ---

    def on_wake(self, uuid: SessionId) -> None:
        """This replica has taken a wake, or a heartbeat of an awake session."""
        if self._cache.workload(uuid).ready == 0:
            self._look_at(uuid)

    def on_step_started(self, uuid: SessionId, step: Step) -> None:
        """The reconciler of this replica is about to do this: nobody has accepted a push by somebody else before.

        Not told when it is done: the pod may be ready by then.
        """
        if step is Step.SCALE_UP:
            self._look_at(uuid, [ProgressUpdate(Stage.ACCEPTED)])

    def on_step_done(self, uuid: SessionId, step: Step) -> None:
        """The reconciler of this replica has done this."""
        if self._cache.workload(uuid).ready == 0 and step in _CARRIED_OUT:
            self._look_at(uuid, _CARRIED_OUT[step])
            # Who is parked in the middle of a wake has been given up, maybe while no replica was there to see it.
            self._ways[uuid].rose |= step is Step.PARK

    def changed(self, uuid: SessionId) -> None:
        """The cache has changed."""
        if uuid in self._ways or (self._leading and _on_the_way(self._cache.workload(uuid))):
            self._look_at(uuid)

    def _look_at(self, uuid: SessionId, news: Iterable[ProgressUpdate] = ()) -> None:
        self._ways.setdefault(uuid, _Way()).told.extend(news)
        self._work.add(uuid)

    # --- noting ---

    async def run(self) -> None:
        """Work until cancelled."""
        unsubscribe = self._cache.subscribe(self.changed)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(self._looks())
        finally:
            unsubscribe()
            self._work.release()

    async def _looks(self) -> None:
        while True:
            for uuid in await self._work.get():
                await self._look(uuid)
                self._work.done(uuid)

    async def _look(self, uuid: SessionId) -> None:
        way = self._ways.get(uuid)
        if way is None:
            return  # it has arrived since
        try:
            over = await self._note(uuid, way)
        except SessionError as error:
            over = False
            self._again(uuid, str(error))
        except Exception as error:
            log.exception("the progress of a wake cannot be noted", extra={"uuid": uuid})
            over = self._work.failures(uuid) >= _GIVE_UP
            if not over:
                self._again(uuid, type(error).__name__)
        else:
            if not over:
                self._work.forget(uuid)
                self._work.add_after(uuid, _GLANCE)
        if over:
            self._work.forget(uuid)
            del self._ways[uuid]

    def _again(self, uuid: SessionId, why: str) -> None:
        """Try again after a pause that grows with every failure."""
        pause = self._work.add_rate_limited(uuid)
        log.warning("progress is to be noted again in %.2f s: %s", pause, why, extra={"uuid": uuid})

    async def _note(self, uuid: SessionId, way: _Way) -> bool:
        """Note what is new; whether there is nothing to come any more."""
        told, workload = len(way.told), self._cache.workload(uuid)
        way.stood |= workload.broken_reason is None
        way.rose |= workload.replicas > 0
        if workload.replicas == 0:
            way.noted.clear()  # whatever was noted may be of the wake before: one that failed and is begun anew
        found = {*way.told, *reached(workload), *await self._ends(workload, way)}
        fresh = sorted(found - way.noted, key=lambda news: _ORDER.index(news.stage))
        taken = not fresh or await self._progress.note(uuid, *fresh)
        way.noted.update(fresh)
        del way.told[:told]
        over = any(news.stage in (Stage.READY, Stage.ASLEEP) for news in fresh)
        return over or not taken or (way.stood and workload.broken_reason is not None)

    async def _ends(self, workload: Workload, way: _Way) -> list[ProgressUpdate]:
        """The ends that are not the pod's own."""
        if workload.broken_reason:
            reason = SessionReleased.message if workload.released else workload.broken_reason
            return [ProgressUpdate(Stage.FAILED, reason, final=True)] if way.stood else []
        if workload.replicas == 0 and way.rose:
            queue = (await self._queues.read([workload.uuid]))[workload.uuid]
            return [] if queue.is_wanted else [ProgressUpdate(Stage.ASLEEP)]
        return []

    # --- leading ---

    async def lead(self) -> None:
        """Report all wakes, and what Kubernetes tells of their pods, until cancelled."""
        self._leading = True
        try:
            for uuid in self._cache.uuids():
                self.changed(uuid)
            pauses, clock = Backoff(*_HEAR_AGAIN), asyncio.get_running_loop().time
            while True:
                began = clock()
                await self._hear()
                if clock() - began > _HEAR_AGAIN[1]:
                    pauses.reset()
                await asyncio.sleep(pauses.next())
        finally:
            self._leading = False

    async def _hear(self) -> None:
        try:
            async for uuid, pod_uid, news in self._pod_events.news():
                pod = self._cache.workload(uuid).pod
                # A pod of the life before may still have something to say.
                if uuid in self._ways and (pod is None or pod.uid == pod_uid):
                    # An image is pulled onto a node, which the cache may not have shown yet.
                    self._look_at(
                        uuid, [ProgressUpdate(Stage.SCHEDULED), news] if news.stage is Stage.PULLED else [news]
                    )
        except Unavailable as unavailable:
            log.warning("the pods' events wait for %s", unavailable.part)


def _on_the_way(workload: Workload) -> bool:
    return workload.replicas > workload.ready
