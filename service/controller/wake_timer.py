"""Measures the wakes that this replica accepts, from the push to each stage: for its metrics, and for all replicas.

Only a wake that finds no pod is measured: the others are heartbeats.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from service.domain.clock import utc_now
from service.domain.history import POD_UID_LENGTH
from service.domain.metrics import MEASURED, SETTLED, MeasuredStage, ServiceMetrics
from service.domain.names import SessionId
from service.domain.progress import Stage, reached
from service.domain.wake_times import MeasuredWake, WakeTimes
from service.domain.workload import Workload

TIMEOUT = 600.0
"""Seconds after which a wake without a ready pod counts as unfinished."""


@dataclass(slots=True)
class _Wake:
    started: float
    pushed: datetime
    skipped: frozenset[MeasuredStage]
    """Stages that the workload was past when the wake came."""
    done: dict[MeasuredStage, float] = field(default_factory=dict)
    """Seconds from the push to each stage that it has reached."""

    def has(self, *stages: MeasuredStage) -> bool:
        return self.done.keys() | self.skipped >= set(stages)


class WakeTimer:
    """`clock` returns seconds and never goes back; times are compared with KEDA's, which are of the wall clock.

    `times` gets each wake once, when its pod is ready or nobody waits for it any more.
    """

    def __init__(
        self,
        metrics: ServiceMetrics,
        times: WakeTimes,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._metrics = metrics
        self._times = times
        self._clock = clock
        self._now = now
        self._wakes: dict[SessionId, _Wake] = {}
        """In the order of their pushes."""

    def start(self, workload: Workload, pushed: datetime) -> None:
        """Measure the wake that was just pushed, unless an earlier one is still on its way to a ready pod."""
        earlier = self._wakes.get(workload.uuid)
        if workload.replicas or workload.paused or (earlier is not None and not earlier.has(Stage.READY)):
            return
        skipped: set[MeasuredStage] = {Stage.UNPARKED} if workload.polled else set()
        self._wakes.pop(workload.uuid, None)
        self._wakes[workload.uuid] = _Wake(self._clock(), pushed, frozenset(skipped))

    def reach(self, uuid: SessionId, stage: MeasuredStage) -> None:
        """The wake has reached the stage, even if the cache was behind and seemed to be past it at the start."""
        wake = self._wakes.get(uuid)
        if wake is not None and stage not in wake.done:
            wake.done[stage] = self._clock() - wake.started
            self._metrics.wake_reached(stage, wake.done[stage])

    def observe(self, workload: Workload) -> None:
        """Measure the stages that the workload has reached."""
        uuid, wake = workload.uuid, self._wakes.get(workload.uuid)
        if wake is None:
            return
        stages = MEASURED & {update.stage for update in reached(workload)} - wake.skipped
        if workload.last_active is not None and workload.last_active > wake.pushed:
            stages |= {SETTLED}
        slept = workload.parked and workload.replicas == 0 and wake.has(Stage.SCALED, Stage.UNPARKED)
        gone = not workload.deployed or workload.deleting
        if not gone and not slept:
            self._reach_all(workload, wake, stages)
        if gone or slept or wake.has(*MEASURED):
            del self._wakes[uuid]

    def _reach_all(self, workload: Workload, wake: _Wake, stages: frozenset[MeasuredStage]) -> None:
        was_ready = Stage.READY in wake.done
        for stage in stages:
            self.reach(workload.uuid, stage)
        if not was_ready and Stage.READY in wake.done:
            self._note(wake, workload.pod.uid[:POD_UID_LENGTH] if workload.pod is not None else "")

    def _note(self, wake: _Wake, pod: str) -> None:
        stages = {stage: seconds for stage, seconds in wake.done.items() if isinstance(stage, Stage)}
        self._times.note(MeasuredWake(at=self._now(), pod=pod, stages=stages))

    def expire(self) -> None:
        """Drop wakes that have timed out; call it periodically."""
        while self._wakes:
            uuid, wake = next(iter(self._wakes.items()))
            if self._clock() - wake.started < TIMEOUT:
                return
            del self._wakes[uuid]
            if not wake.has(Stage.READY):
                self._metrics.wake_unfinished()
                self._note(wake, "")
