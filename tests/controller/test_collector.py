"""Sessions whose release is gone are remembered for a while, and then forgotten."""

from dataclasses import replace
from datetime import timedelta

import pytest

from service.controller.collector import Collector
from service.domain.errors import ClusterUnavailable, SessionNotFound
from service.domain.names import SessionId
from service.domain.session import IdleTimes, RecordStatus
from tests.domain.conftest import World

RETENTION = timedelta(days=30)


@pytest.fixture
def world() -> World:
    return World()


def collector(world: World, retention: timedelta = RETENTION) -> Collector:
    return Collector(provisioner=world.provisioner, queries=world.queries, retention=retention)


async def uninstalled(world: World, user_id: str = "ann") -> SessionId:
    uuid = (await world.provisioner.create(user_id)).uuid
    await world.releases.uninstall(uuid)
    return uuid


async def long_ago(world: World, uuid: SessionId) -> None:
    await collector(world).look()
    since = world.store.sessions[uuid].released_at
    assert since is not None
    world.store.sessions[uuid] = replace(world.store.sessions[uuid], released_at=since - RETENTION)


async def test_a_session_is_forgotten_when_its_release_has_been_gone_for_the_retention_time(world: World) -> None:
    uuid = await uninstalled(world)
    await collector(world).look()
    await collector(world).look()
    assert (await world.queries.status(uuid)).status is RecordStatus.RELEASED
    await long_ago(world, uuid)
    await collector(world).look()
    with pytest.raises(SessionNotFound):
        await world.queries.status(uuid)
    assert not world.store.users
    assert not world.store.ids


async def test_a_session_that_came_back_in_between_counts_anew(world: World) -> None:
    uuid = await uninstalled(world)
    await long_ago(world, uuid)
    await world.provisioner.create("ann")
    await collector(world).look()
    await world.releases.uninstall(uuid)
    await collector(world).look()
    assert (await world.queries.status(uuid)).status is RecordStatus.RELEASED


async def test_a_release_that_an_operator_brought_back_counts_anew(world: World) -> None:
    uuid = await uninstalled(world)
    await long_ago(world, uuid)
    await world.releases.install(uuid, "ann", IdleTimes())
    await collector(world).look()
    assert world.store.sessions[uuid].released_at is None


async def test_a_kept_volume_brings_its_user_the_same_id_after_all_was_forgotten(world: World) -> None:
    uuid = await uninstalled(world)
    world.cluster.change(replace(world.cluster.workload(uuid), volume=True, user_id="ann"))
    await long_ago(world, uuid)
    await collector(world).look()
    assert uuid not in world.store.sessions
    assert (await world.provisioner.create("ann")).uuid == uuid


async def test_those_who_have_a_release_are_left_alone(world: World) -> None:
    uuids = {(await world.provisioner.create(f"user-{number}")).uuid for number in range(3)}
    await collector(world, timedelta(0)).look()
    assert set(world.store.sessions) == uuids


async def test_what_one_session_meets_does_not_keep_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    busy, other = await uninstalled(world), await uninstalled(world, "bob")
    world.provisioner._helm_deadline = timedelta(0)
    async with world.store.lock(busy):
        await collector(world, timedelta(0)).look()
    assert set(world.store.sessions) == {busy}
    monkeypatch.setattr(world.cluster, "read", _away)
    with pytest.raises(ClusterUnavailable):
        await collector(world, timedelta(0)).look()
    assert other not in world.store.sessions


async def _away(_: object) -> None:
    raise ClusterUnavailable


async def test_one_session_that_always_fails_keeps_no_other_from_being_forgotten(world: World) -> None:
    uuids = [await uninstalled(world, f"user{number}") for number in range(3)]
    await collector(world).look()
    for uuid in uuids:
        record = world.store.sessions[uuid]
        assert record.released_at is not None
        world.store.sessions[uuid] = replace(record, released_at=record.released_at - RETENTION)
    collect, odd = world.provisioner.collect, min(uuids)

    async def fails(uuid: SessionId, retention: timedelta) -> bool:
        if uuid == odd:
            raise RuntimeError("odd")
        return await collect(uuid, retention)

    world.provisioner.collect = fails  # type: ignore[method-assign]
    await collector(world).look()
    assert set(world.store.sessions) == {odd}
