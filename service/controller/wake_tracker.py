"""Follows each wake from its push to a ready pod, and each pod until it sleeps, for metrics, events, history and log.

Every replica tracks the wakes that it accepted itself, and the leader those of all sessions. A change of an awake
session is compared with what is known of it, and causes no call.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from service.controller.journal_writer import JournalWriter
from service.controller.leadership import Leadership
from service.controller.pod_lives import PodLives
from service.controller.progress_writer import ProgressWriter
from service.controller.wake_timer import WakeTimer
from service.domain.backoff import Backoff
from service.domain.clock import utc_now
from service.domain.errors import Unavailable
from service.domain.lifecycle import Step
from service.domain.names import SessionId
from service.domain.observers import StepObserver, WakeObserver, isolated
from service.domain.ports import PodEvents, WorkloadCache
from service.domain.progress import ProgressUpdate, Stage
from service.domain.workload import Workload

log = logging.getLogger(__name__)

_EXPIRY = 5.0
"""Seconds between two checks for wakes that will never finish."""
_RETRY = (1.0, 30.0)
"""Seconds between two subscriptions to the pods' events: without these, progress has less detail."""
_STAGE_OF = {Step.SCALE_UP: Stage.SCALED, Step.UNPARK: Stage.UNPARKED}
"""Stages that are known to be reached before the cache shows it."""


class WakeTracker(WakeObserver, StepObserver):
    """The only subscriber of the cache for all that it feeds."""

    def __init__(
        self,
        *,
        cache: WorkloadCache,
        pod_events: PodEvents,
        leadership: Leadership,
        timer: WakeTimer,
        progress: ProgressWriter,
        transitions: JournalWriter,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._cache = cache
        self._pod_events = pod_events
        self._leadership = leadership
        self._timer = timer
        self._progress = progress
        self._transitions = transitions
        self._now = now
        self._lives = PodLives()

    def on_wake(self, uuid: SessionId) -> None:
        workload = self._cache.workload(uuid)
        isolated(self._timer.start, workload, self._now())
        if workload.ready == 0:
            self._progress.follow(uuid)

    def on_step_started(self, uuid: SessionId, step: Step) -> None:
        """The start of a scale-up accepts a push by another program; at its end the pod may already be ready."""
        if step is Step.SCALE_UP:
            self._progress.follow(uuid, ProgressUpdate(Stage.ACCEPTED))

    def on_step_done(self, uuid: SessionId, step: Step) -> None:
        awake = self._cache.workload(uuid).ready > 0
        if step is Step.PARK and not awake:
            self._progress.end(uuid)
        stage = _STAGE_OF.get(step)
        if stage is not None:
            isolated(self._timer.reach, uuid, stage)
            if not awake:
                self._progress.follow(uuid, ProgressUpdate(stage))

    def changed(self, uuid: SessionId) -> None:
        """The cache shows a change of the session."""
        workload = self._cache.workload(uuid)
        isolated(self._timer.observe, workload)
        isolated(self._observe_life, workload)
        if self._progress.follows(uuid) or (self._leadership.held and _is_starting(workload)):
            self._progress.follow(uuid)

    def _observe_life(self, workload: Workload) -> None:
        for transition in self._lives.observe(workload, self._now()):
            self._transitions.on_transition(transition)

    async def run(self) -> None:
        """Track until cancelled."""
        unsubscribe = self._cache.subscribe(self.changed)
        try:
            self._lives.start(map(self._cache.workload, self._cache.uuids()), self._now())
            while True:
                await asyncio.sleep(_EXPIRY)
                self._timer.expire()
        finally:
            unsubscribe()

    async def lead(self) -> None:
        """Follow the wakes of all sessions, and the events of their pods, until cancelled."""
        for uuid in self._cache.uuids():
            if _is_starting(self._cache.workload(uuid)):
                self._progress.follow(uuid)
        backoff, clock = Backoff(*_RETRY), asyncio.get_running_loop().time
        while True:
            began = clock()
            await self._follow_pod_events()
            if clock() - began > _RETRY[1]:
                backoff.reset()
            await asyncio.sleep(backoff.next())

    async def _follow_pod_events(self) -> None:
        try:
            async for uuid, pod_uid, update in self._pod_events.updates():
                pod = self._cache.workload(uuid).pod
                # An event may still come from the pod of an earlier life.
                if self._progress.follows(uuid) and (pod is None or pod.uid == pod_uid):
                    # An image is pulled onto a node that the cache may not show yet.
                    earlier = [ProgressUpdate(Stage.SCHEDULED)] if update.stage is Stage.PULLED else []
                    self._progress.follow(uuid, *earlier, update)
        except Unavailable as unavailable:
            log.warning("progress lacks the pods' events until %s answers", unavailable.part)


def _is_starting(workload: Workload) -> bool:
    return workload.replicas > workload.ready
