"""The journal of pods: who woke them, when they are ready, why they fail, and why they end."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from service.domain.errors import RedisUnavailable
from service.domain.journal import Failed, HistoryEvent, JournalEntry, Ready, Slept, Woken, hashed
from service.domain.names import SessionId
from service.domain.sleep_cause import SleepReason
from service.domain.workload import Pod, ScaledBy
from tests.controller.simulation import IDLE_TIMES, START, UUID, Clock, asleep, record
from tests.controller.tracking import Tracking, settled
from tests.fakes import MemoryCluster, MemoryHistory, MemoryQueues

ANN = hashed("ann")
PULL = "ErrImagePull: no such image"


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Replica:
    """One process that follows the cluster."""

    def __init__(self, world: "World", *, leads: bool) -> None:
        self.noted: list[JournalEntry] = []
        tracking = Tracking(
            world.cluster, world.queues, history=world.history, journal=self, leads=leads, now=world.clock
        )
        self.leadership, self.running = tracking.leadership, tracking.running

    def note(self, entry: JournalEntry) -> None:
        self.noted.append(entry)


class World:
    """One session, asleep and parked."""

    def __init__(self) -> None:
        self.clock, self.cluster = Clock(), MemoryCluster()
        self.queues = MemoryQueues(self.clock, {UUID: record()}, index_is_complete=True)
        self.history = MemoryHistory(self.queues.sessions)
        self.cluster.change(asleep())

    async def change(self, **what: object) -> None:
        self.cluster.change(replace(self.cluster.workload(UUID), **what))  # type: ignore[arg-type]
        await settled()

    async def rise(self, by: ScaledBy | None = ScaledBy.SERVICE) -> None:
        await self.change(replicas=1, scaled_by=by, parked=False)

    async def ready(self, uid: str = "p1") -> None:
        await self.change(ready=1, pod=Pod(uid, scheduled=True, started=True, ready=True), failure=None)

    async def zero(self, by: ScaledBy = ScaledBy.KEDA) -> None:
        await self.change(replicas=0, ready=0, scaled_by=by)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def replica(world: World) -> AsyncIterator[Replica]:
    replica = Replica(world, leads=True)
    async with replica.running():
        yield replica


async def test_a_pods_life_is_journaled_with_its_times_and_causes(world: World, replica: Replica) -> None:
    await world.queues.wake(UUID, IDLE_TIMES.lease)
    await world.history.append(Woken(uuid=UUID, user=None, at=world.clock(), request="request-1", by="api"))
    world.clock.pass_(0.5)
    await world.rise()
    world.clock.pass_(1)
    await world.ready()
    await world.queues.settle(UUID, world.clock())
    await world.change(last_active=START + timedelta(seconds=15))
    world.clock.pass_(40)
    await world.zero()
    assert replica.noted == [
        Ready(uuid=UUID, user=ANN, at=after(1.5), request="request-1", seconds=1.5, pod="p1"),
        Slept(
            uuid=UUID,
            user=ANN,
            at=after(41.5),
            request="-",
            why=SleepReason.IDLE,
            idle_since=START,
            seconds=41,
            pod="p1",
        ),
    ]


async def test_a_pod_that_replaces_another_one_took_its_own_time_and_not_the_time_since_the_wake(
    world: World, replica: Replica
) -> None:
    await world.queues.wake(UUID, IDLE_TIMES.lease)
    await world.rise()
    await world.ready()
    world.clock.pass_(90)
    created = world.clock()
    await world.change(ready=0, pod=Pod("p2", created_at=created))
    world.clock.pass_(9)
    await world.change(ready=1, pod=Pod("p2", scheduled=True, started=True, ready=True, created_at=created))
    await world.history.append(replica.noted[0])  # type: ignore[arg-type]
    pods = [(each.pod, each.seconds) for each in replica.noted if isinstance(each, Ready)]
    assert pods == [("p1", 0), ("p2", 9)]


async def test_a_requested_sleep_carries_the_id_of_the_request_and_the_caller(world: World, replica: Replica) -> None:
    await world.rise()
    replica.noted.clear()
    await world.queues.clear(UUID, asked="request-2", by="shop")
    await world.zero(ScaledBy.SERVICE)
    (slept,) = replica.noted
    assert isinstance(slept, Slept)
    assert (slept.why, slept.request, slept.by) == (SleepReason.ASKED, "request-2", "shop")


async def test_a_scale_to_zero_by_an_operator_is_named(world: World, replica: Replica) -> None:
    await world.rise()
    replica.noted.clear()
    await world.zero(ScaledBy.OTHER)
    assert [slept.why for slept in replica.noted if isinstance(slept, Slept)] == [SleepReason.OPERATOR]


async def test_kedas_late_zero_and_the_restored_pod_are_journaled(world: World, replica: Replica) -> None:
    await world.queues.wake(UUID, IDLE_TIMES.lease)
    await world.rise()
    await world.ready()
    await world.queues.settle(UUID, world.clock() + timedelta(seconds=1))
    world.clock.pass_(1)
    await world.zero()
    await world.rise()
    await world.ready("p2")
    assert [type(each) for each in replica.noted] == [Ready, Slept, Ready]
    assert isinstance(replica.noted[1], Slept)
    assert replica.noted[1].why is SleepReason.LATE_ZERO


@pytest.mark.parametrize(
    ("by", "push", "expected"),
    [
        pytest.param(ScaledBy.SERVICE, True, "queue", id="push-that-the-service-answers"),
        pytest.param(ScaledBy.KEDA, True, "queue", id="push-that-keda-answers"),
        pytest.param(ScaledBy.OTHER, False, "operator", id="scale"),
        pytest.param(None, False, "operator", id="scale-that-nobody-is-named-for"),
    ],
)
async def test_a_wake_that_no_caller_asked_for_names_its_source(
    world: World, replica: Replica, by: ScaledBy | None, push: bool, expected: str
) -> None:
    world.queues.sessions[UUID] = replace(world.queues.sessions[UUID], last_activity=START - timedelta(hours=1))
    if push:
        world.queues.push_by_hand(UUID)
        await world.queues.renew(UUID, IDLE_TIMES.lease)  # what the reconciler does
    await world.rise(by)
    assert replica.noted == [Woken(uuid=UUID, user=ANN, at=START, request="-", by=expected)]


async def test_a_wake_that_the_service_accepted_is_not_repeated_however_late_its_pod_is_wanted(
    world: World, replica: Replica
) -> None:
    await world.queues.wake(UUID, IDLE_TIMES.lease)
    world.clock.pass_(600)  # the API server was away
    await world.rise()
    assert replica.noted == []


async def test_a_wake_whose_queue_a_sleep_emptied_early_is_not_attributed_to_an_operator(
    world: World, replica: Replica
) -> None:
    await world.queues.wake(UUID, IDLE_TIMES.lease)
    await world.queues.clear(UUID, asked="request-2")
    await world.rise()
    assert replica.noted == []


async def test_a_failure_and_its_end_are_each_journaled_once(world: World, replica: Replica) -> None:
    await world.queues.wake(UUID, IDLE_TIMES.lease)
    await world.rise()
    world.clock.pass_(20)
    pod = Pod("p1", scheduled=True)
    await world.change(pod=pod, failure=PULL)
    await world.change(pod=pod, failure="ErrImagePull: back-off 20s")
    await world.ready()
    failed, ready = replica.noted
    assert failed == Failed(
        uuid=UUID,
        user=ANN,
        at=START + timedelta(seconds=20),
        request="-",
        doing="wake",
        reason=PULL,
        seconds=20,
        pod="p1",
    )
    assert isinstance(ready, Ready)


async def test_flapping_readiness_is_journaled_once_per_pod(world: World, replica: Replica) -> None:
    await world.queues.wake(UUID, IDLE_TIMES.lease)
    await world.rise()
    await world.ready()
    await world.change(ready=0, pod=Pod("p1", scheduled=True, started=True))
    await world.ready()
    await world.ready("p2")
    assert [ready.pod for ready in replica.noted if isinstance(ready, Ready)] == ["p1", "p2"]


async def test_only_the_leader_writes_and_the_next_leader_continues(world: World, replica: Replica) -> None:
    other = Replica(world, leads=False)
    async with other.running():
        await world.queues.wake(UUID, IDLE_TIMES.lease)
        await world.rise()
        await world.ready()
        replica.leadership.held = False
        other.leadership.held = True
        await world.change(last_active=START)
        await world.queues.clear(UUID, asked="request-1")
        await world.zero()
    assert [type(each) for each in replica.noted] == [Ready]
    assert [type(each) for each in other.noted] == [Slept]


async def test_sessions_that_are_awake_at_the_start_are_not_journaled(world: World) -> None:
    await world.rise()
    await world.ready()
    replica = Replica(world, leads=True)
    async with replica.running():
        await settled()
        assert replica.noted == []
        await world.zero(ScaledBy.OTHER)
    assert [slept.seconds for slept in replica.noted if isinstance(slept, Slept)] == [None]


async def test_a_ready_pod_is_journaled_without_redis(
    world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_uuid: SessionId) -> list[HistoryEvent]:
        raise RedisUnavailable

    await world.queues.wake(UUID, IDLE_TIMES.lease)
    await world.rise()
    monkeypatch.setattr(world.history, "events", away)
    world.clock.pass_(2)
    await world.ready()
    assert [ready.seconds for ready in replica.noted if isinstance(ready, Ready)] == [2]


async def test_a_deleted_session_is_not_journaled(world: World, replica: Replica) -> None:
    await world.queues.wake(UUID, IDLE_TIMES.lease)
    await world.rise()
    await world.change(deleting=True)
    await world.change(deployed=False, replicas=0)
    assert replica.noted == []
