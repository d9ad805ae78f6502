"""The journal entries of the use cases: one each, and never with the user's id."""

import asyncio
from dataclasses import asdict, replace
from datetime import timedelta

import pytest

from service.domain import request_context as calls
from service.domain.errors import HelmTimeout
from service.domain.journal import Created, Deleted, Failed, Woken, hashed
from service.domain.metrics import Creation
from tests.domain.conftest import World

USER = "john@example.com"


async def test_a_create_is_journaled_once_for_all_its_callers(world: World) -> None:
    calls.begin("request-1")
    await asyncio.gather(*(world.provisioner.create(USER) for _ in range(5)))
    (created,) = world.journal.entries
    assert isinstance(created, Created)
    assert (created.user, created.request, created.outcome) == (hashed(USER), "request-1", Creation.INSTALLED)
    await world.provisioner.create(USER)
    again = world.journal.entries[1]
    assert isinstance(again, Created)
    assert (again.uuid, again.outcome) == (created.uuid, Creation.PRESENT)


async def test_failed_creates_and_deletes_are_journaled_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(*_: object) -> None:
        raise HelmTimeout

    uuid = (await world.provisioner.create(USER)).uuid
    world.journal.entries.clear()
    monkeypatch.setattr(world.releases, "install", late)
    monkeypatch.setattr(world.releases, "uninstall", late)
    with pytest.raises(HelmTimeout):
        await world.provisioner.create("bob")
    with pytest.raises(HelmTimeout):
        await world.provisioner.delete(uuid, keep_data=True)
    failures = [each for each in world.journal.entries if isinstance(each, Failed)]
    assert [(each.doing, each.uuid, each.user) for each in failures] == [
        ("create", None, hashed("bob")),
        ("delete", uuid, hashed(USER)),
    ]
    assert all(each.reason == HelmTimeout.message for each in failures)
    assert len(world.journal.entries) == 2


async def test_a_wake_of_a_sleeper_is_journaled_and_a_heartbeat_is_not(world: World) -> None:
    uuid = (await world.provisioner.create(USER)).uuid
    world.journal.entries.clear()
    other = world.replica()
    for activity in (world.activity, other.activity, world.activity):
        await activity.wake(uuid, by="visit")
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    for _ in range(3):
        await world.queues.settle(uuid, world.queues.clock() + timedelta(seconds=1))
        await world.activity.wake(uuid)
        await world.activity.heartbeat(uuid, "typing")
    (woken,) = world.journal.entries
    assert isinstance(woken, Woken)
    assert (woken.uuid, woken.user, woken.by) == (uuid, hashed(USER), "visit")
    await other.provisioner.close()


async def test_the_next_wake_after_a_requested_sleep_is_journaled_again(world: World) -> None:
    uuid = (await world.provisioner.create(USER)).uuid
    await world.activity.wake(uuid)
    await world.activity.sleep(uuid)
    await world.activity.wake(uuid)
    assert [each.by for each in world.journal.entries if isinstance(each, Woken)] == ["api", "api"]


async def test_a_delete_is_journaled_once_even_if_it_is_finished_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = (await world.provisioner.create(USER)).uuid
    await world.store.mark_deleting(uuid, keep_data=False)
    await world.recovery().run()
    (deleted,) = [each for each in world.journal.entries if isinstance(each, Deleted)]
    assert (deleted.uuid, deleted.user, deleted.by, deleted.keep_data) == (uuid, hashed(USER), "request", False)


async def test_forgetting_a_session_after_its_retention_is_journaled(world: World) -> None:
    uuid = (await world.provisioner.create(USER)).uuid
    await world.releases.uninstall(uuid)
    assert await world.provisioner.collect(uuid, timedelta(0))
    (deleted,) = [each for each in world.journal.entries if isinstance(each, Deleted)]
    assert deleted.by == "retention"


async def test_no_entry_contains_the_user_id(world: World) -> None:
    uuid = (await world.provisioner.create(USER)).uuid
    await world.activity.wake(uuid)
    await world.provisioner.delete(uuid, keep_data=True)
    assert len(world.journal.entries) == 3
    assert all(USER not in str(asdict(each)) for each in world.journal.entries)
