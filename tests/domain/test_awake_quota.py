"""The limit on sessions that are awake: the next sleeper waits, and nobody who is awake notices."""

from dataclasses import replace

import pytest

from service.domain.awake_quota import AwakeLimits, AwakeQuota
from service.domain.errors import AwakeLimitReached
from service.domain.names import SessionId
from service.domain.workload import Assignment, Workload
from tests.domain.conftest import World
from tests.fakes import MemoryCluster

ONE, TWO, THREE, FOUR = (SessionId(name * 8) for name in "abcd")


def scale(cluster: MemoryCluster, uuid: SessionId, replicas: int) -> None:
    cluster.change(replace(cluster.workload(uuid), replicas=replicas))


def refused(quota: AwakeQuota, uuid: SessionId) -> bool:
    try:
        quota.check(uuid)
    except AwakeLimitReached:
        return True
    return False


def test_sessions_that_were_awake_before_the_service_started_count() -> None:
    cluster = MemoryCluster()
    scale(cluster, ONE, 1)
    quota = AwakeQuota(cluster, limits=AwakeLimits(total=1))
    assert refused(quota, TWO)
    assert not refused(quota, ONE), "it is awake: this is its heartbeat"


def test_a_sleep_makes_room_and_a_wake_takes_it() -> None:
    cluster = MemoryCluster()
    quota = AwakeQuota(cluster, limits=AwakeLimits(total=2))
    assert not refused(quota, ONE)
    scale(cluster, ONE, 1)
    scale(cluster, TWO, 1)
    assert refused(quota, THREE)
    scale(cluster, ONE, 0)
    assert not refused(quota, THREE)
    assert refused(quota, ONE), "three has been let through, though no pod shows yet"
    assert not refused(quota, THREE), "it may be asked for again"


def test_a_wake_that_comes_to_nothing_gives_its_place_back() -> None:
    now = [0.0]
    quota = AwakeQuota(MemoryCluster(), limits=AwakeLimits(total=1), now=lambda: now[0])
    assert not refused(quota, ONE)
    now[0] = 29
    assert refused(quota, TWO)
    now[0] = 31
    assert not refused(quota, TWO)


def test_each_group_has_places_of_its_own() -> None:
    cluster = MemoryCluster()
    for uuid, group in ((ONE, "students"), (TWO, "students"), (THREE, "staff"), (FOUR, None)):
        cluster.change(Workload(uuid, assignment=Assignment(group=group)))
    quota = AwakeQuota(cluster, limits=AwakeLimits(total=3, groups={"students": 1}))
    assert not refused(quota, ONE)
    assert refused(quota, TWO), "one has been let through, though no pod shows yet"
    scale(cluster, ONE, 1)
    with pytest.raises(AwakeLimitReached, match="the group students"):
        quota.check(TWO)
    assert not refused(quota, THREE), "its group has no limit"
    assert not refused(quota, FOUR), "it is in no group"
    scale(cluster, ONE, 0)
    assert not refused(quota, TWO)
    with pytest.raises(AwakeLimitReached, match=r"\(AWAKE_LIMIT\)"):
        quota.check(ONE)


def test_an_operator_moves_an_awake_session_to_another_group() -> None:
    cluster = MemoryCluster()
    for uuid in (ONE, TWO):
        cluster.change(Workload(uuid, assignment=Assignment(group="students")))
    quota = AwakeQuota(cluster, limits=AwakeLimits(groups={"students": 1}))
    scale(cluster, ONE, 1)
    assert refused(quota, TWO)
    cluster.change(replace(cluster.workload(ONE), assignment=Assignment(group="staff")))
    assert not refused(quota, TWO)


async def test_a_refused_wake_leaves_nothing_in_the_queue() -> None:
    world = World(awake_limit=1)
    one, two = [(await world.provisioner.create(user)).uuid for user in ("ann", "bob")]
    await world.activity.wake(one)
    with pytest.raises(AwakeLimitReached):
        await world.activity.wake(two)
    assert not (await world.store.record(two)).queue.is_wanted
    assert (await world.store.record(two)).last_activity is None
    assert (await world.activity.wake(one)).length == 2
    await world.provisioner.close()


async def test_whoever_works_in_a_session_keeps_its_place_when_keda_scales_it_to_0_too_late() -> None:
    world = World(awake_limit=1)
    one, two = [(await world.provisioner.create(user)).uuid for user in ("ann", "bob")]
    await world.activity.wake(one)
    scale(world.cluster, one, 1)
    scale(world.cluster, one, 0)
    await world.activity.wake(two)
    assert (await world.activity.wake(one)).length == 2, "its lease is alive"
    await world.activity.sleep(one)
    scale(world.cluster, one, 1)
    scale(world.cluster, one, 0)
    with pytest.raises(AwakeLimitReached):
        await world.activity.wake(one)
    await world.provisioner.close()
