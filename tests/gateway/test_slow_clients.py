"""Clients that take long over what they owe, over real sockets: they are ended; those that are merely quiet are not."""

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from service.domain.metrics import Slow
from service.domain.names import SessionId
from service.edge.connection_limits import ConnectionLimits, affordable
from service.gateway.limits import GatewayLimits
from tests.domain.conftest import World
from tests.gateway.conftest import House, answer
from tests.gateway.test_websockets import socket as websocket


@asynccontextmanager
async def bounded(world: World, connection_limits: ConnectionLimits) -> AsyncIterator[House]:
    async with House(world, GatewayLimits(connection_limits=connection_limits)).open() as house:
        yield house


@asynccontextmanager
async def dialled(house: House) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)


async def head(house: House, uuid: SessionId, path: str, method: str = "GET", **more: str) -> bytes:
    lines = [f"{name}: {value}" for name, value in (await house.headers(uuid, **more)).items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode()


async def ended(reader: asyncio.StreamReader, seconds: float = 5) -> bytes:
    """Everything received until the gateway closes the connection."""
    async with asyncio.timeout(seconds):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


async def dribble(writer: asyncio.StreamWriter, text: bytes) -> None:
    """A byte now and then, for far longer than any test lasts."""
    for at in range(len(text)):
        writer.write(text[at : at + 1])
        await asyncio.sleep(0.05)


async def test_a_silent_client_is_disconnected(world: World) -> None:
    async with bounded(world, ConnectionLimits(idle=0.3)) as house, dialled(house) as (reader, _):
        assert await ended(reader) == b""


async def test_a_head_that_arrives_too_slowly_is_refused(world: World) -> None:
    async with bounded(world, ConnectionLimits(head=0.3)) as house, dialled(house) as (reader, writer):
        dribbling = asyncio.create_task(dribble(writer, b"GET / HTTP/1.1\r\n" + b"X-Header: slow\r\n" * 100))
        try:
            assert await ended(reader, 2) == b""
            assert house.metrics.slow == {Slow.HEAD: 1}
        finally:
            dribbling.cancel()
            await asyncio.gather(dribbling, return_exceptions=True)


async def test_a_second_head_that_arrives_too_slowly_is_refused(world: World) -> None:
    async with bounded(world, ConnectionLimits(head=0.3)) as house, dialled(house) as (reader, writer):
        uuid = await house.awake()
        writer.write(await head(house, uuid, "/bare"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        dribbling = asyncio.create_task(dribble(writer, b"GET / HTTP/1.1\r\n" + b"X-Header: slow\r\n" * 100))
        try:
            assert await ended(reader, 2) == b""
            assert house.metrics.slow == {Slow.HEAD: 1}
        finally:
            dribbling.cancel()
            await asyncio.gather(dribbling, return_exceptions=True)


async def test_a_kept_connection_may_idle_and_a_head_may_arrive_in_two_pieces(world: World) -> None:
    async with bounded(world, ConnectionLimits(head=0.4, idle=5)) as house, dialled(house) as (reader, writer):
        uuid = await house.awake()
        for _ in range(3):
            text = await head(house, uuid, "/bare")
            writer.write(text[:20])
            await asyncio.sleep(0.1)
            writer.write(text[20:])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
            await asyncio.sleep(0.6)


async def test_a_request_may_take_longer_than_the_head_timeout(world: World) -> None:
    async with bounded(world, ConnectionLimits(head=0.2)) as house:
        uuid = await house.awake()
        assert await answer(house, "/late", await house.headers(uuid)) == (200, b"late")

        async def parts() -> AsyncIterator[bytes]:
            for _ in range(10):
                yield b"part"
                await asyncio.sleep(0.05)

        assert (await answer(house, "/echo", await house.headers(uuid), "PUT", data=parts()))[0] == 200


async def test_a_connection_beyond_the_limit_gets_retry_after(world: World) -> None:
    async with bounded(world, ConnectionLimits(connections=2)) as house, dialled(house), dialled(house) as (_, second):
        uuid = await house.awake()
        async with dialled(house) as (reader, writer):
            writer.write(await head(house, uuid, "/bare"))
            told = (await ended(reader)).decode()
        assert told.startswith("HTTP/1.1 503 Service Unavailable\r\n")
        assert "Retry-After: 5\r\n" in told
        assert "Connection: close\r\n" in told
        assert '"title": "Too many connections"' in told
        assert not house.workspaces[uuid].requests
        second.transport.abort()
        await asyncio.sleep(0.05)
        assert (await answer(house, "/bare", await house.headers(uuid)))[0] == 204


async def test_connections_far_beyond_the_limit_are_closed_silently(world: World) -> None:
    async with bounded(world, ConnectionLimits(connections=10)) as house:
        opened = [await asyncio.open_connection("127.0.0.1", house.port) for _ in range(13)]
        told = [await ended(reader) for reader, _ in opened[10:]]
        for _, writer in opened:
            writer.transport.abort()
    assert [bool(each) for each in told] == [True, False, False]
    assert house.metrics.away == 3


async def test_a_client_that_stops_reading_costs_little_and_is_disconnected_from_its_pod(
    world: World,
) -> None:
    async with bounded(world, ConnectionLimits(stall=1)) as house:
        uuid = await house.awake()
        workspace = house.workspaces[uuid]
        with socket.create_connection(("127.0.0.1", house.port)) as lazy:
            lazy.setblocking(False)
            await asyncio.get_running_loop().sock_sendall(lazy, await head(house, uuid, "/flood"))
            await asyncio.wait_for(workspace.interrupted.wait(), 10)
        assert house.metrics.slow == {Slow.ANSWER: 1}
        assert 0 < workspace.sent < 32 * 2**20  # what fits into the sockets' own buffers, and no more


async def test_a_slow_download_is_completed(world: World) -> None:
    size = 24 * 2**20
    async with bounded(world, ConnectionLimits(stall=0.5)) as house, dialled(house) as (reader, writer):
        uuid = await house.awake()
        writer.write(await head(house, uuid, f"/bytes?size={size}"))
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(24):
            await reader.readexactly(2**20)
            await asyncio.sleep(0.1)


async def test_a_stalled_upload_is_ended_for_client_and_pod(world: World) -> None:
    async with bounded(world, ConnectionLimits(stall=0.3)) as house, dialled(house) as (reader, writer):
        uuid = await house.awake()
        writer.write(await head(house, uuid, "/echo", "PUT", Content_Length="1000") + b"half")
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 408")
        await asyncio.wait_for(house.workspaces[uuid].interrupted.wait(), 5)
        assert house.metrics.slow == {Slow.BODY: 1}


async def test_a_body_that_waits_for_its_pod_is_not_a_stalled_upload(world: World) -> None:
    async with House(world, GatewayLimits(connection_limits=ConnectionLimits(stall=0.3)), delay=1).open() as house:
        uuid = await house.session()
        status, _ = await answer(house, "/echo", await house.headers(uuid), "PUT", data=b"x" * 1_000_000)
        assert status == 200


async def test_a_quiet_websocket_and_a_quiet_stream_stay_open(world: World) -> None:
    async with bounded(world, ConnectionLimits(head=0.2, idle=0.3, stall=0.3)) as house:
        uuid = await house.awake()
        async with (
            websocket(house, uuid) as connection,
            house.http.get(house.url("/drip?every=1"), headers=await house.headers(uuid)) as stream,
        ):
            assert await stream.content.readuntil(b"\n\n") == b"data: 0\n\n"
            assert await stream.content.readuntil(b"\n\n") == b"data: 1\n\n"
            await connection.send("still there")
            assert await connection.recv() == "still there"


async def test_connections_are_limited_by_the_number_of_open_files(caplog: pytest.LogCaptureFixture) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        with caplog.at_level(logging.WARNING):
            assert affordable(ConnectionLimits(connections=before[1] // 4)).connections == before[1] // 4
            assert not caplog.records
            assert affordable(ConnectionLimits(connections=before[1])).connections < before[1] // 2
            assert caplog.records
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
