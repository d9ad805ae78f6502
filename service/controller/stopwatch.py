"""Times the wakes that this replica takes, from the push to each stage, as its reconciler and the cache tell of them.

Only a wake that found no pod is timed: the others are heartbeats.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.domain.lifecycle import Step
from service.domain.metrics import ServiceMetrics, Stage
from service.domain.names import SessionId
from service.domain.ports import WorkloadCache
from service.domain.session import Workload

PATIENCE = 600.0
"""Seconds after which a wake without a ready pod counts as unfinished."""

_OF_STEP = {Step.SCALE_UP: Stage.SCALED, Step.UNPARK: Stage.UNPARKED}
"""What the reconciler has done is known before the cache shows it."""


@dataclass(slots=True)
class _Wake:
    began: float
    pushed: datetime
    due: set[Stage] = field(default_factory=lambda: set(Stage))
    """Stages that it has not come to yet."""
    unparked: bool = False
    """The cache says that it was not parked; if the cache is behind, the reconciler unparks it after all."""


class Stopwatch:
    """`clock` gives seconds that never go back; KEDA's own times are compared with `now`."""

    def __init__(
        self,
        *,
        cache: WorkloadCache,
        metrics: ServiceMetrics,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cache = cache
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self._wakes: dict[SessionId, _Wake] = {}
        """In the order of their pushes."""
        cache.subscribe(self.changed)

    def on_wake(self, uuid: SessionId) -> None:
        """This replica has just pushed a wake."""
        self.drop_overdue()
        workload, running = self._cache.workload(uuid), self._wakes.get(uuid)
        if workload.replicas or workload.paused or (running is not None and Stage.READY in running.due):
            return
        self._wakes.pop(uuid, None)
        self._wakes[uuid] = wake = _Wake(self._clock(), self._now())
        if workload.polled:
            wake.due.discard(Stage.UNPARKED)
            wake.unparked = True

    def on_step_started(self, uuid: SessionId, step: Step) -> None:
        """Only a step that is done is a stage."""

    def on_step_done(self, uuid: SessionId, step: Step) -> None:
        wake = self._wakes.get(uuid)
        if wake is None or step not in _OF_STEP:
            return
        if step is Step.UNPARK and wake.unparked:
            wake.due.add(Stage.UNPARKED)
            wake.unparked = False
        self._reach(wake, _OF_STEP[step])

    def changed(self, uuid: SessionId) -> None:
        """The cache has changed."""
        wake = self._wakes.get(uuid)
        if wake is None:
            return
        workload = self._cache.workload(uuid)
        if _over(workload, wake):
            del self._wakes[uuid]
            return
        for stage in _stages(workload, wake.pushed):
            self._reach(wake, stage)
        if not wake.due:
            del self._wakes[uuid]

    def _reach(self, wake: _Wake, stage: Stage) -> None:
        if stage in wake.due:
            wake.due.remove(stage)
            self._metrics.woken(stage, self._clock() - wake.began)

    def drop_overdue(self) -> None:
        """Give up wakes that nobody waits for any more; to be called now and then."""
        while self._wakes:
            uuid, wake = next(iter(self._wakes.items()))
            if self._clock() - wake.began < PATIENCE:
                return
            del self._wakes[uuid]
            if Stage.READY in wake.due:
                self._metrics.unfinished()


def _over(workload: Workload, wake: _Wake) -> bool:
    """Whether the session is gone, or was sent to sleep again."""
    slept = workload.parked and workload.replicas == 0 and not wake.due & {Stage.SCALED, Stage.UNPARKED}
    return not workload.deployed or workload.deleting or slept


def _stages(workload: Workload, pushed: datetime) -> Iterator[Stage]:
    """The stages that the workload shows."""
    if workload.replicas:
        yield Stage.SCALED
        pod = workload.pod
        if pod is not None and pod.scheduled:
            yield Stage.SCHEDULED
        if pod is not None and pod.started:
            yield Stage.STARTED
        if workload.ready:
            yield Stage.READY
    if workload.polled:
        yield Stage.UNPARKED
    if workload.last_active is not None and workload.last_active > pushed:
        yield Stage.SETTLED
