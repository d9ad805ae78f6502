"""Percentiles of how long wakes take, of all replicas together."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import RedisUnavailable
from service.domain.progress import Stage
from service.domain.wake_times import KEPT, MeasuredWake, Percentiles, WakeStatistics, WakeTimes
from tests.fakes import MemoryMeasuredWakes
from tests.waiting import until

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=1)


def wake(ready: float | None = 4.0, *, pod: str = "", at: datetime = NOW, **stages: float) -> MeasuredWake:
    """Ready after so many seconds; each of the steps before took a quarter of it."""
    whole = ready or 0
    earlier = {"scaled": whole / 4, "scheduled": whole / 2, "started": whole * 3 / 4, **stages}
    found = {Stage(name): seconds for name, seconds in earlier.items()}
    return MeasuredWake(at=at, pod=pod, stages=found if ready is None else {**found, Stage.READY: ready})


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([], None),
        ([7.0], Percentiles(7, 7, 7)),
        ([3.0, 1.0, 2.0], Percentiles(2, 3, 3)),
        ([float(number) for number in range(1, 101)], Percentiles(50, 95, 99)),
        ([1.0] * 990 + [9.0] * 10, Percentiles(1, 1, 1)),
        ([1.0] * 989 + [9.0] * 11, Percentiles(1, 1, 9)),
    ],
)
def test_percentiles_are_times_of_wakes_that_there_were(times: Sequence[float], expected: Percentiles | None) -> None:
    assert Percentiles.of(times) == expected


def test_each_step_lasts_from_one_stage_to_the_next() -> None:
    found = WakeStatistics.since([wake(scaled=0.1, scheduled=0.4, started=2.4, unparked=0.2)], LONG_AGO)
    assert {stage: round(times.p50, 3) for stage, times in found.steps.items()} == {
        Stage.SCALED: 0.1,
        Stage.SCHEDULED: 0.3,
        Stage.STARTED: 2.0,
        Stage.READY: 1.6,
    }
    assert found.whole == Percentiles(4, 4, 4)


def test_a_stage_that_came_before_the_one_before_takes_no_time() -> None:
    found = WakeStatistics.since([wake(scaled=1, scheduled=0.5)], LONG_AGO)
    assert found.steps[Stage.SCHEDULED].p50 == 0
    assert found.steps[Stage.STARTED].p50 == 2


def test_only_wakes_since_the_time_count() -> None:
    wakes = [wake(1), wake(9, at=NOW - timedelta(hours=2)), wake(None, at=NOW - timedelta(hours=3))]
    hour = WakeStatistics.since(wakes, NOW - timedelta(hours=1))
    assert (hour.wakes, hour.unfinished, hour.whole) == (1, 0, Percentiles(1, 1, 1))
    day = WakeStatistics.since(wakes, LONG_AGO)
    assert (day.wakes, day.unfinished, day.whole) == (2, 1, Percentiles(1, 9, 9))


def test_a_wake_that_two_replicas_have_measured_counts_once_from_its_first_push() -> None:
    found = WakeStatistics.since([wake(2, pod="a"), wake(5, pod="a"), wake(3, pod="a"), wake(1, pod="b")], LONG_AGO)
    assert (found.wakes, found.whole) == (2, Percentiles(1, 5, 5))


def test_no_wakes_have_no_times() -> None:
    assert WakeStatistics.since([], LONG_AGO) == WakeStatistics(wakes=0, unfinished=0, steps={}, whole=None)


class Counting(MemoryMeasuredWakes):
    reads = 0
    away = False

    async def last(self) -> Sequence[MeasuredWake]:
        self.reads += 1
        await asyncio.sleep(0)
        if self.away:
            raise RedisUnavailable
        return await super().last()


async def test_everybody_who_looks_at_the_same_time_shares_one_read() -> None:
    wakes, clock = Counting(wakes=[wake()]), [0.0]
    times = WakeTimes(wakes, now=lambda: NOW, clock=lambda: clock[0])
    found = await asyncio.gather(*(times.recent() for _ in range(20)))
    assert {each.day.wakes for each in found} == {1}
    assert wakes.reads == 1
    clock[0] = 10
    await times.recent()
    assert wakes.reads == 2


async def test_a_read_that_fails_is_not_kept() -> None:
    wakes = Counting(wakes=[wake()])
    wakes.away = True
    times = WakeTimes(wakes, now=lambda: NOW)
    with pytest.raises(RedisUnavailable):
        await times.recent()
    wakes.away = False
    assert (await times.recent()).day.wakes == 1


@pytest.mark.parametrize(("kept", "hours", "begins"), [(KEPT - 1, 3, False), (KEPT, 3, True), (KEPT, 25, False)])
async def test_it_says_since_when_wakes_are_known_if_a_day_had_more_than_are_kept(
    kept: int, hours: int, begins: bool
) -> None:
    oldest = NOW - timedelta(hours=hours)
    wakes = MemoryMeasuredWakes(wakes=[wake()] * (kept - 1) + [wake(at=oldest)])
    found = await WakeTimes(wakes, now=lambda: NOW).recent()
    assert found.day_begins == (oldest if begins else None)


async def test_wakes_are_kept_in_the_background() -> None:
    wakes = MemoryMeasuredWakes()
    times = WakeTimes(wakes)
    times.note(wake())
    assert wakes.wakes == []
    running = asyncio.create_task(times.run())
    await until(lambda: wakes.wakes == [wake()])
    times.note(wake(2))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert wakes.wakes == [wake(2), wake()]
