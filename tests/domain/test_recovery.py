"""What was left half-done is finished by the running service, one session at a time and none at another's expense."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain import recovery as recovering
from service.domain.errors import ClusterUnavailable, HelmTimeout, IdTaken, InstallFailed, SessionBusy
from service.domain.names import SessionId
from service.domain.record import RecordStatus
from service.domain.recovery import Recovery
from service.domain.wanted import NOTHING_WANTED, Wanted
from service.domain.workload import UNASSIGNED, Assignment
from tests.domain.conftest import World
from tests.waiting import until

ANN, BOB = "ann@example.com", "bob@example.com"


@pytest.fixture
async def recovered(world: World) -> AsyncIterator[Recovery]:
    """A recovery that runs, looks often, and takes up even the youngest work."""
    recovery = Recovery(provisioner=world.provisioner, store=world.store, cluster=world.cluster, min_age=timedelta(0))
    task = asyncio.create_task(recovery.run_forever(0.01))
    yield recovery
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def failing(
    part: Any, name: str, error: Exception, only: SessionId | None = None
) -> AsyncIterator[Callable[[], int]]:
    """The method raises, for one session or for all; gives how often."""
    method: Callable[..., Awaitable[Any]] = getattr(part, name)
    count = 0

    async def fails(uuid: SessionId, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        if only is None or uuid == only:
            count += 1
            raise error
        return await method(uuid, *args, **kwargs)

    setattr(part, name, fails)
    yield lambda: count
    setattr(part, name, method)


@pytest.mark.parametrize("step", ["unreserve", "delete_volume"])
async def test_a_delete_that_was_answered_503_is_finished_by_the_running_service(
    world: World, recovered: Recovery, step: str
) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    async with failing(world.cluster, step, ClusterUnavailable()) as times:
        with pytest.raises(ClusterUnavailable):
            await world.provisioner.delete(uuid, keep_data=False)
        await until(lambda: times() > 1)  # tried meanwhile
        assert uuid in world.store.sessions
    await until(lambda: not world.store.sessions)
    assert (world.store.users, world.store.half, world.cluster.workloads) == ({}, {}, {})


async def test_a_create_that_failed_half_way_is_finished_by_the_running_service(
    world: World, recovered: Recovery
) -> None:
    async with failing(world.releases, "install", InstallFailed()):
        with pytest.raises(InstallFailed):
            await world.provisioner.create(ANN)
        assert ANN in world.store.users
    await until(lambda: bool(world.store.sessions))
    await until(lambda: not world.store.half)
    assert world.releases.installs == 1


@pytest.mark.parametrize("error", [HelmTimeout(), InstallFailed(), RuntimeError("odd"), IdTaken(), SessionBusy()])
async def test_work_that_always_fails_delays_no_other_and_is_retried_less_and_less_often(
    world: World, recovered: Recovery, error: Exception
) -> None:
    bad, *good = [(await world.provisioner.create(f"user{number}")).uuid for number in range(12)]
    async with failing(world.releases, "uninstall", ClusterUnavailable()):
        for uuid in (bad, *good):
            with pytest.raises(ClusterUnavailable):
                await world.provisioner.delete(uuid, keep_data=False)
    async with failing(world.releases, "uninstall", error, only=bad) as times:
        await until(lambda: set(world.store.sessions) == {bad})
        if not isinstance(error, IdTaken):
            await until(lambda: times() >= 3)
            backoff, _ = recovered._failures(bad)
            assert backoff.failures >= times() - 1  # each makes the next delay longer; the latest may not be over yet
    await until(lambda: not world.store.sessions)


async def test_work_that_hangs_delays_no_other(world: World, recovered: Recovery) -> None:
    slow, quick = [(await world.provisioner.create(user)).uuid for user in (ANN, BOB)]
    uninstall, hangs = world.releases.uninstall, asyncio.Event()

    async def hang(uuid: SessionId) -> None:
        if uuid == slow:
            await hangs.wait()
        await uninstall(uuid)

    world.releases.uninstall = hang  # type: ignore[method-assign]
    async with failing(world.cluster, "unreserve", ClusterUnavailable()):
        with pytest.raises(ClusterUnavailable):
            await world.provisioner.delete(quick, keep_data=False)
        await world.store.mark_deleting(slow, keep_data=False)
    await until(lambda: set(world.store.sessions) == {slow})
    hangs.set()
    await until(lambda: not world.store.sessions)


async def test_work_in_progress_elsewhere_is_left_alone(world: World, recovered: Recovery) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    async with world.store.lock(uuid):
        await world.store.mark_deleting(uuid, keep_data=False)
        await asyncio.sleep(0.1)
        assert uuid in world.store.sessions
    await until(lambda: not world.store.sessions)


@pytest.mark.parametrize("by", ["recovery", "create"])
async def test_a_delete_that_a_backup_of_redis_brings_back_does_not_hit_the_next_session(world: World, by: str) -> None:
    """Its volume was kept, so the user's next session has the same id."""
    uuid = (await world.provisioner.create(ANN)).uuid
    await world.store.mark_deleting(uuid, keep_data=False)
    of_backup = replace(world.store.sessions[uuid], deleting_since=datetime.now(UTC) - timedelta(hours=1))
    world.store.sessions[uuid] = of_backup
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    if by == "recovery":
        assert await world.recovery().run()
    else:
        assert not (await world.provisioner.create(ANN)).fresh
    assert (world.cluster.workload(uuid).replicas, world.cluster.workload(uuid).volume) == (1, True)
    assert world.store.sessions[uuid].status is RecordStatus.CREATED
    assert not world.store.half
    await world.provisioner.delete(uuid, keep_data=False)
    assert not world.store.sessions


async def test_a_full_scan_finds_sessions_missing_from_the_index(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    await world.store.mark_deleting(uuid, keep_data=False)
    await world.store.claim(BOB, SessionId("12345678"))
    world.store.half.clear()
    assert await world.recovery().run()
    assert [record.user_id for record in world.store.sessions.values()] == [BOB]
    monkeypatch.setattr(recovering, "_SCAN_INTERVAL", 0.05)
    task = asyncio.create_task(world.recovery().run_forever(0.01))
    await world.store.claim(ANN, SessionId("87654321"))
    world.store.half.clear()
    await until(lambda: len(world.store.sessions) == 2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_session_that_cannot_be_restored_does_not_block_the_others(world: World) -> None:
    uuids = [(await world.provisioner.create(f"user{number}")).uuid for number in range(3)]
    for held in (world.store.users, world.store.ids, world.store.sessions):
        held.clear()
    world.store.index_is_complete = False
    claim = world.store.claim

    async def odd(user_id: str, candidate: SessionId, wanted: Wanted = NOTHING_WANTED) -> SessionId:
        if candidate == uuids[0]:
            raise RuntimeError("odd")
        return await claim(user_id, candidate, wanted)

    world.store.claim = odd  # type: ignore[method-assign]
    await world.recovery().run()
    assert set(world.store.sessions) == set(uuids[1:])
    assert world.store.index_is_complete


@pytest.mark.parametrize("step", ["uninstall", "delete_volume", "forget"])
async def test_work_stops_once_its_lock_is_lost(world: World, step: str) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    earlier = {"uninstall": (world.queues, "clear"), "delete_volume": (world.cluster, "unreserve")}
    part, before = earlier.get(step, (world.cluster, "delete_volume"))
    method = getattr(part, before)

    async def frozen(*args: Any, **kwargs: Any) -> Any:
        done = await method(*args, **kwargs)
        world.store.taken_over.add(uuid)  # when it comes back, another one has long begun
        return done

    setattr(part, before, frozen)
    with pytest.raises(SessionBusy):
        await world.provisioner.delete(uuid, keep_data=False)
    assert uuid in world.store.sessions
    workload = world.cluster.workload(uuid)
    assert (workload.release is not None) == (step == "uninstall")
    assert workload.volume == (step != "forget")


async def test_nothing_is_installed_once_the_lock_is_lost(world: World) -> None:
    reserve = world.cluster.reserve

    async def frozen(uuid: SessionId, user_id: str, assignment: Assignment = UNASSIGNED) -> None:
        await reserve(uuid, user_id, assignment)
        world.store.taken_over.add(uuid)

    world.cluster.reserve = frozen  # type: ignore[method-assign]
    with pytest.raises(SessionBusy):
        await world.provisioner.create(ANN)
    assert world.releases.installs == 0
    assert world.store.sessions == {}
    world.cluster.reserve = reserve  # type: ignore[method-assign]
    world.store.taken_over.clear()
    assert (await world.provisioner.create(ANN)).fresh


async def test_an_entry_with_nothing_left_to_do_is_removed(world: World, recovered: Recovery) -> None:
    uuid = (await world.provisioner.create(ANN)).uuid
    world.store.half[uuid] = (world.queues.clock() - timedelta(hours=1), ANN)
    await until(lambda: not world.store.half)
    assert uuid in world.store.sessions
