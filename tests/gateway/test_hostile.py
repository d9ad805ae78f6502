"""Misbehaving pods and clients affect nobody else, and are reported as what they are."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import ClientPayloadError
from multidict import CIMultiDict, CIMultiDictProxy

from service.domain.metrics import ActivitySource
from service.gateway.access.cookie_header import COOKIE
from service.gateway.limits import GatewayLimits
from service.gateway.proxy.headers import to_browser
from service.gateway.proxy.pods import Upstream
from service.gateway.websocket.frames import FIN, TEXT, Frame, FrameObserver, FrameReader
from service.gateway.websocket.websocket_proxy import FRAMES_PER_WRITE, in_batches
from tests.domain.conftest import World
from tests.gateway.conftest import DOMAIN, Headers, House, answer, raw, scripted
from tests.malformed import MALFORMED, Malformed, tell_nothing
from tests.waiting import until
from tests.wire import frame, split

HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
}


# --- floods ---


class Seen(FrameObserver):
    def __init__(self, frames: list[Frame]) -> None:
        self._frames = frames

    def on_frame(self, frame: Frame) -> None:
        self._frames.append(frame)


def test_a_flood_of_tiny_frames_is_inspected_and_forwarded_in_pieces() -> None:
    tiny, frames, seen = frame(FIN | TEXT, b"", b"mask"), FrameReader(), list[Frame]()
    flood = tiny * 10_000
    pieces = []
    for piece in in_batches(frames, flood, Seen(seen)):
        pieces.append(piece)
        assert frames.at_boundary
        assert len(seen) * len(tiny) == sum(map(len, pieces)), "what was looked at has not left"
    assert b"".join(pieces) == flood
    assert max(map(len, pieces)) <= FRAMES_PER_WRITE * len(tiny)


def test_a_large_frame_is_not_truncated() -> None:
    large = frame(FIN | TEXT, bytes(200_000), b"mask")
    assert list(in_batches(FrameReader(), large, FrameObserver())) == [large]


# --- pods ---


async def test_a_request_whose_pod_is_replaced_before_it_starts_is_served_by_the_next(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, accepts_connections = await house.awake(), Upstream.accepts_connections
    first = house.workspaces[uuid]

    async def slowly(upstream: Upstream) -> bool:
        if upstream.uid == first.name:
            await house.start(uuid)  # while the first is dialled
        return await accepts_connections(upstream)

    monkeypatch.setattr(Upstream, "accepts_connections", slowly)
    status, body = await answer(house, "/echo", await house.headers(uuid), "POST", data=b"once")
    assert (status, json.loads(body)["pod"]) == (200, house.workspaces[uuid].name)
    assert not first.requests


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\n\r\nhalf",
    ],
)
async def test_a_response_in_progress_is_cut_off_when_the_workspace_falls_asleep(house: House, said: bytes) -> None:
    async with (
        scripted(house, said) as (uuid, _),
        house.http.get(house.url(), headers=await house.headers(uuid)) as found,
    ):
        assert await found.content.readexactly(4) == b"half"
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), replicas=0, ready=0, pod=None))
        with pytest.raises(ClientPayloadError):
            await asyncio.wait_for(found.read(), 5)
    await until(lambda: house.gateway._queues.is_empty)


async def test_a_complete_response_to_a_slow_client_survives_its_pod(house: House) -> None:
    size = 300_000
    async with (
        scripted(house, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)) as (uuid, _),
        house.http.get(house.url(), headers=await house.headers(uuid)) as found,
    ):
        await asyncio.sleep(0.2)
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), replicas=0, ready=0, pod=None))
        assert len(await asyncio.wait_for(found.read(), 5)) == size


@pytest.mark.parametrize(
    ("said", "more"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", {}),
        (b"HTTP/1.1 200 OK\r\nX-Odd: a\x01b\r\nContent-Length: 0\r\n\r\n", {}),
        (b"no HTTP at all\r\n\r\n", {}),
        (b"no HTTP at all\r\n\r\n", HANDSHAKE),
    ],
)
async def test_a_pod_with_invalid_http_is_reported(house: House, said: bytes, more: Headers) -> None:
    async with scripted(house, said) as (uuid, _):
        status, body = await answer(house, "/", {**await house.headers(uuid), **more})
    assert status == 502
    assert b"sent an invalid response" in body


@pytest.mark.parametrize("length", [b"Content-Length: 7\r\n", b"Connection: close\r\n"])
async def test_a_pods_refusal_of_a_handshake_is_passed_on(house: House, length: bytes) -> None:
    async with scripted(house, b"HTTP/1.1 403 Forbidden\r\n" + length + b"\r\nwhy not") as (uuid, _):
        assert await answer(house, "/", {**await house.headers(uuid), **HANDSHAKE}) == (403, b"why not")


@pytest.mark.parametrize(
    ("cookie", "kept"),
    [
        (f"own=1; Dom\udcffain={DOMAIN}; Path=/", ["own=1; Path=/"]),
        ("__Host-user\udcff-pods=forged; Path=/; Secure", []),
        (f"={COOKIE}=forged; Path=/", []),
        (f"{COOKIE}=forged", []),
        ("a=b=c; HttpOnly", ["a=b=c; HttpOnly"]),
        ("caf\udce9=M\udcfcller; Path=/", ["caf\udce9=M\udcfcller; Path=/"]),
    ],
)
def test_no_byte_hides_the_name_of_a_cookie(cookie: str, kept: list[str]) -> None:
    assert to_browser(CIMultiDictProxy(CIMultiDict({"Set-Cookie": cookie}))).getall("Set-Cookie", []) == kept


# --- clients ---


@pytest.mark.parametrize(
    ("head", "more"),
    [
        ("GET /x", {**HANDSHAKE, "Content-Length": "4"}),
        ("GET /x", {**HANDSHAKE, "Transfer-Encoding": "chunked"}),
        ("POST /x", {**HANDSHAKE}),
        ("GET /x#y", {}),
    ],
)
async def test_possible_request_smuggling_is_refused_and_the_connection_closed(
    house: House, head: str, more: Headers
) -> None:
    uuid = await house.awake()
    said = await raw(house, head, {**await house.headers(uuid), **more}, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert said.partition(b" ")[2].startswith(b"400 ")
    assert said.count(b"HTTP/1.") == 1
    assert not house.workspaces[uuid].requests


async def test_malformed_requests_leave_no_cookie_or_ticket_in_logs_and_answers(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    uuid = await house.awake()
    headers = await house.headers(uuid)
    secret = headers["Cookie"].partition("=")[2]
    ticket = (await house.access.issue_link(uuid)).url.partition("ticket=")[2].partition("&")[0]
    for head, more, status in (
        ("GET /", {"Cookie": f"{headers['Cookie']}; a=\x01"}, "400"),
        ("GET /", {"Cookie": f"{headers['Cookie']}; a={'x' * 70_000}"}, "431"),
        (f"GET /.user-pods/enter?ticket={ticket}&to=%2F\udce9", {}, "400"),
    ):
        said = (await raw(house, head, {**headers, **more})).decode()
        assert said.split(" ")[1] == status
        for told in (said, caplog.text):
            assert secret not in told
            assert ticket not in told
    assert "refused: Bad request" in caplog.text


async def test_an_invalid_origin_is_foreign(house: House) -> None:
    uuid = await house.awake()
    assert (await answer(house, "/echo", await house.headers(uuid, Origin="http://["), "POST"))[0] == 403


async def test_the_host_header_cannot_be_removed_by_the_connection_header(house: House) -> None:
    uuid = await house.awake()
    await answer(house, "/echo", await house.headers(uuid, Connection="close, Host"))
    _, _, told = house.workspaces[uuid].requests[-1]
    assert told["Host"] == [house.host(uuid)]


async def test_progress_of_a_wake_accepts_only_get_and_counts_as_a_waiting_request(world: World) -> None:
    async with House(world, GatewayLimits(held=1), delay=60).open() as house:
        uuids = [await house.session(user_id) for user_id in ("ann", "bob")]
        headers = [await house.headers(uuid) for uuid in uuids]
        said = await raw(house, "HEAD /.user-pods/wake", {**headers[0], "Connection": "close"})
        assert said.startswith(b"HTTP/1.1 405")
        assert said.endswith(b"\r\n\r\n")
        async with house.http.get(house.url("/.user-pods/wake"), headers=headers[0]) as first:
            assert first.status == 200
            assert (await answer(house, "/.user-pods/wake", headers[1]))[0] == 503


async def test_a_long_upload_counts_as_activity_while_it_makes_progress(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, counted = await house.awake(), list[str]()
    monkeypatch.setattr(house.gateway._activity, "record", lambda _uuid, source: counted.append(source))

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x"
            await asyncio.sleep(0.05)

    await answer(house, "/echo", await house.headers(uuid), "PUT", data=slowly())
    assert len(counted) >= 4
    assert set(counted) == {ActivitySource.VISIT}


@pytest.mark.parametrize("case", MALFORMED, ids=str)
async def test_a_malformed_request_is_not_repeated_in_the_answer_or_the_log(
    house: House, case: Malformed, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    uuid = await house.awake()
    await tell_nothing(case, house.port, house.host(uuid), caplog.records)
    assert not house.workspaces[uuid].requests


@pytest.mark.parametrize(
    "rest",
    [
        pytest.param(b"no chunk\r\n", id="no-chunk"),
        pytest.param(b"0\r\n" + b"X-Trailer: %s\r\n" % (b"x" * 1000) * 100, id="trailers"),
    ],
)
async def test_a_malformed_upload_is_a_client_error_and_never_complete_for_the_pod(house: House, rest: bytes) -> None:
    uuid = await house.awake()
    fields = "".join(f"{name}: {value}\r\n" for name, value in (await house.headers(uuid)).items())
    head = f"PUT /echo HTTP/1.1\r\n{fields}Transfer-Encoding: chunked\r\n\r\n".encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    writer.write(head + b"4\r\nbody\r\n")
    await until(lambda: bool(house.workspaces[uuid].requests))
    writer.write(rest)
    answer, _ = split(await asyncio.wait_for(reader.read(), 5))
    writer.close()
    assert answer.status == 400
    await asyncio.wait_for(house.workspaces[uuid].interrupted.wait(), 5)


async def test_a_refusal_has_the_request_id_of_the_log(house: House) -> None:
    sent = {"Host": f"other.{DOMAIN}", "X-Request-Id": "request-1234"}
    status, body = await answer(house, "/", sent)
    problem = json.loads(body)
    assert (status, problem["type"], problem["instance"]) == (404, "about:blank", "urn:request:request-1234")
