"""Sessions are counted by phase from view and queues."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest

from service.domain.errors import RedisUnavailable
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.queue_state import QueueState
from service.domain.session_counts import SessionCounter
from service.domain.workload import Pod, Workload
from tests.domain.conftest import World
from tests.domain.test_life import WHOLE


def put(world: World, number: int, workload: Workload) -> SessionId:
    uuid = SessionId(f"{number:08d}")
    world.cluster.change(replace(workload, uuid=uuid))
    return uuid


async def test_every_phase_parked_session_and_queue_is_counted(world: World) -> None:
    parked, awake = replace(WHOLE, parked=True), replace(WHOLE, replicas=1)
    later = datetime.now(UTC) + timedelta(hours=1)
    for number, workload in enumerate(
        (
            parked,
            parked,
            awake,
            replace(awake, ready=1),
            replace(awake, failure="ErrImagePull"),
            replace(WHOLE, has_scaler=False),
            replace(WHOLE, deleting=True),
            Workload(SessionId(""), volume=True),
        )
    ):
        put(world, number, workload)
    pushed = put(world, 8, parked)
    world.queues.push_by_hand(pushed, later)
    world.queues.push_by_hand(pushed, later)
    counted = await SessionCounter(world.cluster, world.queues, world.store).count()
    assert counted.phases == {
        Phase.ASLEEP: 2,
        Phase.WAKING: 2,
        Phase.READY: 1,
        Phase.FAILED: 2,
        Phase.DELETING: 1,
    }, "kept files alone are no session"
    assert (counted.parked, counted.queued, counted.tokens, counted.pending) == (3, 1, 2, 0)


async def test_a_session_without_a_release_counts_once_as_its_record_says(world: World) -> None:
    released, deleting, gone = [(await world.provisioner.create(f"user-{number}")).uuid for number in range(3)]
    for uuid in (released, deleting):
        world.cluster.change(Workload(uuid, volume=True, deleting=uuid == deleting))
    world.cluster.workloads.pop(gone)
    await world.store.mark_deleting(deleting, keep_data=True)
    counted = await SessionCounter(world.cluster, world.queues, world.store).count()
    assert counted.phases == {Phase.RELEASED: 2, Phase.DELETING: 1}


async def test_a_wake_that_keda_has_not_seen_is_pending_since_its_push(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    await world.activity.wake(uuid)
    world.queues.waiting[uuid] -= timedelta(seconds=90)
    counted = await SessionCounter(world.cluster, world.queues, world.store).count()
    assert (counted.pending, counted.queued) == (1, 1)
    assert timedelta(seconds=90) <= counted.oldest < timedelta(seconds=100)


async def test_a_wake_whose_pod_is_ready_is_over_although_keda_has_not_seen_it(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    await world.activity.wake(uuid)
    world.queues.waiting[uuid] -= timedelta(seconds=90)
    waking = await SessionCounter(world.cluster, world.queues, world.store).count()
    assert (waking.waking, waking.oldest_waking >= timedelta(seconds=90)) == (1, True)
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    ready = await SessionCounter(world.cluster, world.queues, world.store).count()
    assert (ready.waking, ready.oldest_waking, ready.pending) == (0, timedelta(0), 1)


async def test_sessions_of_several_reads_are_all_counted(world: World) -> None:
    for number in range(1201):
        put(world, number, WHOLE)
    assert (await SessionCounter(world.cluster, world.queues, world.store).count()).phases == {Phase.ASLEEP: 1201}


async def test_those_who_ask_at_the_same_time_share_a_count(world: World) -> None:
    reads, clock, read = 0, [1000.0], world.queues.read

    async def counting(uuids: Sequence[SessionId]) -> Mapping[SessionId, QueueState]:
        nonlocal reads
        reads += 1
        await asyncio.sleep(0)
        return await read(uuids)

    world.queues.read = counting  # type: ignore[method-assign]
    put(world, 1, WHOLE)
    counter = SessionCounter(world.cluster, world.queues, world.store, now=lambda: clock[0])
    await asyncio.gather(*(counter.recent() for _ in range(20)))
    assert reads == 1
    put(world, 2, WHOLE)
    assert (await counter.recent()).phases.total() == 1
    clock[0] += 5
    assert ((await counter.recent()).phases.total(), reads) == (2, 2)


async def test_a_count_that_fails_is_not_remembered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: object) -> NoReturn:
        raise RedisUnavailable

    put(world, 1, WHOLE)
    counter = SessionCounter(world.cluster, world.queues, world.store)
    with monkeypatch.context() as patch:
        patch.setattr(world.queues, "read", away)
        with pytest.raises(RedisUnavailable):
            await counter.recent()
    assert (await counter.recent()).phases.total() == 1


async def test_pods_of_the_last_hour_count_as_woken(world: World) -> None:
    for number, age in enumerate((1, 59, 61, 600)):
        pod = Pod(f"pod-{number}", ready=True, created_at=datetime.now(UTC) - timedelta(minutes=age))
        put(world, number, replace(WHOLE, replicas=1, ready=1, pod=pod))
    counted = await SessionCounter(world.cluster, world.queues, world.store).count()
    assert (counted.awake, counted.woken) == (4, 2)
