"""Requests of a page beyond the limit are queued, none blocks the others, and cancelled ones leave the queue."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from service.domain.names import SessionId
from service.gateway.limits import GatewayLimits
from service.gateway.proxy.request_queue import QueueFull, RequestQueues, Slot
from tests.domain.conftest import World
from tests.gateway.conftest import House, answer
from tests.gateway.test_websockets import socket
from tests.waiting import until

ANN, BOB = SessionId("aaaaaaa1"), SessionId("bbbbbbb1")


def queues(*, limit: int = 2, size: int = 4, timeout: float = 5) -> RequestQueues:
    return RequestQueues(limit=limit, size=size, timeout=timeout)


def acquired(queue: RequestQueues, uuid: SessionId = ANN) -> Slot:
    slot = queue.acquire_now(uuid)
    assert slot is not None
    return slot


async def test_queued_requests_are_served_in_order() -> None:
    queue, served = queues(limit=1), list[int]()
    first = acquired(queue)

    async def one(number: int) -> None:
        slot = await queue.acquire(ANN)
        served.append(number)
        queue.release(ANN, slot)

    waiting = [asyncio.create_task(one(number)) for number in range(4)]
    await until(lambda: queue.waiting == 4)
    assert queue.acquire_now(ANN) is None, "nobody overtakes those in line"
    assert queue.acquire_now(BOB) is not None, "a line is one session's"
    queue.release(ANN, first)
    await asyncio.gather(*waiting)
    assert served == [0, 1, 2, 3]


async def test_the_queue_is_bounded() -> None:
    queue = queues(limit=1, size=1)
    first = acquired(queue)
    waiting = asyncio.create_task(queue.acquire(ANN))
    await until(lambda: queue.waiting == 1)
    with pytest.raises(QueueFull):
        await queue.acquire(ANN)
    queue.release(ANN, first)
    queue.release(ANN, await waiting)
    assert queue.is_empty


async def test_a_cancelled_request_leaves_the_queue_even_as_its_turn_comes() -> None:
    queue = queues(limit=1)
    first = acquired(queue)
    early, late, last = (asyncio.create_task(queue.acquire(ANN)) for _ in range(3))
    await until(lambda: queue.waiting == 3)
    early.cancel()
    await asyncio.wait({early})
    assert queue.waiting == 2
    queue.release(ANN, first)
    late.cancel()  # it has its slot, and has not heard of it yet
    queue.release(ANN, await last)
    assert late.cancelled()
    assert queue.is_empty


async def test_a_closed_page_frees_all_its_slots() -> None:
    queue = queues(limit=1)
    first = acquired(queue)

    async def under_way() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            queue.release(ANN, first)

    leavers = [asyncio.create_task(under_way()), asyncio.create_task(queue.acquire(ANN))]
    stays = asyncio.create_task(queue.acquire(ANN))
    await until(lambda: queue.waiting == 2)
    for leaver in leavers:  # at the same time, as the connections of a tab that is closed
        leaver.cancel()
    found = await asyncio.gather(*leavers, return_exceptions=True)
    assert [type(each) for each in found] == [asyncio.CancelledError] * 2
    queue.release(ANN, await stays)
    assert queue.is_empty


async def test_a_request_that_waits_too_long_is_refused_and_frees_its_slot() -> None:
    queue = queues(limit=1, timeout=0.02)
    first = acquired(queue)
    with pytest.raises(QueueFull):
        await queue.acquire(ANN)
    queue.release(ANN, first)
    assert queue.is_empty


async def test_a_long_request_releases_its_slot_to_those_in_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.proxy.request_queue._LONG_RUNNING", 0.05)
    queue = queues(limit=2, timeout=0.3)
    slots = [acquired(queue), acquired(queue), await queue.acquire(ANN), await queue.acquire(ANN)]
    with pytest.raises(QueueFull):  # not without end: no more may be aside than under way
        await queue.acquire(ANN)
    queue.release(ANN, slots.pop(0))
    slots.append(await queue.acquire(ANN))
    for slot in slots:
        queue.release(ANN, slot)
    assert queue.is_empty


async def test_hundreds_of_requests_by_one_page_are_all_served(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid)
    found = await asyncio.gather(*(answer(house, f"/late?{number}", headers) for number in range(400)))
    assert Counter(status for status, _ in found) == {200: 400}
    await until(lambda: house.gateway._queues.is_empty)


async def test_a_request_cancelled_in_the_queue_does_not_reach_the_pod(world: World) -> None:
    async with House(world, GatewayLimits(session_requests=1)).open() as house:
        uuid = await house.awake()
        headers = await house.headers(uuid)
        first = asyncio.create_task(answer(house, "/held", headers))
        await until(lambda: len(house.workspaces[uuid].requests) == 1)
        leaver = asyncio.create_task(answer(house, "/left", headers))
        await until(lambda: house.gateway.traffic.queued == 1)
        leaver.cancel()
        await until(lambda: house.gateway.traffic.queued == 0)
        house.workspaces[uuid].answers.set()
        assert (await first)[0] == 200
        assert [path for _, path, _ in house.workspaces[uuid].requests] == ["/held"]


async def test_a_request_beyond_the_queue_gets_retry_after(world: World) -> None:
    terms = GatewayLimits(session_requests=1, hold_timeout=timedelta(seconds=5))
    async with House(world, terms).open() as house:
        uuid = await house.awake()
        headers = await house.headers(uuid)
        asked = [asyncio.create_task(answer(house, "/held", headers))]
        await until(lambda: len(house.workspaces[uuid].requests) == 1)
        asked += [asyncio.create_task(answer(house, "/echo", headers)) for _ in range(4)]
        await until(lambda: house.gateway.traffic.queued == 4)
        async with house.http.get(house.url("/echo"), headers=headers) as found:
            assert (found.status, found.headers["Retry-After"]) == (429, "2")
        house.workspaces[uuid].answers.set()
        assert {status for status, _ in await asyncio.gather(*asked)} == {200}


async def test_websockets_take_no_slots_from_requests_and_have_their_own_limit(world: World) -> None:
    async with House(world, GatewayLimits(session_requests=1)).open() as house, AsyncExitStack() as opened:
        uuid = await house.awake()
        await opened.enter_async_context(socket(house, uuid))
        headers = await house.headers(uuid)
        assert (await answer(house, "/echo", headers))[0] == 200
        more = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        status, body = await answer(house, "/ws", {**headers, **more})
        assert (status, b"WebSockets" in body) == (429, True)
