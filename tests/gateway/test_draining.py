"""The gateway during a shutdown: it continues to serve, then closes connections properly and spread over time."""

import asyncio
import contextlib
import socket as tcp
import time
from collections.abc import AsyncIterator

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.domain.conftest import World
from tests.gateway.conftest import House, answer, raw
from tests.gateway.test_websockets import socket
from tests.waiting import until


async def closed(connection: ClientConnection) -> tuple[int, str, float]:
    """Close code, reason, and when."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.recv()
    return connection.close_code or 0, connection.close_reason or "", time.monotonic()


async def test_a_draining_gateway_serves_everything_and_keeps_no_connection(world: World) -> None:
    async with House(world).open() as house:
        uuid = await house.awake()
        async with socket(house, uuid) as before:
            house.drain.begun.set()
            await asyncio.sleep(0)
            said = await raw(house, "GET /echo", await house.headers(uuid))
            assert said.startswith(b"HTTP/1.1 200")
            assert b"connection: close" in said.lower()
            async with socket(house, uuid) as during:
                for each in (before, during):
                    await each.send("still here")
                    assert await each.recv() == "still here"


async def test_websockets_are_closed_with_a_code_and_spread_over_time(world: World) -> None:
    async with House(world, spread=0.4).open() as house:
        uuid = await house.awake()
        async with socket(house, uuid) as one, socket(house, uuid) as two, socket(house, uuid) as three:
            ends = [asyncio.create_task(closed(each)) for each in (one, two, three)]
            house.drain.begun.set()
            house.drain.over.set()
            said = await asyncio.gather(*ends)
        assert {(code, reason) for code, reason, _ in said} == {(1012, "the gateway restarts; connect again")}
        times = sorted(at for _, _, at in said)
        assert times[-1] - times[0] >= 0.2, "all at once would come back at once"


async def test_closing_does_not_cut_a_frame_in_progress(world: World) -> None:
    async with House(world).open() as house:
        uuid = await house.awake()
        async with socket(house, uuid) as connection:
            await until(lambda: bool(house.workspaces[uuid].sockets))
            house.workspaces[uuid].raw = b"\x81\x05he"  # the beginning of a message of five characters
            await connection.send("raw")
            await asyncio.sleep(0.05)
            house.drain.begun.set()
            house.drain.over.set()
            await asyncio.sleep(0.05)
            house.workspaces[uuid].raw = b"llo"
            await connection.send("raw")
            assert await connection.recv() == "hello"
            assert (await closed(connection))[0] == 1012


async def test_a_held_request_is_served_before_the_gateway_exits(world: World) -> None:
    async with House(world, delay=0.3).open() as house:
        uuid = await house.session()
        held = asyncio.create_task(answer(house, "/echo", await house.headers(uuid)))
        await until(lambda: house.gateway.traffic.held == 1)
        house.drain.begun.set()
        house.drain.over.set()
        assert (await held)[0] == 200


async def test_a_waiting_page_moves_to_another_replica_without_an_error(world: World) -> None:
    async with House(world, delay=60).open() as house:
        uuid = await house.session()
        async with house.http.get(house.url("/.user-pods/wake"), headers=await house.headers(uuid)) as stream:
            await stream.content.readany()
            house.drain.begun.set()
            house.drain.over.set()
            async with asyncio.timeout(5):
                rest = await stream.content.read()
        assert b"failed" not in rest, "the page would give up instead of asking again"


async def test_new_connections_are_refused_after_the_drain(world: World) -> None:
    async with House(world).open() as house:
        house.drain.begun.set()
        house.drain.over.set()

        def refused() -> bool:
            with tcp.socket() as client:
                return client.connect_ex(("127.0.0.1", house.port)) != 0

        # asyncio's own loop forgets a connection that comes in the very turn in which it closes the listener.
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            while not refused():  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)


async def test_an_upload_in_progress_is_completed(world: World) -> None:
    async with House(world).open() as house:
        uuid = await house.awake()

        async def slowly() -> AsyncIterator[bytes]:
            yield b"first"
            await until(lambda: bool(house.workspaces[uuid].requests))
            house.drain.begun.set()
            house.drain.over.set()
            for _ in range(5):
                await asyncio.sleep(0.02)
                yield b"more"

        async with house.http.post(house.url("/echo"), headers=await house.headers(uuid), data=slowly()) as said:
            assert (said.status, (await said.json())["length"]) == (200, 25)
