"""A sleep that somebody asks for: pages get a moment to save, and a wake that is asked for later wins."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from service.domain import activity
from service.domain.names import SessionId
from tests.domain.conftest import World

LONG = timedelta(seconds=0.3)


@pytest.fixture(autouse=True)
def save_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "SAVE_TIME", LONG)


@pytest.fixture
async def uuid(world: World) -> SessionId:
    """A session that somebody works in, and whose page is open."""
    uuid = (await world.provisioner.create("ann@example.com")).uuid
    await world.activity.wake(uuid)
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    await world.companions.seen(uuid, "browser")
    return uuid


def is_awake(world: World, uuid: SessionId) -> bool:
    return world.cluster.workload(uuid).replicas > 0 and world.queues.queue(uuid).tokens > 0


async def announced(world: World, sleeping: "asyncio.Task[None]") -> None:
    with world.progress.following(next(iter(world.queues.sessions))) as told:
        await asyncio.wait_for(told.wait(), 5)
    assert not sleeping.done()


async def test_an_open_page_hears_of_the_sleep_before_it_comes(world: World, uuid: SessionId) -> None:
    sleeping = asyncio.create_task(world.activity.sleep(uuid, request="request-1"))
    await announced(world, sleeping)
    assert is_awake(world, uuid)
    assert world.queues.sessions[uuid].sleep_due is not None
    await sleeping
    assert not is_awake(world, uuid)
    asked = world.queues.sessions[uuid].sleep_request
    assert asked is not None
    assert asked.request == "request-1"


@pytest.mark.parametrize("why", ["no page is open", "its pod is starting", "the caller does not wait", "Redis is full"])
async def test_it_comes_at_once_if(world: World, uuid: SessionId, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object) -> None:
        return None

    match why:
        case "no page is open":
            world.companions.browsers.clear()
        case "its pod is starting":
            world.cluster.change(replace(world.cluster.workload(uuid), ready=0))
        case "Redis is full":
            monkeypatch.setattr(world.queues, "announce_sleep", full)
        case _:
            pass
    async with asyncio.timeout(LONG.total_seconds() / 2):
        await world.activity.sleep(uuid, now=why == "the caller does not wait")
    assert not is_awake(world, uuid)


ACTS: dict[str, Callable[[World, SessionId], Awaitable[object]]] = {
    "wake": lambda world, uuid: world.activity.wake(uuid),
    "extension": lambda world, uuid: world.activity.extend(uuid, timedelta(hours=1)),
    "input": lambda world, uuid: world.activity.heartbeat(uuid, "input"),
}


@pytest.mark.parametrize(("act", "stays"), [("wake", True), ("extension", True), ("input", False)])
async def test_what_somebody_asks_for_later_wins_and_mere_input_does_not(
    world: World, uuid: SessionId, act: str, stays: bool
) -> None:
    sleeping = asyncio.create_task(world.replica().activity.sleep(uuid))
    await announced(world, sleeping)
    await ACTS[act](world, uuid)
    await sleeping
    assert is_awake(world, uuid) == stays
    assert (world.queues.sessions[uuid].sleep_request is None) == stays, "the history would tell of a sleep"


async def test_a_wake_before_the_request_does_not_win(world: World, uuid: SessionId) -> None:
    await world.activity.wake(uuid)
    await world.activity.sleep(uuid)
    assert not is_awake(world, uuid)


async def test_a_restart_comes_although_a_frontend_wakes_meanwhile(world: World, uuid: SessionId) -> None:
    restarting = asyncio.create_task(world.activity.restart(uuid, by="visit"))
    await announced(world, restarting)
    await world.activity.wake(uuid)
    await restarting
    assert world.queues.sessions[uuid].sleep_request is not None
    assert world.queues.queue(uuid).tokens > 0


async def test_a_request_that_died_before_its_sleep_changes_nothing_for_later_ones(
    world: World, uuid: SessionId
) -> None:
    sleeping = asyncio.create_task(world.activity.sleep(uuid))
    await announced(world, sleeping)
    sleeping.cancel()
    await asyncio.gather(sleeping, return_exceptions=True)
    assert is_awake(world, uuid)
    await world.replica().activity.sleep(uuid)
    assert not is_awake(world, uuid)


async def test_two_who_ask_at_once_get_one_sleep_and_none_is_undone(world: World, uuid: SessionId) -> None:
    await asyncio.gather(*(world.replica().activity.sleep(uuid) for _ in range(2)))
    assert not is_awake(world, uuid)
