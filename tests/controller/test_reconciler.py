"""The reconciler over the fakes: it retries failures, limits mass events, and ignores foreign charts."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest

from service.controller.leadership import Leadership
from service.controller.reconciler import Reconciler
from service.domain.errors import ClusterUnavailable, RedisUnavailable
from service.domain.idle_times import IdleTimes
from service.domain.lifecycle import Step
from service.domain.names import SessionId
from service.domain.observers import StepObserver
from service.domain.queue_state import QueueState
from service.domain.rate_limiter import RateLimiter
from service.domain.workload import Workload
from tests.controller.simulation import UUID, asleep, record
from tests.fakes import MemoryCluster, MemoryQueues
from tests.waiting import until


@pytest.fixture
def cluster() -> MemoryCluster:
    cluster = MemoryCluster()
    cluster.change(asleep())
    return cluster


@pytest.fixture
def queues() -> MemoryQueues:
    queues = MemoryQueues(index_is_complete=True)
    queues.sessions[UUID] = record()
    return queues


@asynccontextmanager
async def reconciling(
    cluster: MemoryCluster,
    queues: MemoryQueues,
    parks_per_second: float = 1e6,
    defer_unparks: timedelta = timedelta(seconds=10),
    leads: bool = False,
    *,
    observers: Sequence[StepObserver] = (),
) -> AsyncIterator[Reconciler]:
    reconciler = Reconciler(
        queues=queues,
        cluster=cluster,
        cache=cluster,
        idle_times=IdleTimes(),
        parks_per_second=parks_per_second,
        defer_unparks=defer_unparks,
        leadership=Leadership(held=leads),
        observers=observers,
    )
    task = asyncio.create_task(reconciler.run())
    await asyncio.sleep(0)  # from now on it hears of changes
    try:
        yield reconciler
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_step_that_the_cluster_rejects_is_retried(cluster: MemoryCluster, queues: MemoryQueues) -> None:
    scale, attempts = cluster.scale, 0

    async def fails_twice(uuid: SessionId, replicas: int) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise ClusterUnavailable
        await scale(uuid, replicas)

    cluster.scale = fails_twice  # type: ignore[method-assign]
    async with reconciling(cluster, queues) as reconciler:
        await queues.wake(UUID, IdleTimes().lease)
        reconciler.on_wake(UUID)
        await until(lambda: cluster.workload(UUID).replicas == 1)
    assert attempts == 3


class FailingObserver:
    def on_step_started(self, uuid: SessionId, step: Step) -> None:
        raise RuntimeError(uuid)

    def on_step_done(self, uuid: SessionId, step: Step) -> None:
        raise RuntimeError(uuid)


async def test_a_step_is_carried_out_once_even_if_an_observer_fails(
    cluster: MemoryCluster, queues: MemoryQueues
) -> None:
    async with reconciling(cluster, queues, observers=[FailingObserver()]) as reconciler:
        await queues.wake(UUID, IdleTimes().lease)
        reconciler.on_wake(UUID)
        await until(lambda: cluster.workload(UUID).replicas == 1)
        await until(lambda: reconciler.idle)
        assert (reconciler.done[Step.SCALE_UP], reconciler.retries) == (1, 0)


async def test_a_short_outage_of_redis_loses_no_wake(cluster: MemoryCluster, queues: MemoryQueues) -> None:
    queue_states, attempts = queues.read, 0

    async def fails_once(uuids: object) -> object:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise RedisUnavailable
        return await queue_states(uuids)  # type: ignore[arg-type]

    queues.read = fails_once  # type: ignore[method-assign, assignment]
    async with reconciling(cluster, queues) as reconciler:
        await queues.wake(UUID, IdleTimes().lease)
        reconciler.on_wake(UUID)
        await until(lambda: cluster.workload(UUID).replicas == 1)


async def test_many_sessions_that_fall_asleep_at_once_are_parked_a_few_at_a_time(
    cluster: MemoryCluster, queues: MemoryQueues
) -> None:
    uuids = [SessionId(f"{number:08d}") for number in range(300)]
    park, running, most = cluster.park, 0, 0

    async def slow(uuid: SessionId) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        await park(uuid)
        running -= 1

    cluster.park = slow  # type: ignore[method-assign]
    async with reconciling(cluster, queues, leads=True):
        for uuid in uuids:
            cluster.change(replace(asleep(parked=False), uuid=uuid))
        await until(lambda: all(cluster.workload(uuid).parked for uuid in uuids))
    assert 1 < most <= 8


async def test_a_wake_does_not_wait_behind_many_parks(cluster: MemoryCluster, queues: MemoryQueues) -> None:
    async with reconciling(cluster, queues, parks_per_second=1, leads=True) as reconciler:
        for number in range(300):
            cluster.change(replace(asleep(parked=False), uuid=SessionId(f"{number:08d}")))
        await queues.wake(UUID, IdleTimes().lease)
        reconciler.on_wake(UUID)
        await until(lambda: cluster.workload(UUID).replicas == 1)
        assert sum(workload.parked for workload in cluster.workloads.values()) < 10


async def test_a_wake_does_not_wait_behind_a_resync(cluster: MemoryCluster, queues: MemoryQueues) -> None:
    looks: list[int] = []
    queue_states = queues.read

    async def slow(uuids: Sequence[SessionId]) -> Mapping[SessionId, QueueState]:
        looks.append(len(uuids))
        await asyncio.sleep(0.005)
        return await queue_states(uuids)

    queues.read = slow  # type: ignore[method-assign]
    async with reconciling(cluster, queues) as reconciler:
        for number in range(5000):
            reconciler.resync(SessionId(f"{number:08d}"))
        await until(lambda: len(looks) == 2)
        await queues.wake(UUID, IdleTimes().lease)
        reconciler.on_wake(UUID)
        await until(lambda: cluster.workload(UUID).replicas == 1)
        assert len(looks) < 10
        await until(lambda: sum(looks) > 5000)


async def test_unparks_wait_for_pods_that_are_being_started_and_then_go_a_few_at_a_time(
    cluster: MemoryCluster, queues: MemoryQueues
) -> None:
    uuids = [SessionId(f"{number:08d}") for number in range(200)]

    def parked() -> int:
        return sum(cluster.workload(uuid).parked for uuid in uuids)

    async with reconciling(cluster, queues) as reconciler:
        for uuid in uuids:
            cluster.change(replace(asleep(), uuid=uuid))
            queues.sessions[uuid] = replace(record(), uuid=uuid)
            await queues.wake(uuid, IdleTimes().lease)
            reconciler.on_wake(uuid)
        await until(lambda: all(cluster.workload(uuid).replicas for uuid in uuids))
        for uuid in uuids[10:]:
            cluster.change(replace(cluster.workload(uuid), ready=1))
        await asyncio.sleep(0.3)
        assert parked() >= 195
        for uuid in uuids[:10]:
            cluster.change(replace(cluster.workload(uuid), ready=1))
        await until(lambda: parked() < 190)
        assert parked() > 150


async def test_pods_that_never_become_ready_do_not_defer_unparks_indefinitely(
    cluster: MemoryCluster, queues: MemoryQueues
) -> None:
    uuids = [SessionId(f"{number:08d}") for number in range(10)]
    async with reconciling(cluster, queues, defer_unparks=timedelta(seconds=0.1)) as reconciler:
        for uuid in uuids:
            cluster.change(replace(asleep(), uuid=uuid))
            queues.sessions[uuid] = replace(record(), uuid=uuid)
            await queues.wake(uuid, IdleTimes().lease)
            reconciler.on_wake(uuid)
        await until(lambda: not any(cluster.workload(uuid).parked for uuid in uuids))
        assert not any(cluster.workload(uuid).ready for uuid in uuids)


async def test_a_write_that_the_cache_does_not_show_yet_is_not_repeated(
    cluster: MemoryCluster, queues: MemoryQueues
) -> None:
    asked: list[int] = []

    async def late(_uuid: SessionId, replicas: int) -> None:
        asked.append(replicas)

    cluster.scale = late  # type: ignore[method-assign, assignment]
    async with reconciling(cluster, queues) as reconciler:
        await queues.wake(UUID, IdleTimes().lease)
        for _ in range(20):
            reconciler.on_wake(UUID)
            await asyncio.sleep(0.01)
        assert asked == [1]
        cluster.change(replace(cluster.workload(UUID), replicas=1))
        cluster.change(replace(cluster.workload(UUID), replicas=0))  # KEDA's late 0
        await until(lambda: asked == [1, 1])


async def test_a_replica_that_does_not_lead_leaves_the_others_alone(
    cluster: MemoryCluster, queues: MemoryQueues
) -> None:
    other = SessionId("00000000")
    async with reconciling(cluster, queues) as reconciler:
        await queues.wake(UUID, IdleTimes().lease)
        reconciler.on_wake(UUID)
        await until(lambda: cluster.workload(UUID).replicas == 1)
        cluster.change(replace(asleep(parked=False), uuid=other))
        cluster.change(replace(cluster.workload(UUID), replicas=0))  # KEDA's late 0
        await until(lambda: cluster.workload(UUID).replicas == 1)
        assert not cluster.workload(other).parked


async def test_a_chart_that_somebody_installed_by_hand_is_left_alone(
    cluster: MemoryCluster, queues: MemoryQueues
) -> None:
    async with reconciling(cluster, queues, leads=True):
        stranger = SessionId("00000000")
        cluster.change(replace(asleep(parked=False), uuid=stranger, user_id=None))
        cluster.change(replace(asleep(parked=False)))
        await until(lambda: cluster.workload(UUID).parked)
        assert not cluster.workload(stranger).parked


async def test_the_rate_limiter_lets_a_burst_through_and_then_one_at_a_time() -> None:
    limiter, clock = RateLimiter(100), asyncio.get_running_loop().time
    began = clock()
    for _ in range(110):
        await limiter.wait()
    assert clock() - began >= 0.05


async def test_a_session_whose_queue_makes_every_read_fail_stops_no_other_wake(
    cluster: MemoryCluster, queues: MemoryQueues
) -> None:
    bad, queue_states = SessionId("badbadba"), queues.read

    async def poisoned(uuids: Sequence[SessionId]) -> Mapping[SessionId, QueueState]:
        if bad in uuids:
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True reading=False>")
        return await queue_states(uuids)

    queues.read = poisoned  # type: ignore[method-assign]
    async with reconciling(cluster, queues) as reconciler:
        await queues.wake(UUID, IdleTimes().lease)
        for uuid in (SessionId("00000000"), bad, UUID, SessionId("11111111")):
            reconciler.enqueue(uuid)
        await until(lambda: cluster.workload(UUID).replicas == 1)
        assert reconciler.retries == 1


async def test_a_session_whose_workload_cannot_be_read_stops_no_other_wake(
    cluster: MemoryCluster, queues: MemoryQueues
) -> None:
    bad, workload = SessionId("badbadba"), cluster.workload

    def odd(uuid: SessionId) -> Workload:
        if uuid == bad:
            raise KeyError("spec")
        return workload(uuid)

    cluster.workload = odd  # type: ignore[method-assign]
    async with reconciling(cluster, queues) as reconciler:
        await queues.wake(UUID, IdleTimes().lease)
        reconciler.enqueue(bad)
        reconciler.enqueue(UUID)
        await until(lambda: workload(UUID).replicas == 1)


async def test_a_restarted_reconciler_continues_with_what_it_had(cluster: MemoryCluster, queues: MemoryQueues) -> None:
    reconciler = Reconciler(
        queues=queues, cluster=cluster, cache=cluster, idle_times=IdleTimes(), leadership=Leadership()
    )
    scale, begun = cluster.scale, asyncio.Event()

    async def hangs(*_: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    cluster.scale = hangs  # type: ignore[method-assign, assignment]
    await queues.wake(UUID, IdleTimes().lease)
    reconciler.on_wake(UUID)
    first = asyncio.create_task(reconciler.run())
    await begun.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    cluster.scale = scale  # type: ignore[method-assign]
    second = asyncio.create_task(reconciler.run())
    await until(lambda: cluster.workload(UUID).replicas == 1)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
