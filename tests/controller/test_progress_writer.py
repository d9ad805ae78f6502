"""Which events of a wake are written, and when; over the fakes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from service.controller import progress_writer
from service.domain.errors import RedisUnavailable
from service.domain.lifecycle import Step
from service.domain.names import SessionId
from service.domain.progress import ProgressUpdate, Stage
from service.domain.workload import Pod
from tests.controller.simulation import UUID, asleep, record
from tests.controller.tracking import Tracking, settled
from tests.fakes import MemoryCluster, MemoryPodEvents, MemoryProgress, MemoryQueues
from tests.stack.client import until

LEASE = timedelta(seconds=15)
SCHEDULED = Pod("pod-1", scheduled=True)
READY = Pod("pod-1", scheduled=True, started=True, ready=True)


@dataclass
class World:
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    queues: MemoryQueues = field(
        default_factory=lambda: MemoryQueues(index_is_complete=True, sessions={UUID: record()})
    )
    progress: MemoryProgress = field(default_factory=MemoryProgress)
    pod_events: MemoryPodEvents = field(default_factory=MemoryPodEvents)

    def __post_init__(self) -> None:
        self.cluster.change(asleep())
        self.replica = Tracking(self.cluster, self.queues, progress=self.progress, pod_events=self.pod_events)
        self.tracker = self.replica.tracker

    async def lead(self) -> None:
        self.replica.lead()
        await settled()

    async def wake(self) -> None:
        await self.queues.wake(UUID, LEASE)
        await self.progress.write(UUID, ProgressUpdate(Stage.ACCEPTED))
        self.tracker.on_wake(UUID)
        await settled()

    async def change(self, **parts: Any) -> None:
        self.cluster.change(replace(self.cluster.workload(UUID), **parts))
        await settled()

    async def until(self, stage: Stage) -> None:
        """For what comes with the passing of time."""

        async def noted() -> bool:
            return self.stages[-1] == stage

        await until(noted, 10, lambda: f"{stage} does not come: {self.stages}")

    @property
    def stages(self) -> list[str]:
        return [event.stage.value for event in self.progress.wakes.get(UUID, [])]

    @property
    def last(self) -> list[str | None]:
        event = self.progress.wakes[UUID][-1]
        return [event.stage.value, event.reason]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with world.replica.running():
        await settled()
        yield world


async def test_each_stage_is_written_when_the_cache_shows_it(world: World) -> None:
    await world.wake()
    for parts, stages in (
        ({}, ["accepted"]),
        ({"parked": False, "replicas": 1}, ["unparked", "scaled"]),
        ({"pod": SCHEDULED}, ["scheduled"]),
        ({"pod": replace(SCHEDULED, started=True)}, ["pulled", "started"]),
        ({"pod": READY}, []),
        ({"ready": 1}, ["ready"]),
    ):
        before = len(world.stages)
        await world.change(**parts)
        assert world.stages[before if parts else 0 :] == stages


async def test_progress_continues_when_the_measurement_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    for name in ("start", "observe", "reach"):
        monkeypatch.setattr(world.replica.timer, name, fail)
    await world.wake()
    world.tracker.on_step_done(UUID, Step.SCALE_UP)
    await world.change(parked=False, replicas=1, ready=1, pod=READY)
    assert world.stages[-1] == "ready"


async def test_stages_that_the_watch_skipped_are_written_in_order(world: World) -> None:
    await world.wake()
    await world.change(parked=False, replicas=1, ready=1, pod=READY)
    assert world.stages == ["accepted", "unparked", "scaled", "scheduled", "pulled", "started", "ready"]


async def test_a_pod_of_an_earlier_life_is_no_progress(world: World) -> None:
    await world.change(pod=READY, ready=0, replicas=0)
    await world.wake()
    assert world.stages == ["accepted"]


async def test_only_a_leader_follows_the_wakes_of_others_and_a_new_leader_continues(world: World) -> None:
    await world.progress.write(UUID, ProgressUpdate(Stage.ACCEPTED))
    await world.change(parked=False, replicas=1)
    assert world.stages == ["accepted"]
    await world.lead()
    assert world.stages == ["accepted", "unparked", "scaled"]
    await world.change(pod=READY, ready=1)
    assert world.stages[-1] == "ready"


async def test_a_change_of_an_awake_session_costs_no_call(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.lead()
    await world.change(parked=False, replicas=1, ready=1, pod=READY)
    asked: list[str] = []

    async def note(*_: Any) -> bool:
        asked.append("write")
        return False

    async def read(*_: Any) -> Any:
        asked.append("read")

    monkeypatch.setattr(world.progress, "write", note)
    monkeypatch.setattr(world.queues, "read", read)
    for _ in range(5):
        world.tracker.on_wake(UUID)
        world.tracker.on_step_done(UUID, Step.SETTLE)
        await world.change(ready=1)
    world.pod_events.publish(UUID, "pod-1", ProgressUpdate(Stage.WARNING, "Unhealthy: slow"))
    await settled()
    assert asked == []


async def test_a_foreign_wake_starts_when_the_reconciler_scales(world: World) -> None:
    world.tracker.on_step_done(UUID, Step.UNPARK)
    await settled()
    assert world.stages == []
    world.tracker.on_step_started(UUID, Step.UNPARK)
    world.tracker.on_step_started(UUID, Step.SCALE_UP)
    await settled()
    assert world.stages == ["accepted"]
    world.tracker.on_step_done(UUID, Step.SCALE_UP)
    await settled()
    assert world.stages == ["accepted", "scaled"]
    await world.change(parked=False, replicas=1)
    assert world.stages == ["accepted", "scaled", "unparked"]


async def test_a_foreign_wake_is_complete_even_if_the_pod_is_ready_before_the_reconciler_is_done(
    world: World,
) -> None:
    await world.lead()
    world.tracker.on_step_started(UUID, Step.SCALE_UP)
    await world.change(parked=False, replicas=1, ready=1, pod=READY)
    world.tracker.on_step_done(UUID, Step.SCALE_UP)
    await settled()
    assert world.stages == ["accepted", "unparked", "scaled", "scheduled", "pulled", "started", "ready"]


async def test_a_failure_is_written_in_kubernetes_words_and_may_be_repaired(world: World) -> None:
    await world.wake()
    await world.change(parked=False, replicas=1, pod=SCHEDULED, failure="ErrImagePull: no such image")
    assert world.last == ["failed", "ErrImagePull: no such image"]
    await world.change(failure=None, pod=READY, ready=1)
    assert world.last == ["ready", None]


async def test_a_wake_that_starts_again_after_a_failure_is_written_again(world: World) -> None:
    await world.wake()
    for _ in range(2):
        await world.change(parked=False, replicas=1, failure="ErrImagePull: no such image")
        await world.change(replicas=0, failure=None)
        await world.wake()
        assert world.stages == ["accepted", "unparked"]
    await world.change(replicas=1, failure="ErrImagePull: no such image")
    assert world.stages == ["accepted", "unparked", "scaled", "failed"]


async def test_a_warning_that_only_time_causes_is_written(world: World) -> None:
    await world.wake()
    await world.change(parked=False, replicas=1, blocker="Unschedulable: no room")
    workload = world.cluster.workload(UUID)
    world.cluster.workloads[UUID] = replace(workload, warning="for more than 120 s: no room")
    await world.until(Stage.WARNING)
    assert world.last[1] == "for more than 120 s: no room"


async def test_a_failure_that_becomes_final_is_written_once_more(world: World) -> None:
    await world.wake()
    for final in (False, True):
        await world.change(parked=False, replicas=1, pod=SCHEDULED, failure="Evicted: no disk", final=final)
    failures = [event.final for event in world.progress.wakes[UUID] if event.stage is Stage.FAILED]
    assert failures == [False, True]


async def test_a_wake_ends_when_its_release_is_removed(world: World) -> None:
    await world.wake()
    await world.change(parked=False, replicas=1)
    await world.change(release=None, deployed=False, has_scaler=False, replicas=0)
    assert world.last[0] == "failed"
    assert "removed" in str(world.last[1])


async def test_a_wake_does_not_fail_while_the_cache_lacks_the_release(world: World) -> None:
    whole = world.cluster.workload(UUID)
    await world.change(release=None)
    await world.wake()
    assert world.stages == ["accepted"]
    world.cluster.change(replace(whole, replicas=1))
    await settled()
    assert world.stages == ["accepted", "scaled"]


async def test_a_wake_whose_session_never_appears_is_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_writer, "_CACHE_DELAY", 0.2)
    monkeypatch.setattr(progress_writer, "_POLL", 0.05)
    await world.change(release=None, deployed=False, has_scaler=False)
    await world.wake()
    assert world.stages == ["accepted"]
    await world.until(Stage.FAILED)
    assert not world.replica.progress_writer.follows(UUID)


async def test_a_late_zero_of_keda_does_not_end_a_wake_but_an_empty_queue_does(world: World) -> None:
    await world.wake()
    await world.change(parked=False, replicas=1)
    await world.change(replicas=0)
    assert world.last[0] == "scaled"
    await world.change(replicas=1)
    await world.queues.clear(UUID)
    await world.change(replicas=0)
    assert world.last[0] == "asleep"


async def test_a_wake_that_was_given_up_unobserved_ends_with_the_park(world: World) -> None:
    await world.progress.write(UUID, ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.SCALED))
    await world.lead()
    world.tracker.on_step_done(UUID, Step.PARK)
    await settled()
    assert world.last[0] == "asleep"


async def test_kubernetes_events_are_written_for_the_present_pod_only(world: World) -> None:
    await world.lead()
    await world.wake()
    await world.change(parked=False, replicas=1, pod=SCHEDULED)
    world.pod_events.publish(UUID, "pod-0", ProgressUpdate(Stage.WARNING, "Killing: an old pod"))
    world.pod_events.publish(UUID, "pod-1", ProgressUpdate(Stage.WARNING, "FailedMount: away"))
    await settled()
    world.pod_events.publish(UUID, "pod-1", ProgressUpdate(Stage.PULLED))
    await settled()
    assert world.stages == ["accepted", "unparked", "scaled", "scheduled", "warning", "pulled"]
    assert world.progress.wakes[UUID][4].reason == "FailedMount: away"


async def test_an_early_pull_event_does_not_change_the_order(world: World) -> None:
    await world.lead()
    await world.wake()
    await world.change(parked=False, replicas=1)
    world.pod_events.publish(UUID, "pod-1", ProgressUpdate(Stage.PULLED))
    await settled()
    assert world.stages == ["accepted", "unparked", "scaled", "scheduled", "pulled"]


async def test_updates_that_redis_missed_are_written_when_it_is_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise RedisUnavailable

    await world.wake()
    with monkeypatch.context() as patch:
        patch.setattr(world.progress, "write", away)
        world.tracker.on_step_done(UUID, Step.UNPARK)
        await world.change(replicas=1)
        assert world.stages == ["accepted"]
    await world.until(Stage.SCALED)
    assert world.stages == ["accepted", "unparked", "scaled"]


async def test_a_wake_that_cannot_be_written_delays_no_other_and_is_finally_dropped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, write = SessionId("badbadba"), world.progress.write

    async def odd(uuid: SessionId, *updates: ProgressUpdate) -> bool:
        if uuid == bad:
            raise TypeError("odd")
        return await write(uuid, *updates)

    monkeypatch.setattr(world.progress, "write", odd)
    monkeypatch.setattr("service.controller.progress_writer._MAX_FAILURES", 2)
    world.cluster.change(replace(asleep(), uuid=bad))
    world.tracker.on_wake(bad)
    world.tracker.on_step_started(bad, Step.SCALE_UP)
    await world.wake()
    await world.change(parked=False, replicas=1)
    assert world.stages == ["accepted", "unparked", "scaled"]
    async with asyncio.timeout(5):
        while world.replica.progress_writer.follows(bad):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_a_wake_whose_write_hangs_delays_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, write = SessionId("badbadba"), world.progress.write

    async def hangs(uuid: SessionId, *updates: ProgressUpdate) -> bool:
        if uuid == bad:
            await asyncio.Event().wait()
        return await write(uuid, *updates)

    monkeypatch.setattr(world.progress, "write", hangs)
    world.cluster.change(replace(asleep(), uuid=bad))
    world.tracker.on_step_started(bad, Step.SCALE_UP)
    await world.wake()
    await world.change(parked=False, replicas=1)
    assert world.stages == ["accepted", "unparked", "scaled"]
