"""WebSockets through the gateway, with another client library than the gateway's: `websockets`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from websockets import Subprotocol
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from service.domain.names import SessionId
from service.gateway.activity.rules import ActivityMode
from service.gateway.limits import GatewayLimits
from service.gateway.websocket.frames import CONTINUATION, FIN, TEXT, FrameReader, close_frame
from tests.domain.conftest import World
from tests.gateway.conftest import House
from tests.waiting import until
from tests.wire import frame


@asynccontextmanager
async def socket(
    house: House, uuid: SessionId, path: str = "/ws", protocols: Sequence[str] = (), **more: str
) -> AsyncIterator[ClientConnection]:
    headers = await house.headers(uuid, **more)
    del headers["Host"]
    url = f"ws://{house.host(uuid)}:{house.port}{path}"
    async with connect(
        url, additional_headers=headers, host="127.0.0.1", port=house.port, max_size=None, proxy=None, close_timeout=2,
        subprotocols=[Subprotocol(each) for each in protocols] or None,
    ) as connection:  # fmt: skip
        yield connection


async def test_messages_of_every_kind_and_size_are_passed_on(house: House) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:
        for message in ("", "text ü", b"", b"\x00\xff" * 3, b"x" * 125, b"y" * 126, b"z" * 70_000, "t" * 1_000_000):
            await connection.send(message)
            assert await connection.recv() == message


async def test_fragments_and_pings_between_them_are_passed_on(house: House) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:

        async def parts() -> AsyncIterator[str]:
            for part in ("one ", "two ", "three"):
                yield part
                await (await connection.ping())

        await connection.send(parts())
        assert await connection.recv() == "one two three"


async def test_subprotocols_are_negotiated_with_the_pod_and_extensions_are_not(house: House) -> None:
    uuid = await house.awake()
    async with socket(house, uuid, protocols=["other", "echo.v1"]) as connection:
        assert connection.subprotocol == "echo.v1"
        assert connection.response is not None
        assert ("Sec-WebSocket-Extensions" in connection.response.headers) is False
    ((_, _, told),) = house.workspaces[uuid].requests
    assert told["Sec-WebSocket-Protocol"] == ["other, echo.v1"]
    assert not any("extensions" in name.lower() for name in told)


async def test_fragments_and_pings_of_the_pod_keep_their_order(house: House) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:
        house.workspaces[uuid].raw = (
            frame(TEXT, b"one ")
            + frame(FIN | 0x9, b"now")
            + frame(CONTINUATION, b"two " * 100)
            + frame(CONTINUATION, b"")
            + frame(FIN | CONTINUATION, b"")
        )
        await connection.send("raw")
        found = [part async for part in connection.recv_streaming()]
        assert [part for part in found if part] == ["one ", "two " * 100]
        await connection.send("and on it goes")
        assert await connection.recv() == "and on it goes"


@pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (4001, "by hand"), (1011, "ü" * 50)])
async def test_close_codes_of_the_pod_reach_the_browser(house: House, code: int, reason: str) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:
        await connection.send(f"close {code} {reason}")
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)


async def test_close_codes_of_the_browser_reach_the_pod(house: House) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:
        await connection.close(4002, "enough")
        (theirs,) = house.workspaces[uuid].sockets
        await until(lambda: theirs.close_code == 4002)


async def test_the_pod_notices_a_browser_that_vanishes(house: House) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:
        connection.transport.abort()
        (theirs,) = house.workspaces[uuid].sockets
        await until(lambda: theirs.closed or theirs._req is None or theirs._req.transport is None)


async def test_a_websocket_to_a_sleeper_waits_for_it_and_works(house: House) -> None:
    house.delay = 0.3
    uuid = await house.session()
    async with socket(house, uuid) as connection:
        await connection.send("first")
        assert await connection.recv() == "first"


async def test_a_websocket_is_closed_properly_when_the_workspace_falls_asleep(house: House) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:
        await connection.send("x")
        await connection.recv()
        sleeping = asyncio.create_task(house.fall_asleep(uuid))
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
        await sleeping
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1001, "the workspace went to sleep")


async def test_a_reconnecting_editor_does_not_wake_a_sleeper_and_is_served_once_awake(house: House) -> None:
    uuid = await house.session()
    path = "/ws?reconnectionToken=1&reconnection=true&skipWebSocketFrames=false"
    with pytest.raises(InvalidStatus) as refused:
        async with socket(house, uuid, path):
            pass
    assert refused.value.response.status_code == 503
    assert house.world.cluster.workload(uuid).replicas == 0
    await house.start(uuid)
    async with socket(house, uuid, path) as connection:
        await connection.send("back")
        assert await connection.recv() == "back"


async def test_a_websocket_from_another_hosts_page_is_refused(house: House) -> None:
    uuid = await house.awake()
    with pytest.raises(InvalidStatus) as refused:
        async with socket(house, uuid, Origin="https://vs-code-00000000.pods.test"):
            pass
    assert refused.value.response.status_code == 403
    assert not house.workspaces[uuid].requests


async def test_a_path_without_websockets_answers_as_usual(house: House) -> None:
    uuid = await house.awake()
    with pytest.raises(InvalidStatus) as refused:
        async with socket(house, uuid, "/bare"):
            pass
    assert refused.value.response.status_code == 204


async def test_input_is_activity_and_pings_are_not(house: House) -> None:
    uuid = await house.awake()
    async with socket(house, uuid) as connection:
        await until(lambda: house.world.store.sessions[uuid].activity_source == "visit")
        before = house.world.store.sessions[uuid].last_activity
        await (await connection.ping())
        await connection.send("")
        await connection.recv()
        assert house.world.store.sessions[uuid].last_activity == before
        await connection.send("typed")
        await until(lambda: house.world.store.sessions[uuid].activity_source == "input", 8)


async def test_an_open_websocket_is_activity_if_configured(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.activity.notes.INTERVAL", 0.05)
    async with House(world, GatewayLimits(activity_mode=ActivityMode.CONNECTION)).open() as house:
        uuid = await house.awake()
        async with socket(house, uuid):
            await until(lambda: world.store.sessions[uuid].activity_source == "connection")
            before = world.store.sessions[uuid].last_activity
            await until(lambda: world.store.sessions[uuid].last_activity != before)


def masked(opcode: int, payload: bytes) -> bytes:
    return frame(FIN | opcode, payload, b"\x01\x02\x03\x04")


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 10**6])
def test_frames_are_recognised_however_the_bytes_arrive(step: int) -> None:
    payloads = [b"", b"a", b"x" * 125, b"y" * 126, b"z" * 70_000, b"end"]
    data = b"".join(masked(2, payload) for payload in payloads) + masked(9, b"") + close_frame(1001, "bye")
    frames, seen = FrameReader(keep=200), []
    for at in range(0, len(data), step):
        seen += list(frames.read(data[at : at + step]))
    assert [(frame.opcode, frame.length) for frame in seen] == [(2, len(p)) for p in payloads] + [(9, 0), (8, 5)]
    assert [frame.head for frame in seen[:6]] == [payload[:200] for payload in payloads]
    assert frames.at_boundary


def test_a_final_empty_frame_is_seen_at_once() -> None:
    frames = FrameReader()
    assert [frame.opcode for frame in frames.read(masked(9, b""))] == [9]
    assert frames.at_boundary
    assert list(frames.read(masked(1, b"abc")[:3])) == []
    assert not frames.at_boundary
