"""Errors of callers leave no traceback in the log, and a failed dependency one line per call."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from service.domain.errors import ChartInvalid, ClusterUnavailable, HelmTimeout, RedisUnavailable
from service.domain.names import SessionId
from tests.domain.conftest import World
from tests.web.conftest import Client, Serve

JSON = {"Content-Type": "application/json"}
Records = list[logging.LogRecord]


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Every record that says where in the code something went wrong."""
    return [str(r.msg) for r in caplog.records if r.exc_info or hasattr(r, "stack") or r.name == "asyncio"]


async def raw(client: Client, *pieces: bytes, reset: bool = False, listen: bool = True) -> None:
    """Send the bytes on a new connection; `reset` ends it with a reset."""
    reader, writer = await asyncio.open_connection(client.server.host, client.server.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.02)
    if reset:
        writer.transport.abort()
    elif listen:
        await asyncio.wait_for(reader.read(), 5)
        writer.close()
    else:
        writer.close()
    await asyncio.sleep(0.05)


Misbehaviour = Callable[[Client, SessionId], Awaitable[object]]


def post(body: bytes, **headers: str) -> Misbehaviour:
    async def act(client: Client, _: SessionId) -> None:
        await (await client.post("/session/create", data=body, headers={**JSON, **headers})).read()

    return act


def ask(method: str, path: str) -> Misbehaviour:
    async def act(client: Client, uuid: SessionId) -> None:
        await (await client.request(method, path.format(uuid=uuid))).read()

    return act


def say(*pieces: bytes, reset: bool = False, listen: bool = True) -> Misbehaviour:
    async def act(client: Client, uuid: SessionId) -> None:
        said = [piece.replace(b"UUID", uuid.encode()) for piece in pieces]
        await raw(client, *said, reset=reset, listen=listen)

    return act


HEAD = b"POST /session/create HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
EVENTS = b"GET /session/UUID/events HTTP/1.1\r\nHost: localhost\r\n\r\n"
MISBEHAVIOURS = [
    pytest.param(post(b"{"), id="no-json"),
    pytest.param(post(b"\xff\xfe"), id="no-utf-8"),
    pytest.param(post(b"[" * 8000), id="deep"),
    pytest.param(post(b'{"user_id": 7}'), id="does-not-fit"),
    pytest.param(post(b"x" * 100_000), id="too-large"),
    pytest.param(post(b"{}", **{"Content-Type": "text/plain"}), id="wrong-type"),
    pytest.param(post(b"{}", **{"Content-Encoding": "zstd"}), id="unknown-coding"),
    pytest.param(ask("GET", "/nowhere"), id="nowhere"),
    pytest.param(ask("PATCH", "/session/{uuid}/wake"), id="wrong-method"),
    pytest.param(ask("POST", "/session/00000000/wake"), id="unknown-session"),
    pytest.param(ask("GET", "/sessions?cursor=x"), id="odd-cursor"),
    pytest.param(ask("POST", "/session/{uuid}/open"), id="no-gateway"),
    pytest.param(ask("POST", "/session/{uuid}/activity"), id="no-body"),
    pytest.param(say(b"\x16\x03\x01\x02\x00\r\n\r\n"), id="tls"),
    pytest.param(say(b"GET / HTTP/9.9\r\n\r\n"), id="odd-version"),
    pytest.param(say(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"), id="not-what-its-coding-says"),
    pytest.param(say(HEAD + b"Content-Length: x\r\n\r\n"), id="odd-length"),
    pytest.param(say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\n"), id="odd-chunk"),
    pytest.param(say(HEAD + b"Content-Length: 100\r\n\r\n", b'{"user', listen=False), id="body-cut-off"),
    pytest.param(say(HEAD + b"Content-Length: 100\r\n\r\n", b'{"user', reset=True), id="reset-in-the-body"),
    pytest.param(say(HEAD + b'Content-Length: 17\r\n\r\n{"user_id":"bob"}', reset=True), id="reset-at-once"),
    pytest.param(say(b"GET /heal", reset=True), id="reset-in-the-head"),
    pytest.param(say(EVENTS, reset=True), id="reset-in-a-stream"),
    pytest.param(say(EVENTS * 20, reset=True), id="reset-with-streams-to-come"),
]


@pytest.mark.parametrize("misbehave", MISBEHAVIOURS)
async def test_client_errors_leave_no_traceback(
    serve: Serve, world: World, caplog: pytest.LogCaptureFixture, misbehave: Misbehaviour
) -> None:
    client = await serve(gateway=False)
    uuid = (await world.provisioner.create("ann")).uuid
    await world.activity.wake(uuid)  # so that its stream of events stays open
    with caplog.at_level(logging.DEBUG):
        await misbehave(client, uuid)
        assert (await client.get("/livez")).status == 200
    assert tracebacks(caplog) == []
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR] == []


async def test_a_disconnect_before_a_stream_starts_is_not_an_error(
    client: Client, world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    asked, gone, events = asyncio.Event(), asyncio.Event(), world.progress.events

    async def later(uuid: SessionId) -> object:
        asked.set()
        await gone.wait()
        return await events(uuid)

    monkeypatch.setattr(world.progress, "events", later)
    with caplog.at_level(logging.DEBUG):
        _, writer = await asyncio.open_connection(client.server.host, client.server.port)
        writer.write(EVENTS.replace(b"UUID", uuid.encode()))
        await asked.wait()
        writer.transport.abort()
        await asyncio.sleep(0.05)
        gone.set()
        await asyncio.sleep(0.05)
    assert tracebacks(caplog) == []


async def test_a_failed_dependency_is_logged_in_one_line_per_call_with_its_cause(
    client: Client, world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        try:
            raise ConnectionRefusedError(111, "refused")
        except OSError as error:
            raise RedisUnavailable from error

    uuid = (await world.provisioner.create("ann")).uuid
    monkeypatch.setattr(world.queues, "wake", away)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert (await client.post(f"/session/{uuid}/wake")).status == 503
    told = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.getMessage() for record in told] == [RedisUnavailable.message] * 3
    fields = vars(told[0])
    assert (fields["part"], fields["cause"]) == ("redis", "ConnectionRefusedError: [Errno 111] refused")
    assert tracebacks(caplog) == []


@pytest.mark.parametrize("error", [HelmTimeout, ChartInvalid, ClusterUnavailable])
async def test_work_that_fails_by_a_dependency_leaves_no_traceback(
    client: Client,
    world: World,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
) -> None:
    async def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(world.releases, "install", fails)
    with caplog.at_level(logging.INFO):
        assert (await client.post("/session/create", json={"user_id": "bob"})).status >= 503
        await world.recovery().run()
    assert tracebacks(caplog) == []


async def test_a_bug_of_the_service_keeps_its_traceback(
    client: Client, world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(*_: object, **__: object) -> None:
        raise ValueError

    monkeypatch.setattr(world.provisioner, "create", bug)
    assert (await client.post("/session/create", json={"user_id": "bob"})).status == 500
    assert tracebacks(caplog) == ["unexpected error"]
