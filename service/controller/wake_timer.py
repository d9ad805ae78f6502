"""Measures the wakes that this replica accepts, from the push to each stage.

Only a wake that finds no pod is measured: the others are heartbeats.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from service.domain.metrics import MEASURED, SETTLED, MeasuredStage, ServiceMetrics
from service.domain.names import SessionId
from service.domain.progress import Stage, reached
from service.domain.workload import Workload

TIMEOUT = 600.0
"""Seconds after which a wake without a ready pod counts as unfinished."""


@dataclass(slots=True)
class _Wake:
    started: float
    pushed: datetime
    skipped: frozenset[MeasuredStage]
    """Stages that the workload was past when the wake came."""
    done: set[MeasuredStage] = field(default_factory=set)

    def has(self, *stages: MeasuredStage) -> bool:
        return self.done | self.skipped >= set(stages)


class WakeTimer:
    """`clock` returns seconds and never goes back; times are compared with KEDA's, which are of the wall clock."""

    def __init__(self, metrics: ServiceMetrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._clock = clock
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
            wake.done.add(stage)
            self._metrics.wake_reached(stage, self._clock() - wake.started)

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
            for stage in stages:
                self.reach(uuid, stage)
        if gone or slept or wake.has(*MEASURED):
            del self._wakes[uuid]

    def expire(self) -> None:
        """Drop wakes that have timed out; call it periodically."""
        while self._wakes:
            uuid, wake = next(iter(self._wakes.items()))
            if self._clock() - wake.started < TIMEOUT:
                return
            del self._wakes[uuid]
            if not wake.has(Stage.READY):
                self._metrics.wake_unfinished()
