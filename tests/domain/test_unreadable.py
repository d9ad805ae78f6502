"""A session whose keys in Redis cannot be read says so itself, keeps its pod, and is healed by a create or a delete."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from service.controller.leadership import Leadership
from service.controller.reconciler import Reconciler
from service.domain.errors import SessionUnreadable
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.session_counts import SessionCounter
from tests.domain.conftest import World
from tests.waiting import until

FAULT = "queue:aaaaaaaa in Redis is a set, not a list; `redis-cli DEL queue:aaaaaaaa` repairs it"


@pytest.fixture
async def pair(world: World) -> tuple[SessionId, SessionId]:
    """A session with an unreadable queue, and a healthy one."""
    bad, good = [(await world.provisioner.create(user)).uuid for user in ("ann", "bob")]
    world.queues.unreadable_queues[bad] = FAULT
    return bad, good


async def test_status_and_list_report_the_read_error_and_its_repair(
    world: World, pair: tuple[SessionId, SessionId]
) -> None:
    bad, good = pair
    session = await world.queries.status(bad)
    assert (session.phase, session.reason) == (Phase.FAILED, FAULT)
    assert {s.record.uuid: s.phase for s in (await world.queries.page()).sessions} == {
        bad: Phase.FAILED,
        good: Phase.ASLEEP,
    }
    assert [s.record.uuid for s in (await world.queries.page(phase=Phase.FAILED)).sessions] == [bad]


async def test_an_unreadable_record_is_reported_with_the_user_from_the_cluster(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    world.queues.unreadable_records[uuid] = "it is a string"
    world.queues.sessions[uuid] = replace(world.queues.sessions[uuid], user_id="")
    session = await world.queries.status(uuid)
    assert (session.phase, session.reason, session.user_id) == (Phase.FAILED, "it is a string", "ann")
    assert await world.provisioner.collect(uuid, timedelta(0)) is False


async def test_an_unreadable_session_refuses_wakes_and_others_wake(
    world: World, pair: tuple[SessionId, SessionId]
) -> None:
    bad, good = pair
    with pytest.raises(SessionUnreadable, match="redis-cli DEL"):
        await world.activity.wake(bad)
    assert (await world.activity.wake(good)).length == 1


async def test_an_unreadable_session_refuses_activity_and_extensions(
    world: World, pair: tuple[SessionId, SessionId]
) -> None:
    bad, _ = pair
    await world.cluster.scale(bad, 1)
    with pytest.raises(SessionUnreadable):
        await world.activity.heartbeat(bad, "typing")
    with pytest.raises(SessionUnreadable):
        await world.activity.extend(bad, timedelta(minutes=1))


async def test_the_reconciler_leaves_an_unreadable_session_alone_and_wakes_the_others(
    world: World, pair: tuple[SessionId, SessionId]
) -> None:
    bad, good = pair
    await world.cluster.unpark(bad)
    await world.cluster.scale(bad, 1)
    reconciler = Reconciler(
        queues=world.queues,
        cluster=world.cluster,
        cache=world.cluster,
        idle_times=IdleTimes(),
        leadership=Leadership(),
    )
    world.queues.push_by_hand(good)
    reconciler.enqueue(bad)
    reconciler.enqueue(good)

    running = asyncio.create_task(reconciler.run())
    await until(lambda: world.cluster.workload(good).replicas == 1)
    await until(lambda: reconciler.idle)
    workload = world.cluster.workload(bad)
    assert (workload.replicas, workload.parked) == (1, False)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_unreadable_session_is_counted_as_failed(world: World, pair: tuple[SessionId, SessionId]) -> None:
    counted = await SessionCounter(world.cluster, world.queues, world.store).count()
    assert counted.phases == {Phase.FAILED: 1, Phase.ASLEEP: 1}
    assert world.store.unreadable == 1


@pytest.mark.parametrize("part", ["queue", "record"])
async def test_a_create_repairs_an_unreadable_session(
    world: World, pair: tuple[SessionId, SessionId], part: str
) -> None:
    bad, _ = pair
    if part == "record":
        world.queues.unreadable_queues.clear()
        world.queues.unreadable_records[bad] = "it is a string"
    assert (await world.provisioner.create("ann")).uuid == bad
    session = await world.queries.status(bad)
    assert (session.phase, session.read_error) == (Phase.ASLEEP, None)
    assert (await world.activity.wake(bad)).length == 1


async def test_an_unreadable_session_can_be_put_to_sleep_and_deleted(
    world: World, pair: tuple[SessionId, SessionId]
) -> None:
    bad, good = pair
    await world.cluster.scale(bad, 1)
    await world.activity.sleep(bad)
    assert world.cluster.workload(bad).replicas == 0
    world.queues.unreadable_queues[bad] = FAULT
    await world.provisioner.delete(bad, keep_data=False)
    assert [s.record.uuid for s in (await world.queries.page()).sessions] == [good]
