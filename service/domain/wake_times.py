"""How long wakes take, whichever replica accepted them: how long each step of the last wakes was, in percentiles."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from service.domain.background_writer import BackgroundWriter
from service.domain.progress import Stage

KEPT: Final = 10_000
"""Wakes of all sessions together."""
STEPS: Final = (Stage.SCALED, Stage.SCHEDULED, Stage.STARTED, Stage.READY)
"""The stages that every wake passes one after the other. A step lasts from one of them to the next."""
_RECENT = 5.0
"""Seconds for which one read serves everybody who asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredWake:
    """A wake that found no pod. `at`: when its pod was ready, or when nobody waited for it any more."""

    at: datetime
    pod: str
    """The beginning of the pod's uid; empty if there was none."""
    stages: Mapping[Stage, float]
    """Seconds from the push to each stage; without `READY` if the pod did not get ready in time."""

    @property
    def finished(self) -> bool:
        return Stage.READY in self.stages


class MeasuredWakes(Protocol):
    """The last measured wakes, in Redis."""

    async def append(self, wake: MeasuredWake) -> None: ...

    async def last(self) -> Sequence[MeasuredWake]:
        """Newest first, by one read. Raises RedisUnavailable."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In seconds. Each is the time of a wake that there was."""

    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float]) -> "Percentiles | None":
        """None if there are no times."""
        times = sorted(seconds)
        if not times:
            return None
        return cls(*(times[math.ceil(len(times) * percent / 100) - 1] for percent in (50, 95, 99)))


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeStatistics:
    """Of the wakes since a time. `steps`: how long each of STEPS took; `whole`: from the push to the ready pod."""

    wakes: int
    unfinished: int
    """Wakes whose pod was not ready in time, which have no times."""
    steps: Mapping[Stage, Percentiles]
    whole: Percentiles | None

    @classmethod
    def since(cls, wakes: Iterable[MeasuredWake], begin: datetime) -> "WakeStatistics":
        found = _distinct(wake for wake in wakes if wake.at >= begin)
        finished = [wake for wake in found if wake.finished]
        lengths: dict[Stage, list[float]] = {stage: [] for stage in STEPS}
        for wake in finished:
            before = 0.0
            for stage in STEPS:
                reached = max(before, wake.stages.get(stage, before))
                lengths[stage].append(reached - before)
                before = reached
        steps = {stage: Percentiles.of(times) for stage, times in lengths.items()}
        return cls(
            wakes=len(finished),
            unfinished=len(found) - len(finished),
            steps={stage: found for stage, found in steps.items() if found is not None},
            whole=Percentiles.of(wake.stages[Stage.READY] for wake in finished),
        )


def _distinct(wakes: Iterable[MeasuredWake]) -> Sequence[MeasuredWake]:
    """Each wake once: two replicas may measure the same one, the first of them from its first push."""
    by_pod: dict[str, MeasuredWake] = {}
    others = []
    for wake in wakes:
        if not wake.pod or not wake.finished:
            others.append(wake)
        elif (known := by_pod.get(wake.pod)) is None or known.stages[Stage.READY] < wake.stages[Stage.READY]:
            by_pod[wake.pod] = wake
    return [*by_pod.values(), *others]


class WakeTimes:
    """Keeps measured wakes in the background while `run` runs, so that no wake waits for it."""

    def __init__(self, wakes: MeasuredWakes, *, now: Callable[[], float] = time.monotonic) -> None:
        self._wakes = wakes
        self._now = now
        self._writer: BackgroundWriter[MeasuredWake] = BackgroundWriter("the times of wakes", wakes.append)
        self._reading = asyncio.Lock()
        self._read: tuple[float, Sequence[MeasuredWake]] | None = None

    def note(self, wake: MeasuredWake) -> None:
        """Have the wake kept soon. Returns at once."""
        self._writer.put(wake)

    async def last(self) -> Sequence[MeasuredWake]:
        """The last KEPT wakes, newest first, as they were a few seconds ago at most. Raises RedisUnavailable."""
        async with self._reading:
            if self._read is None or self._now() - self._read[0] >= _RECENT:
                self._read = self._now(), await self._wakes.last()
            return self._read[1]

    async def run(self) -> None:
        """Write until cancelled, then write the remaining wakes."""
        await self._writer.run()
