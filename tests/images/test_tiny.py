"""The tiny workspace keeps what other tests rely on when they look at a proxy through it."""

import asyncio
import hashlib
import json
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets
from websockets import Subprotocol
from websockets.asyncio.client import connect

from devcluster import golang, toolchain
from images import recipes
from tests.images.conftest import Tiny, running
from tests.waiting import until


def pattern(length: int) -> bytes:
    return (bytes(range(251)) * (length // 251 + 1))[:length]


async def pieces(length: int) -> AsyncIterator[bytes]:
    whole = pattern(length)
    for start in range(0, length, 100_000):
        yield whole[start : start + 100_000]


async def told(http: aiohttp.ClientSession) -> dict[str, int]:
    async with http.get("/counters") as answer:
        return dict(await answer.json())


async def raw(tiny: Tiny, text: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which only this has been sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", tiny.port)
    writer.write(text.encode())
    await writer.drain()
    return reader, writer


async def test_the_page_shows_the_pods_host_name(http: aiohttp.ClientSession) -> None:
    async with http.get("/") as answer:
        assert answer.content_type == "text/html"
        assert f"<h1>{socket.gethostname()}</h1>" in await answer.text()
    async with http.get("/healthz") as answer:
        assert await answer.text() == "ok\n"
    async with http.get("/nothing") as answer:
        assert answer.status == 404


async def test_echo_returns_the_request_unchanged(tiny: Tiny) -> None:
    request = "PATCH /echo/a/../b//%2e%2E?x=1&x=%20 HTTP/1.1\r\nHost: some.host:1\r\nX-Twice: 1\r\nX-Twice: 2\r\n"
    reader, writer = await raw(tiny, f"{request}Content-Length: 3\r\nConnection: close\r\n\r\nabc")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 OK")
    echo: dict[str, Any] = json.loads(body)
    assert echo["method"] == "PATCH"
    assert echo["target"] == "/echo/a/../b//%2e%2E?x=1&x=%20"
    assert (echo["path"], echo["query"]) == ("/echo/a/../b//%2e%2E", "x=1&x=%20")
    assert (echo["host"], echo["headers"]["X-Twice"]) == ("some.host:1", ["1", "2"])
    assert echo["remote"].startswith("127.0.0.1:")
    assert (echo["length"], echo["sha256"]) == (3, hashlib.sha256(b"abc").hexdigest())


async def test_echo_accepts_a_body_of_any_size_without_storing_it(tiny: Tiny, http: aiohttp.ClientSession) -> None:
    size = 64_000_000
    async with http.post("/echo", data=pieces(size)) as answer:
        echo = await answer.json()
    assert (echo["length"], echo["sha256"]) == (size, hashlib.sha256(pattern(size)).hexdigest())
    assert echo["transfer_encoding"] == ["chunked"]
    status = (Path("/proc") / str(tiny.process.pid) / "status").read_text()
    peak = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))
    assert peak < 40_000, "KiB"


async def test_a_client_that_expects_100_continue_gets_it(tiny: Tiny) -> None:
    reader, writer = await raw(
        tiny, "PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    writer.write(b"ab")
    assert b"200 OK" in await reader.readuntil(b"200 OK")
    writer.close()


@pytest.mark.parametrize("extra", ["", "&length=yes"])
async def test_a_stream_is_a_pattern_chunked_or_with_a_length(http: aiohttp.ClientSession, extra: str) -> None:
    async with http.get(f"/stream?bytes=1000001&piece=777{extra}") as answer:
        assert answer.headers.get("Content-Length") == ("1000001" if extra else None)
        assert await answer.read() == pattern(1_000_001)


async def test_a_stream_with_pauses_arrives_piece_by_piece(http: aiohttp.ClientSession) -> None:
    async with http.get("/stream?bytes=30&piece=10&pause=150") as answer:
        arrivals = [(time.monotonic(), piece) async for piece in answer.content.iter_any()]
    assert [len(piece) for _, piece in arrivals] == [10, 10, 10]
    assert arrivals[-1][0] - arrivals[0][0] > 0.2


async def test_events_arrive_one_by_one(http: aiohttp.ClientSession) -> None:
    began = time.monotonic()
    async with http.get("/sse?count=3") as answer:
        assert answer.content_type == "text/event-stream"
        text = await answer.text()
    assert [line for line in text.splitlines() if line.startswith("id:")] == ["id: 1", "id: 2", "id: 3"]
    assert time.monotonic() - began > 0.15


async def test_slow_delays_its_answer_and_notices_a_disconnect(http: aiohttp.ClientSession) -> None:
    began = time.monotonic()
    async with http.get("/slow?ms=200") as answer:
        assert answer.status == 200
    assert time.monotonic() - began >= 0.2
    assert (await told(http))["aborted"] == 0
    with pytest.raises(TimeoutError):
        await http.get("/slow?ms=60000", timeout=aiohttp.ClientTimeout(total=0.2))
    async with asyncio.timeout(5):
        while (await told(http))["aborted"] != 1:  # noqa: ASYNC110 - asked of another process
            await asyncio.sleep(0.01)
    assert (await told(http))["open"] == 1, "the asking request itself"


@pytest.mark.parametrize("code", [200, 204, 304, 404, 418, 503])
async def test_status_answers_with_the_requested_code(http: aiohttp.ClientSession, code: int) -> None:
    async with http.post(f"/status/{code}") as answer:
        assert answer.status == code


async def test_redirect_goes_to_the_requested_target(http: aiohttp.ClientSession) -> None:
    async with http.get("/status/302?location=/a%3Fb", allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (302, "/a?b")
    for odd in ("99", "600", "x"):
        async with http.get(f"/status/{odd}") as answer:
            assert answer.status == 400


async def test_one_of_the_cookies_is_for_the_whole_domain(http: aiohttp.ClientSession) -> None:
    async with http.get("/cookie?domain=example.org") as answer:
        cookies = answer.headers.getall("Set-Cookie")
    assert cookies == ["own=1; Path=/; HttpOnly; SameSite=Lax", "wide=2; Path=/; Domain=example.org"]


async def test_a_file_in_the_home_folder_is_stored_and_read_by_ranges(tiny: Tiny, http: aiohttp.ClientSession) -> None:
    async with http.get("/file") as answer:
        assert answer.status == 404
    async with http.put("/file", data=pieces(300_000)) as answer:
        assert answer.status == 201
        assert (await answer.json())["sha256"] == hashlib.sha256(pattern(300_000)).hexdigest()
    assert (tiny.home / "file").read_bytes() == pattern(300_000)
    async with http.head("/file") as answer:
        assert (answer.headers["Content-Length"], answer.headers["Accept-Ranges"]) == ("300000", "bytes")
    async with http.get("/file", headers={"Range": "bytes=1000-1999"}) as answer:
        assert (answer.status, answer.headers["Content-Range"]) == (206, "bytes 1000-1999/300000")
        assert await answer.read() == pattern(300_000)[1000:2000]
    async with http.get("/file", headers={"Range": "bytes=300000-"}) as answer:
        assert answer.status == 416


async def test_an_interrupted_upload_leaves_the_old_file(tiny: Tiny, http: aiohttp.ClientSession) -> None:
    (tiny.home / "notes").write_text("old")
    _, writer = await raw(tiny, "PUT /file?name=notes HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nnew")
    partial = tiny.home / "notes.part"
    await until(partial.exists)
    writer.close()
    await until(lambda: not partial.exists())
    async with http.get("/file?name=notes") as answer:
        assert await answer.text() == "old"


@pytest.mark.parametrize("name", ["../beside", "/etc/hostname", "out/beside"])
async def test_no_file_name_leads_out_of_the_home_folder(tiny: Tiny, http: aiohttp.ClientSession, name: str) -> None:
    (tiny.home.parent / "beside").write_text("untouched")
    (tiny.home / "out").symlink_to(tiny.home.parent)
    async with http.get("/file", params={"name": name}) as answer:
        assert answer.status == 400
    async with http.put("/file", params={"name": name}, data=b"x") as answer:
        assert answer.status == 400
    assert [path.name for path in tiny.home.iterdir()] == ["out"]
    assert (tiny.home.parent / "beside").read_text() == "untouched"


@pytest.mark.parametrize(("query", "answered"), [("code=3", True), ("code=3&silent=1", False)])
async def test_exit_ends_the_program_with_the_requested_code(tiny: Tiny, query: str, answered: bool) -> None:
    reader, writer = await raw(tiny, f"GET /exit?{query} HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200") is answered
    writer.close()
    assert await tiny.ends() == 3


async def test_a_websocket_echoes_text_and_binary_of_any_size(tiny: Tiny) -> None:
    async with connect(f"ws://127.0.0.1:{tiny.port}/ws", max_size=None, compression=None) as socket:
        assert socket.subprotocol is None
        for message in ("é", "", "close", "close x", b"\0\xff", "x" * 300, pattern(5_000_000)):
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["in ", "three ", "parts"])
        assert await socket.recv() == "in three parts"


async def test_a_websocket_chooses_the_subprotocol_that_it_knows(tiny: Tiny) -> None:
    offered = [Subprotocol("other"), Subprotocol("echo.v1")]
    async with connect(f"ws://127.0.0.1:{tiny.port}/ws", subprotocols=offered) as socket:
        assert socket.subprotocol == "echo.v1"


async def test_a_websocket_closes_on_request_and_answers_a_close(tiny: Tiny, http: aiohttp.ClientSession) -> None:
    async with connect(f"ws://127.0.0.1:{tiny.port}/ws") as socket:
        await socket.send("close 4001 for a reason")
        with pytest.raises(websockets.ConnectionClosedError) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "for a reason")
    async with connect(f"ws://127.0.0.1:{tiny.port}/ws") as socket:
        await socket.close(4002, "mine")
        assert (socket.close_code, socket.close_reason) == (4002, "mine")
    async with asyncio.timeout(5):  # it counts once it has seen the connection's end
        while (await told(http))["websockets"]:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)


async def test_a_websocket_reports_its_headers_and_sends_messages_on_request(tiny: Tiny) -> None:
    async with connect(f"ws://127.0.0.1:{tiny.port}/ws", additional_headers={"X-Mark": "1"}) as socket:
        await socket.send("headers")
        assert json.loads(await socket.recv())["X-Mark"] == ["1"]
    async with connect(f"ws://127.0.0.1:{tiny.port}/ws?tick=20") as socket:
        assert [await socket.recv() for _ in range(2)] == ["tick 1", "tick 2"]


async def test_sigterm_closes_open_connections_and_ends_the_program_at_once(
    tiny: Tiny, http: aiohttp.ClientSession
) -> None:
    async with connect(f"ws://127.0.0.1:{tiny.port}/ws") as socket, http.get("/sse") as events:
        await events.content.readuntil(b"\n\n")
        began = time.monotonic()
        tiny.process.send_signal(signal.SIGTERM)
        with pytest.raises(websockets.ConnectionClosedOK) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert (await events.content.read()).count(b"event:") < 5
        assert await tiny.ends() == 0
        assert time.monotonic() - began < 1


async def test_sigterm_does_not_wait_for_silent_clients(tiny: Tiny) -> None:
    _, writer = await raw(tiny, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    began = time.monotonic()
    tiny.process.send_signal(signal.SIGTERM)
    assert await tiny.ends() == 0
    assert time.monotonic() - began < 3
    writer.close()


async def test_the_program_listens_within_milliseconds_unless_delayed(program: Path, tmp_path: Path) -> None:
    async def start(**environment: str) -> float:
        began = time.monotonic()
        async with running(program, tmp_path, **environment) as tiny:
            await tiny.answers()
            return time.monotonic() - began

    assert min([await start() for _ in range(3)]) < 0.1
    assert await start(START_DELAY="300ms") > 0.3


async def test_a_configured_path_prefix_is_served_and_nothing_else(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path, "-base", "/user/ann/") as tiny, aiohttp.ClientSession(tiny.url) as http:
        await tiny.answers()
        for path, status in {"/user/ann/": 200, "/user/ann/healthz": 200, "/": 404, "/healthz": 404}.items():
            async with http.get(path) as answer:
                assert answer.status == status, path


def test_the_program_passes_gofmt_and_go_vet() -> None:
    go = golang.find(toolchain.cache_folder())
    source = recipes.SOURCES / "tiny"
    env = golang.environment(go)
    vet = subprocess.run([go, "vet", "./..."], cwd=source, env=env, capture_output=True, text=True, check=False)
    assert vet.returncode == 0, vet.stderr
    unformatted = subprocess.run(
        [go.parent / "gofmt", "-l", "."], cwd=source, capture_output=True, text=True, check=True
    )
    assert unformatted.stdout == ""
