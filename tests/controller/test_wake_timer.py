"""Wakes that find no pod are measured from their push to each stage."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from service.controller.wake_timer import TIMEOUT
from service.domain.lifecycle import Step
from service.domain.metrics import MEASURED, SETTLED, MeasuredStage, NoMetrics
from service.domain.progress import Stage
from service.domain.wake_times import MeasuredWake
from service.domain.workload import Pod
from tests.controller.simulation import START, UUID, Clock, asleep
from tests.controller.tracking import Tracking, settled
from tests.fakes import MemoryCluster, MemoryQueues


class Sheet(NoMetrics):
    """What was measured."""

    def __init__(self) -> None:
        self.times: dict[MeasuredStage, list[float]] = defaultdict(list)
        self.lost = 0

    def wake_reached(self, stage: MeasuredStage, seconds: float) -> None:
        self.times[stage].append(seconds)

    def wake_unfinished(self) -> None:
        self.lost += 1


class Scene:
    def __init__(self) -> None:
        self.clock, self.sheet, self.cluster = Clock(), Sheet(), MemoryCluster()
        self.cluster.change(asleep())
        tracking = Tracking(self.cluster, MemoryQueues(), metrics=self.sheet, clock=self.seconds, now=self.clock)
        self.timer, self.tracker, self._tracking = tracking.timer, tracking.tracker, tracking
        self.cluster.subscribe(self.tracker.changed)

    def seconds(self) -> float:
        return (self.clock() - START).total_seconds()

    async def kept(self) -> Sequence[MeasuredWake]:
        """What all replicas know of the wakes that have been measured."""
        writing = asyncio.create_task(self._tracking.times.run())
        await settled()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        return self._tracking.measured.wakes

    async def awaken(self, seconds: float = 1) -> None:
        """From a pushed wake to a ready pod, evenly over so much time, and KEDA after as much again."""
        step = seconds / 4
        self.clock.pass_(step)
        await self.cluster.scale(UUID, 1)
        await self.cluster.unpark(UUID)
        for pod in (Pod("a", scheduled=True), Pod("a", scheduled=True, started=True)):
            self.clock.pass_(step)
            self.cluster.change(replace(self.cluster.workload(UUID), pod=pod))
        self.clock.pass_(step)
        ready = replace(pod, ready=True)
        self.cluster.change(replace(self.cluster.workload(UUID), pod=ready, ready=1))
        self.clock.pass_(seconds)
        self.cluster.change(replace(self.cluster.workload(UUID), last_active=self.clock()))

    async def sleep(self) -> None:
        await self.cluster.scale(UUID, 0)
        self.cluster.change(replace(self.cluster.workload(UUID), pod=None))
        await self.cluster.park(UUID)


@pytest.fixture
def scene() -> Scene:
    return Scene()


async def test_each_stage_is_measured_once_from_the_push(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    await scene.awaken(4)
    assert scene.sheet.times == {
        Stage.SCALED: [1],
        Stage.UNPARKED: [1],
        Stage.SCHEDULED: [2],
        Stage.STARTED: [3],
        Stage.READY: [4],
        SETTLED: [8],
    }


async def test_what_the_reconciler_has_done_counts_before_the_cache_shows_it(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    scene.clock.pass_(0.1)
    scene.tracker.on_step_done(UUID, Step.SCALE_UP)
    scene.tracker.on_step_done(UUID, Step.UNPARK)
    scene.tracker.on_step_done(UUID, Step.RENEW)
    await scene.awaken(4)
    assert scene.sheet.times[Stage.SCALED] == scene.sheet.times[Stage.UNPARKED] == [0.1]
    assert scene.sheet.times[Stage.READY] == [4.1]


async def test_a_wake_of_an_awake_session_is_a_heartbeat_and_not_measured(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    await scene.awaken()
    scene.tracker.on_wake(UUID)
    scene.cluster.change(replace(scene.cluster.workload(UUID), last_active=scene.clock() + timedelta(seconds=5)))
    assert all(len(times) == 1 for times in scene.sheet.times.values())


async def test_a_second_wake_while_waking_does_not_restart_the_measurement(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    scene.clock.pass_(3)
    scene.tracker.on_wake(UUID)
    await scene.awaken(1)
    assert scene.sheet.times[Stage.READY] == [4]


async def test_a_session_that_was_not_parked_has_no_stage_unparked(scene: Scene) -> None:
    scene.cluster.change(asleep(parked=False))
    scene.tracker.on_wake(UUID)
    await scene.awaken()
    assert set(scene.sheet.times) == MEASURED - {Stage.UNPARKED}


async def test_a_wake_during_an_operators_pause_is_not_measured(scene: Scene) -> None:
    scene.cluster.change(replace(asleep(), paused="paused by an operator"))
    scene.tracker.on_wake(UUID)
    scene.clock.pass_(7200)
    scene.timer.expire()
    await scene.awaken()
    assert (scene.sheet.times, scene.sheet.lost) == ({}, 0)


async def test_a_session_whose_park_the_cache_did_not_show_yet_has_the_stage_unparked(scene: Scene) -> None:
    scene.cluster.change(asleep(parked=False))
    scene.tracker.on_wake(UUID)
    for _ in range(2):
        scene.tracker.on_step_done(UUID, Step.UNPARK)
    await scene.awaken()
    assert [len(times) for times in scene.sheet.times.values()] == [1] * len(MEASURED)


async def test_a_pod_that_ends_while_waking_prolongs_the_wake(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    await scene.cluster.scale(UUID, 1)
    await scene.cluster.unpark(UUID)
    await scene.cluster.scale(UUID, 0)
    scene.clock.pass_(2)
    await scene.awaken(1)
    assert scene.sheet.times[Stage.READY] == [3]
    assert scene.sheet.times[Stage.SCALED] == [0]


async def test_a_session_that_sleeps_before_it_is_ready_is_measured_anew_by_the_next_wake(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    await scene.cluster.scale(UUID, 1)
    await scene.cluster.unpark(UUID)
    await scene.sleep()
    scene.clock.pass_(100)
    scene.tracker.on_wake(UUID)
    await scene.awaken(1)
    assert scene.sheet.times[Stage.READY] == [1]
    assert scene.sheet.lost == 0


async def test_a_wake_without_a_ready_pod_is_unfinished_after_a_while(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    await scene.cluster.scale(UUID, 1)
    scene.clock.pass_(TIMEOUT + 1)
    scene.timer.expire()
    assert scene.sheet.lost == 1
    scene.timer.expire()
    assert scene.sheet.lost == 1


async def test_a_session_that_is_deleted_while_waking_is_not_unfinished(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    await scene.cluster.unreserve(UUID)
    scene.clock.pass_(TIMEOUT + 1)
    scene.timer.expire()
    assert scene.sheet.lost == 0


async def test_a_wake_is_kept_once_for_all_replicas_when_its_pod_is_ready(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    await scene.awaken(4)
    scene.tracker.on_wake(UUID)
    scene.cluster.change(replace(scene.cluster.workload(UUID), last_active=scene.clock() + timedelta(seconds=5)))
    stages = {Stage.SCALED: 1, Stage.UNPARKED: 1, Stage.SCHEDULED: 2, Stage.STARTED: 3, Stage.READY: 4}
    at = START + timedelta(seconds=4)
    assert await scene.kept() == [MeasuredWake(at=at, pod="a", stages=stages)]


async def test_a_wake_whose_stages_all_show_at_once_is_kept_whole(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    scene.clock.pass_(2)
    pod = Pod("0123456789", scheduled=True, started=True, ready=True)
    scene.cluster.change(replace(scene.cluster.workload(UUID), parked=False, replicas=1, pod=pod, ready=1))
    kept = await scene.kept()
    assert [(wake.pod, set(wake.stages.values())) for wake in kept] == [("01234567", {2.0})]
    assert set(kept[0].stages) == MEASURED - {SETTLED}


async def test_a_wake_without_a_ready_pod_is_kept_without_that_stage(scene: Scene) -> None:
    scene.tracker.on_wake(UUID)
    await scene.cluster.scale(UUID, 1)
    scene.clock.pass_(TIMEOUT + 1)
    scene.timer.expire()
    (kept,) = await scene.kept()
    assert (kept.finished, set(kept.stages)) == (False, {Stage.SCALED})
