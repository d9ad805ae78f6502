"""One session's upgrade: what is kept, what is refused, what becomes of a failure and of a crash."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import (
    ClusterUnavailable,
    HelmTimeout,
    HelmUnavailable,
    InstallFailed,
    SessionAwake,
    SessionBroken,
    SessionBusy,
    SessionDeleting,
    SessionError,
    SessionNotFound,
    SessionReleased,
    SessionUnreadable,
    UpgradeConflict,
    UpgradeFailed,
)
from service.domain.idle_times import IdleTimes
from service.domain.limits import RequestedIdleTimes
from service.domain.names import SessionId
from service.domain.release import ReleaseState
from service.domain.rollout import Standing
from service.domain.upgrading import Upgrade
from service.domain.workload import Assignment
from tests.domain.conftest import World


@pytest.fixture
async def uuid(world: World) -> SessionId:
    created = await world.provisioner.create("ann", RequestedIdleTimes(cooldown=timedelta(seconds=700)))
    world.releases.target = "second"
    return created.uuid


def state(world: World, uuid: SessionId) -> tuple[str | None, ReleaseState | None, int]:
    workload = world.cluster.workload(uuid)
    return workload.revision, workload.release.state if workload.release else None, workload.replicas


async def begun(world: World) -> None:
    """Wait until helm runs."""
    while not world.releases.at_work:  # noqa: ASYNC110 - the fake has no event for it
        await asyncio.sleep(0)


async def test_an_upgrade_keeps_what_is_the_sessions_own_and_wakes_nobody(world: World, uuid: SessionId) -> None:
    before = world.cluster.workload(uuid)
    assert world.upgrades.is_outdated(before)
    assert (await world.upgrades.upgrade(uuid, by="shop")).changed
    after = world.cluster.workload(uuid)
    assert state(world, uuid) == ("second", ReleaseState.DEPLOYED, 0)
    assert (after.user_id, after.idle_times, after.parked) == (before.user_id, before.idle_times, before.parked)
    assert not world.upgrades.is_outdated(after)
    assert not (await world.upgrades.upgrade(uuid, by="shop")).changed
    assert world.releases.upgrades == [uuid]
    assert [entry.EVENT for entry in world.journal.entries] == ["session created", "session upgraded"]
    assert getattr(world.journal.entries[-1], "by", None) == "shop"


async def test_an_awake_session_is_upgraded_only_if_its_pod_may_restart(world: World, uuid: SessionId) -> None:
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    with pytest.raises(SessionAwake):
        await world.upgrades.upgrade(uuid, by="shop")
    assert (await world.upgrades.upgrade(uuid, by="shop", restart=True)).changed
    assert state(world, uuid) == ("second", ReleaseState.DEPLOYED, 1)


async def test_a_wake_that_no_controller_has_seen_yet_keeps_the_upgrade_away(world: World, uuid: SessionId) -> None:
    await world.queues.wake(uuid, timedelta(seconds=10))
    with pytest.raises(SessionAwake):
        await world.upgrades.upgrade(uuid, by="shop")
    assert world.releases.upgrades == []


async def test_a_wake_in_the_middle_is_carried_out(world: World, uuid: SessionId) -> None:
    world.releases.seconds = 0.05
    work = asyncio.create_task(world.upgrades.upgrade(uuid, by="shop"))
    await begun(world)
    await world.activity.wake(uuid, by="ann")
    await world.cluster.scale(uuid, 1)
    assert (await work).changed
    assert state(world, uuid) == ("second", ReleaseState.DEPLOYED, 1)


@pytest.mark.parametrize("error", [InstallFailed(), UpgradeFailed("no quota"), HelmTimeout()])
async def test_a_failed_upgrade_is_rolled_back_and_gives_its_reason(
    world: World, uuid: SessionId, error: SessionError
) -> None:
    world.releases.failing[uuid] = error
    with pytest.raises(UpgradeFailed, match=f"{error}; it is rolled back"):
        await world.upgrades.upgrade(uuid, by="shop")
    assert state(world, uuid) == ("first", ReleaseState.DEPLOYED, 0)
    assert world.journal.entries[-1].EVENT == "session failed"
    del world.releases.failing[uuid]
    assert (await world.upgrades.upgrade(uuid, by="shop")).changed
    assert state(world, uuid) == ("second", ReleaseState.DEPLOYED, 0)


async def test_a_failed_rollback_is_part_of_the_reason(
    world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: object) -> None:
        raise UpgradeFailed("that neither")

    world.releases.failing[uuid] = UpgradeFailed("no quota")
    monkeypatch.setattr(world.releases, "rollback", fail)
    with pytest.raises(UpgradeFailed, match="no quota; it could not be rolled back either"):
        await world.upgrades.upgrade(uuid, by="shop")
    assert "that neither" in caplog.text
    assert world.upgrades.is_outdated(world.cluster.workload(uuid)), "although the objects have the new revision"
    monkeypatch.undo()
    world.releases.failing.clear()
    assert (await world.upgrades.upgrade(uuid, by="shop")).changed
    assert state(world, uuid) == ("second", ReleaseState.DEPLOYED, 0)


async def test_what_others_have_set_to_helms_values_stops_no_upgrade(
    world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `helm get manifest | kubectl apply`."""
    conflict = UpgradeConflict("kubectl has set x", managers=frozenset({"kubectl"}), step="Undo it")
    world.releases.failing[uuid] = conflict
    disown = world.cluster.disown

    async def disown_and_agree(session: SessionId, managers: Collection[str]) -> bool:
        world.releases.failing.clear()
        return await disown(session, managers)

    monkeypatch.setattr(world.cluster, "disown", disown_and_agree)
    world.cluster.agreeing = {(uuid, "kubectl")}
    assert (await world.upgrades.upgrade(uuid, by="shop")).changed
    assert world.releases.upgrades == [uuid, uuid]
    assert state(world, uuid) == ("second", ReleaseState.DEPLOYED, 0)


async def test_what_others_have_changed_is_kept_and_the_refusal_says_what_to_do(world: World, uuid: SessionId) -> None:
    conflict = UpgradeConflict("kubectl has set x", managers=frozenset({"kubectl"}), step="Undo it")
    world.releases.failing[uuid] = conflict
    world.cluster.agreeing = {(uuid, "another")}
    with pytest.raises(UpgradeConflict, match=r"^kubectl has set x; it is rolled back\. Undo it$"):
        await world.upgrades.upgrade(uuid, by="shop")
    assert world.releases.upgrades == [uuid], "nothing is tried twice"
    assert state(world, uuid) == ("first", ReleaseState.DEPLOYED, 0)
    assert world.journal.entries[-1].EVENT == "session failed"


async def test_a_part_that_is_away_is_no_failure_of_the_release(
    world: World, uuid: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> None:
        raise ClusterUnavailable

    world.releases.failing[uuid] = HelmUnavailable()
    with pytest.raises(HelmUnavailable):
        await world.upgrades.upgrade(uuid, by="shop")
    world.releases.failing[uuid] = ClusterUnavailable()
    monkeypatch.setattr(world.cluster, "check", away)
    with pytest.raises(ClusterUnavailable):
        await world.upgrades.upgrade(uuid, by="shop")
    monkeypatch.undo()
    # The API server answers, so it was a webhook that did not.
    with pytest.raises(UpgradeFailed):
        await world.upgrades.upgrade(uuid, by="shop")
    assert state(world, uuid) == ("first", ReleaseState.DEPLOYED, 0)


async def test_what_a_dead_helm_has_left_is_rolled_back_first_once_it_must_be_dead(
    world: World, uuid: SessionId
) -> None:
    workload = world.cluster.workload(uuid)
    assert workload.release is not None
    pending = replace(workload.release, revision=2, state=ReleaseState.PENDING_UPGRADE, modified_at=datetime.now(UTC))
    world.cluster.change(replace(workload, release=pending, revision="second"))
    assert world.upgrades.standing(world.cluster.workload(uuid)) is Standing.BUSY
    with pytest.raises(SessionBusy):
        await world.upgrades.upgrade(uuid, by="shop")
    old = replace(pending, modified_at=datetime.now(UTC) - timedelta(seconds=6))
    world.cluster.change(replace(workload, release=old, revision="second"))
    assert world.upgrades.standing(world.cluster.workload(uuid)) is Standing.ASLEEP
    assert (await world.upgrades.upgrade(uuid, by="shop")).changed
    assert (world.releases.rollbacks, world.releases.upgrades) == ([uuid], [uuid])
    assert state(world, uuid) == ("second", ReleaseState.DEPLOYED, 0)


async def test_what_cannot_be_upgraded_is_refused_with_the_reason(world: World, uuid: SessionId) -> None:
    workload = world.cluster.workload(uuid)
    for changed, error in (
        (replace(workload, release=None, deployed=False, has_scaler=False), SessionReleased),
        (replace(workload, has_scaler=False), SessionBroken),
        (replace(workload, user_id=None), SessionBroken),
        (replace(workload, read_error="no"), SessionUnreadable),
        (replace(workload, deleting=True), SessionDeleting),
    ):
        world.cluster.change(changed)
        with pytest.raises(error):
            await world.upgrades.upgrade(uuid, by="shop")
    world.cluster.change(workload)
    world.queues.unreadable_queues[uuid] = "a string"
    with pytest.raises(SessionUnreadable):
        await world.upgrades.upgrade(uuid, by="shop")
    world.queues.unreadable_queues.clear()
    async with world.store.lock(uuid):
        with pytest.raises(SessionBusy):
            await world.upgrades.upgrade(uuid, by="shop")
    await world.store.mark_deleting(uuid, keep_data=True)
    with pytest.raises(SessionDeleting):
        await world.upgrades.upgrade(uuid, by="shop")
    await world.store.forget(uuid)
    with pytest.raises(SessionNotFound):
        await world.upgrades.upgrade(uuid, by="shop")
    assert world.releases.upgrades == []


async def test_a_caller_that_leaves_interrupts_nothing(world: World, uuid: SessionId) -> None:
    world.releases.seconds = 0.05
    work = asyncio.create_task(world.upgrades.upgrade(uuid, by="shop"))
    await begun(world)
    work.cancel()
    await world.upgrades.close()
    assert state(world, uuid) == ("second", ReleaseState.DEPLOYED, 0)


async def test_an_upgrade_is_undone_by_the_revision_before(world: World, uuid: SessionId) -> None:
    await world.upgrades.undo(uuid)
    assert world.releases.rollbacks == []
    await world.upgrades.upgrade(uuid, by="shop")
    await world.upgrades.undo(uuid)
    assert state(world, uuid) == ("first", ReleaseState.DEPLOYED, 0)


async def test_a_release_of_an_earlier_service_is_outdated_and_keeps_its_idle_times(
    world: World, uuid: SessionId
) -> None:
    times = IdleTimes(cooldown=timedelta(seconds=11))
    world.cluster.change(replace(world.cluster.workload(uuid), revision=None, idle_times=times))
    assert world.upgrades.is_outdated(world.cluster.workload(uuid))
    await world.upgrades.upgrade(uuid, by="shop")
    assert world.cluster.workload(uuid).idle_times == times


async def test_each_profile_has_a_revision_of_its_own(world: World) -> None:
    """So a change of one profile's values leaves the sessions of all others alone."""
    large, gone, plain = [(await world.provisioner.create(f"u{number}")).uuid for number in range(3)]
    for uuid, profile in ((large, "large"), (gone, "gone")):
        world.cluster.change(replace(world.cluster.workload(uuid), assignment=Assignment(profile=profile)))
    world.releases.of_profiles = {"large": "second", "gone": None}
    stands = [world.upgrades.standing(world.cluster.workload(uuid)) for uuid in (large, gone, plain)]
    assert stands == [Standing.ASLEEP, Standing.BROKEN, Standing.UPGRADED]
    assert await world.upgrades.upgrade(large, by="shop") == Upgrade(changed=True, revision="second")
    assert world.cluster.workload(large).assignment.profile == "large"
    with pytest.raises(SessionBroken, match="'gone' is no longer defined"):
        await world.upgrades.upgrade(gone, by="shop")
    assert world.releases.upgrades == [large]
