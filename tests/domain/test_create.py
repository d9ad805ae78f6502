"""Create: idempotent per user, under races and after a crash at every step; ids are never handed out twice."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.errors import HelmQueueFull, InstallFailed, InvalidUserId, SessionBusy
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.record import Record, RecordStatus
from service.domain.release import Release, ReleaseState
from service.domain.workload import UNASSIGNED, Assignment, Workload
from tests.domain.conftest import World
from tests.waiting import until

ANN = "ann@example.com"
BOB = "bob@example.com"


class Crash(Exception):
    """Stands for the end of the process."""


async def test_a_new_user_gets_a_sleeping_session(world: World) -> None:
    created = await world.provisioner.create(ANN)
    session = await world.queries.status(created.uuid)
    assert created.fresh
    assert (session.status, session.phase, session.record.user_id) == (RecordStatus.CREATED, Phase.ASLEEP, ANN)


async def test_the_same_user_gets_the_same_session_without_helm(world: World) -> None:
    first = await world.provisioner.create(ANN)
    second = await world.provisioner.create(ANN)
    assert (second.uuid, second.fresh) == (first.uuid, False)
    assert world.releases.installs == 1


async def test_hundreds_of_concurrent_creates_in_two_replicas_share_one_release(world: World) -> None:
    replicas = [world.provisioner, world.replica().provisioner]
    outcomes = await asyncio.gather(*(replicas[i % 2].create(ANN) for i in range(300)))
    assert len({outcome.uuid for outcome in outcomes}) == 1
    assert world.releases.installs == 1
    assert len(world.cluster.workloads) == 1


async def test_user_ids_are_case_sensitive(world: World) -> None:
    assert (await world.provisioner.create("Ann")).uuid != (await world.provisioner.create("ann")).uuid


@pytest.mark.parametrize("user_id", ["", " ", "a b", "a\n", "ü", "x" * 255, "a\x00", "\u202eabc"])
async def test_a_user_id_that_is_not_printable_ascii_is_refused_before_anything_happens(
    world: World, user_id: str
) -> None:
    with pytest.raises(InvalidUserId):
        await world.provisioner.create(user_id)
    assert not world.store.users


def _crashing(target: Any, name: str, *, after: bool) -> Callable[[], None]:
    """Make `target.name` crash once, before or after it did its work; returns the repair."""
    original = getattr(target, name)

    async def crash(*arguments: Any, **named: Any) -> Any:
        if after:
            await original(*arguments, **named)
        raise Crash

    setattr(target, name, crash)
    return lambda: setattr(target, name, original)


STEPS = [("store", "claim"), ("cluster", "reserve"), ("releases", "install"), ("store", "save")]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("part", "step"), STEPS)
@pytest.mark.parametrize("healer", ["create", "start-up"])
async def test_a_create_recovers_from_a_crash_at_any_step_with_one_release(
    world: World, part: str, step: str, after: bool, healer: str
) -> None:
    repair = _crashing(getattr(world, part), step, after=after)
    with pytest.raises(Crash):
        await world.provisioner.create(ANN)
    repair()
    if healer == "start-up":
        await world.recovery().run()
    created = await world.provisioner.create(ANN)
    assert (await world.queries.status(created.uuid)).phase is Phase.ASLEEP
    assert [w.user_id for w in world.cluster.workloads.values() if w.release] == [ANN]
    assert list(world.store.users) == [ANN]


async def test_a_create_does_not_use_an_id_that_is_taken(world: World) -> None:
    taken_in_redis = (await world.provisioner.create(BOB)).uuid
    by_hand, reserved, volume, free = map(SessionId, ("handhand", "reserved", "volumeee", "freefree"))
    release = Release(f"user-{by_hand}", 1, ReleaseState.DEPLOYED, datetime.now(UTC))
    world.cluster.workloads[by_hand] = Workload(by_hand, release=release, deployed=True, has_scaler=True)
    world.cluster.workloads[reserved] = Workload(reserved, user_id="eve", deployed=True)
    world.cluster.workloads[volume] = Workload(volume, user_id="eve", volume=True)
    candidates = iter([taken_in_redis, by_hand, reserved, volume, free])
    world.new_id = lambda: next(candidates)
    assert (await world.provisioner.create(ANN)).uuid == free
    assert world.store.users == {BOB: taken_in_redis, ANN: free}
    assert world.cluster.workloads[by_hand].release == release


async def test_a_release_that_was_uninstalled_comes_back_under_the_same_id(world: World) -> None:
    first = await world.provisioner.create(ANN)
    await world.releases.uninstall(first.uuid)
    assert (await world.queries.status(first.uuid)).status is RecordStatus.RELEASED
    again = await world.provisioner.create(ANN)
    assert again.uuid == first.uuid
    assert again.fresh
    assert (await world.queries.status(first.uuid)).status is RecordStatus.CREATED


async def test_a_deleted_user_gets_the_kept_volume_back(world: World) -> None:
    first = await world.provisioner.create(ANN)
    await world.provisioner.delete(first.uuid, keep_data=True)
    assert (await world.provisioner.create(ANN)).uuid == first.uuid


async def test_a_user_deleted_with_the_volume_starts_afresh(world: World) -> None:
    first = await world.provisioner.create(ANN)
    await world.provisioner.delete(first.uuid, keep_data=False)
    assert not world.cluster.workloads
    assert (await world.provisioner.create(ANN)).uuid != first.uuid


@pytest.mark.parametrize("state", [ReleaseState.PENDING_INSTALL, ReleaseState.FAILED, ReleaseState.UNINSTALLING])
async def test_an_abandoned_release_is_removed_and_installed_again(world: World, state: ReleaseState) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    old = Release(f"user-{uuid}", 1, state, datetime.now(UTC) - timedelta(minutes=5))
    world.cluster.workloads[uuid] = replace(world.cluster.workloads[uuid], release=old)
    assert (await world.provisioner.create(ANN)).uuid == uuid
    release = world.cluster.workloads[uuid].release
    assert release is not None
    assert release.state is ReleaseState.DEPLOYED


async def test_a_release_is_left_alone_while_helm_may_still_work_on_it(world: World) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    young = Release(f"user-{uuid}", 1, ReleaseState.PENDING_INSTALL, datetime.now(UTC))
    world.cluster.workloads[uuid] = replace(world.cluster.workloads[uuid], release=young)
    with pytest.raises(SessionBusy):
        await world.provisioner.create(ANN)
    assert world.cluster.workloads[uuid].release == young


async def test_a_failed_upgrade_does_not_make_a_session_broken(world: World) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    failed = Release(f"user-{uuid}", 2, ReleaseState.FAILED, datetime.now(UTC))
    world.cluster.workloads[uuid] = replace(world.cluster.workloads[uuid], release=failed)
    assert (await world.activity.wake(uuid)).length == 1


async def test_a_create_beyond_the_admission_queue_is_refused_with_retry_after() -> None:
    world = World(waiting=1)
    gate = asyncio.Event()
    install = world.releases.install

    async def slow(uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment = UNASSIGNED) -> None:
        await gate.wait()
        await install(uuid, user_id, idle_times, assignment)

    world.releases.install = slow  # type: ignore[method-assign]
    held = [asyncio.create_task(world.provisioner.create(f"user{i}")) for i in range(3)]
    same_user = [asyncio.create_task(world.provisioner.create("user0")) for _ in range(50)]
    await until(lambda: len(world.store.users) == 3)
    with pytest.raises(HelmQueueFull) as refused:
        await world.provisioner.create("one-too-many")
    assert refused.value.retry_after
    assert "one-too-many" not in world.store.users
    gate.set()
    assert len({outcome.uuid for outcome in await asyncio.gather(*held, *same_user)}) == 3


async def test_a_caller_that_disconnects_does_not_interrupt_the_install(world: World) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()
    install = world.releases.install

    async def slow(uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment = UNASSIGNED) -> None:
        begun.set()
        await gate.wait()
        await install(uuid, user_id, idle_times, assignment)

    world.releases.install = slow  # type: ignore[method-assign]
    caller = asyncio.create_task(world.provisioner.create(ANN))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    gate.set()
    await world.provisioner.close()
    assert world.releases.installs == 1
    assert ANN in {record.user_id for record in world.store.sessions.values()}


async def test_a_failed_install_can_be_repeated(world: World) -> None:
    install = world.releases.install

    async def failing(
        uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment = UNASSIGNED
    ) -> None:
        raise InstallFailed

    world.releases.install = failing  # type: ignore[method-assign]
    with pytest.raises(InstallFailed):
        await world.provisioner.create(ANN)
    world.releases.install = install  # type: ignore[method-assign]
    assert (await world.provisioner.create(ANN)).fresh


async def test_a_lost_redis_is_rebuilt_from_the_cluster(world: World) -> None:
    uuids = [(await world.provisioner.create(f"user{i}")).uuid for i in range(5)]
    before = {uuid: world.store.sessions[uuid].user_id for uuid in uuids}
    world.store.users.clear()
    world.store.ids.clear()
    world.store.sessions.clear()
    world.store.index_is_complete = False
    await world.recovery().run()
    assert {uuid: record.user_id for uuid, record in world.store.sessions.items()} == before
    assert (await world.provisioner.create("user3")).uuid == uuids[3]
    assert world.releases.installs == 5


async def test_a_lost_record_does_not_lead_to_a_second_release(world: World) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    world.store.users.clear()
    world.store.ids.clear()
    world.store.sessions.clear()
    assert (await world.provisioner.create(ANN)).uuid == uuid
    assert len(world.cluster.workloads) == 1


async def test_an_interrupted_delete_continues_at_start_up(world: World) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    repair = _crashing(world.store, "forget", after=False)
    with pytest.raises(Crash):
        await world.provisioner.delete(uuid, keep_data=False)
    repair()
    record: Record = world.store.sessions[uuid]
    assert record.status is RecordStatus.DELETING
    await world.recovery().run()
    assert not world.store.sessions
    assert not world.store.users
    assert not world.cluster.workloads


async def test_a_create_after_an_interrupted_delete_finishes_it_and_starts_afresh(world: World) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    repair = _crashing(world.cluster, "unreserve", after=False)
    with pytest.raises(Crash):
        await world.provisioner.delete(uuid, keep_data=True)
    repair()
    assert (await world.provisioner.create(ANN)).uuid == uuid
    assert (await world.queries.status(uuid)).phase is Phase.ASLEEP
