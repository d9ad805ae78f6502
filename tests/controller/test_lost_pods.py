"""Pods that end although they are wanted or in use are counted; other ends are not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from service.domain.journal import HistoryEvent
from service.domain.metrics import NoMetrics
from service.domain.names import SessionId
from service.domain.workload import Pod, ScaledBy
from tests.controller.simulation import IDLE_TIMES, UUID, Clock, asleep, record
from tests.controller.tracking import Tracking, settled
from tests.fakes import MemoryCluster, MemoryHistory, MemoryQueues


class Sheet(NoMetrics):
    """What was counted."""

    def __init__(self) -> None:
        self.lost = self.false_sleeps = 0
        self.returns: list[float] = []

    def pod_lost(self) -> None:
        self.lost += 1

    def pod_restored(self, seconds: float) -> None:
        self.returns.append(seconds)

    def false_sleep(self) -> None:
        self.false_sleeps += 1


class SlowHistory(MemoryHistory):
    """One that answers reads while `answers` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = asyncio.Event()
        self.answers.set()

    async def events(self, uuid: SessionId) -> Sequence[HistoryEvent]:
        await self.answers.wait()
        return await super().events(uuid)


class Scene:
    """One session, awake since a wake that KEDA has seen."""

    def __init__(self) -> None:
        self.clock, self.sheet, self.cluster = Clock(), Sheet(), MemoryCluster()
        self.queues = MemoryQueues(self.clock, {UUID: record()}, index_is_complete=True)
        self.cluster.change(replace(asleep(parked=False), replicas=1, ready=1))
        self.history = SlowHistory()
        self.replica = Tracking(
            self.cluster, self.queues, history=self.history, metrics=self.sheet, leads=True, now=self.clock
        )

    async def use(self, *, seen: bool = True) -> None:
        """A wake; `seen`: KEDA notices."""
        await self.queues.wake(UUID, IDLE_TIMES.lease)
        if seen:
            self.clock.pass_(1)
            await self.queues.settle(UUID, self.clock())
            self.cluster.change(replace(self.cluster.workload(UUID), last_active=self.clock()))

    def zero(self, by: ScaledBy | None = ScaledBy.KEDA) -> None:
        """Somebody sets the wanted replicas to 0."""
        self.cluster.change(replace(self.cluster.workload(UUID), replicas=0, ready=0, scaled_by=by))

    async def end_pod(self, by: ScaledBy | None = ScaledBy.KEDA) -> None:
        self.zero(by)
        await settled()

    @property
    def counts(self) -> tuple[int, int]:
        return self.sheet.lost, self.sheet.false_sleeps


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    async with scene.replica.running():
        yield scene


async def test_a_sleep_after_the_cooldown_is_not_counted(scene: Scene) -> None:
    await scene.use()
    scene.clock.pass_((IDLE_TIMES.lease + IDLE_TIMES.cooldown).total_seconds())
    await scene.end_pod()
    assert scene.counts == (0, 0)


@pytest.mark.parametrize("seen", [True, False], ids=["settled", "pending"])
async def test_a_pod_that_ends_while_its_queue_is_filled_is_counted_and_its_return_measured(
    scene: Scene, seen: bool
) -> None:
    await scene.use(seen=seen)
    scene.clock.pass_(1)
    await scene.end_pod()
    assert scene.counts == (1, 0)
    assert scene.sheet.returns == []
    scene.clock.pass_(0.2)
    await scene.cluster.scale(UUID, 1)
    await settled()
    assert scene.sheet.returns == [pytest.approx(0.2)]


async def test_a_return_before_the_record_is_read_is_measured_too(scene: Scene) -> None:
    await scene.use()
    scene.zero()
    scene.clock.pass_(0.1)
    await scene.cluster.scale(UUID, 1)
    await settled()
    assert scene.counts == (1, 0)
    assert scene.sheet.returns == [pytest.approx(0.1)]


async def test_a_sleep_is_judged_by_the_queue_right_after_it_although_the_history_is_slow(scene: Scene) -> None:
    await scene.use()
    scene.history.answers.clear()
    pod = Pod("p1", scheduled=True, started=True, ready=True)
    scene.cluster.change(replace(asleep(parked=False), uuid=SessionId("bbbbbbbb"), replicas=1, ready=1, pod=pod))
    await settled()
    scene.clock.pass_(60)
    await scene.end_pod()
    await scene.use()
    scene.history.answers.set()
    await settled()
    assert scene.counts == (0, 0)


async def test_a_wake_after_a_sleep_does_not_make_it_a_false_one(scene: Scene) -> None:
    await scene.use()
    scene.clock.pass_(60)
    scene.zero()
    scene.clock.pass_(0.01)
    await scene.use(seen=False)
    await settled()
    assert scene.counts == (0, 0)


async def test_a_sleep_by_keda_before_activity_and_cooldown_is_a_false_one(scene: Scene) -> None:
    await scene.use()
    scene.clock.pass_(IDLE_TIMES.cooldown.total_seconds())
    await scene.queues.heartbeat(UUID, "typing", timedelta(seconds=1))  # too short a lease: KEDA misses it
    await scene.queues.settle(UUID, scene.clock() + timedelta(seconds=1))
    scene.clock.pass_(2)
    await scene.end_pod()
    assert scene.counts == (0, 1)


@pytest.mark.parametrize("by", [ScaledBy.OTHER, None])
async def test_a_requested_sleep_is_not_a_false_sleep(scene: Scene, by: ScaledBy | None) -> None:
    await scene.use()
    scene.clock.pass_(3)
    await scene.queues.clear(UUID)
    await scene.end_pod(by)
    assert scene.counts == (0, 0)


@pytest.mark.parametrize("by", [*ScaledBy, None])
async def test_a_requested_sleep_before_kedas_first_poll_is_not_a_false_sleep(
    scene: Scene, by: ScaledBy | None
) -> None:
    await scene.use(seen=False)
    scene.clock.pass_(1)
    await scene.queues.clear(UUID, asked="request-1")
    scene.clock.pass_(0.1)
    await scene.end_pod(by)
    assert scene.counts == (0, 0)


async def test_a_scale_to_zero_by_an_operator_before_kedas_first_poll_is_not_a_false_sleep(scene: Scene) -> None:
    await scene.use(seen=False)
    await scene.queues.settle(UUID, scene.clock() + timedelta(seconds=1))
    scene.clock.pass_(IDLE_TIMES.lease.total_seconds() + 1)
    await scene.end_pod(ScaledBy.OTHER)
    assert scene.counts == (0, 0)


async def test_an_unrequested_sleep_before_kedas_first_poll_is_a_false_sleep(scene: Scene) -> None:
    await scene.use(seen=False)
    await scene.queues.settle(UUID, scene.clock() + timedelta(seconds=1))
    scene.clock.pass_(IDLE_TIMES.lease.total_seconds() + 1)
    await scene.end_pod()
    assert scene.counts == (0, 1)


async def test_only_the_leader_counts_and_its_successor_knows_which_pods_are_awake(scene: Scene) -> None:
    await scene.use()
    scene.replica.leadership.held = False
    await scene.end_pod()
    await scene.cluster.scale(UUID, 1)
    assert scene.counts == (0, 0)
    scene.replica.leadership.held = True
    await scene.end_pod()
    assert scene.counts == (1, 0)


async def test_a_deleted_session_has_not_fallen_asleep(scene: Scene) -> None:
    await scene.use()
    scene.cluster.change(replace(scene.cluster.workload(UUID), deployed=False, replicas=0))
    await settled()
    assert scene.counts == (0, 0)
