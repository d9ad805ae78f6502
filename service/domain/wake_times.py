"""How long wakes take, whichever replica accepted them: how long each step of the last wakes was, in percentiles."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from service.domain.background_writer import BackgroundWriter
from service.domain.clock import utc_now
from service.domain.progress import Stage

KEPT: Final = 10_000
"""Wakes of all sessions together."""
STEPS: Final = (Stage.SCALED, Stage.SCHEDULED, Stage.STARTED, Stage.READY)
"""The stages that every wake passes one after the other. A step lasts from one of them to the next."""
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_RECENT = 10.0
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


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentWakes:
    """`day_begins`: when the oldest wake was that is still kept, if that is less than a day ago; else None."""

    hour: WakeStatistics
    day: WakeStatistics
    day_begins: datetime | None


class WakeTimes:
    """Keeps measured wakes in the background while `run` runs, so that no wake waits for it."""

    def __init__(
        self,
        wakes: MeasuredWakes,
        *,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` returns seconds and never goes back."""
        self._wakes = wakes
        self._now = now
        self._clock = clock
        self._writer: BackgroundWriter[MeasuredWake] = BackgroundWriter("the times of wakes", wakes.append)
        self._reading = asyncio.Lock()
        self._read: tuple[float, RecentWakes] | None = None

    def note(self, wake: MeasuredWake) -> None:
        """Have the wake kept soon. Returns at once."""
        self._writer.put(wake)

    async def recent(self) -> RecentWakes:
        """As it was a few seconds ago at most. Raises RedisUnavailable."""
        async with self._reading:
            if self._read is None or self._clock() - self._read[0] >= _RECENT:
                self._read = self._clock(), await self._statistics()
            return self._read[1]

    async def _statistics(self) -> RecentWakes:
        """Other tasks run between its parts: each takes some milliseconds."""
        wakes, now = await self._wakes.last(), self._now()
        hour = WakeStatistics.since(wakes, now - _HOUR)
        await asyncio.sleep(0)
        day = WakeStatistics.since(wakes, now - _DAY)
        overflows = len(wakes) >= KEPT and wakes[-1].at > now - _DAY
        return RecentWakes(hour=hour, day=day, day_begins=wakes[-1].at if overflows else None)

    async def run(self) -> None:
        """Write until cancelled, then write the remaining wakes."""
        await self._writer.run()
