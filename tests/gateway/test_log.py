"""Errors of browsers and pods at the gateway leave no traceback in the log."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import ClientError

from service.domain.errors import RedisUnavailable
from service.domain.names import SessionId
from tests.gateway.conftest import Headers, House, answer

Misbehaviour = Callable[[House, SessionId], Awaitable[object]]


def say(first: str, rest: bytes = b"", *, more: Headers | None = None, reset: bool = True) -> Misbehaviour:
    """Begin a request, say the rest a moment later, and end the connection rudely, or once nothing more comes."""

    async def act(house: House, uuid: SessionId) -> None:
        headers: Headers = {
            **await house.headers(uuid),
            **(more or {}),
        }
        lines = [f"{first} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items()), "", ""]
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write("\r\n".join(lines).encode())
        await asyncio.sleep(0.05)
        writer.write(rest)
        if reset:
            await asyncio.sleep(0.05)
            writer.transport.abort()
        else:
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        await asyncio.sleep(0.1)

    return act


def ask(path: str, **more: str) -> Misbehaviour:
    async def act(house: House, uuid: SessionId) -> None:
        await answer(house, path, {**await house.headers(uuid), **more})

    return act


WEBSOCKET = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.mark.parametrize(
    "misbehave",
    [
        pytest.param(ask("/echo", Cookie="none"), id="not-let-in"),
        pytest.param(ask("/echo", Origin="https://evil.test"), id="from-elsewhere"),
        pytest.param(ask("/.user-pods/nowhere"), id="nowhere"),
        pytest.param(say("GET /echo", reset=True), id="reset"),
        pytest.param(say("GET /late", reset=True), id="reset-before-the-answer"),
        pytest.param(say("GET /drip", reset=True), id="reset-in-a-download"),
        pytest.param(say("GET /flood", reset=True), id="reset-in-a-flood"),
        pytest.param(say("POST /echo", b"x", more={"Content-Length": "1000000"}), id="reset-in-an-upload"),
        pytest.param(say("POST /echo", b"zz\r\n", more={"Transfer-Encoding": "chunked"}, reset=False), id="odd-chunk"),
        pytest.param(say("GET /ws", more=WEBSOCKET), id="reset-in-a-websocket"),
        pytest.param(say("GET /ws", b"\xff\xff\xff\xff", more=WEBSOCKET), id="no-frames"),
        pytest.param(say("GET /.user-pods/wake"), id="reset-on-the-waiting-page"),
        pytest.param(say("BREW tea", reset=False), id="odd-target"),
        pytest.param(ask("/broken"), id="pod-breaks-off"),
        pytest.param(ask("/bare"), id="pod-says-nothing"),
    ],
)
async def test_what_a_browser_or_a_pod_does_leaves_no_traceback(
    house: House, caplog: pytest.LogCaptureFixture, misbehave: Misbehaviour
) -> None:
    uuid = await house.awake()
    with caplog.at_level(logging.DEBUG):
        with contextlib.suppress(ClientError):  # what an answer that is cut off is to its client
            await misbehave(house, uuid)
        assert (await answer(house, "/echo", await house.headers(uuid)))[0] == 200
    errors = [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR or r.exc_info]
    assert errors == []


async def test_a_failed_dependency_is_logged_in_one_line_per_request_with_cause_and_request_id(
    house: House, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise RedisUnavailable from ConnectionRefusedError("refused")

    uuid = await house.session()
    monkeypatch.setattr(house.world.queues, "wake", away)
    headers = {**await house.headers(uuid), "X-Request-Id": "request-1"}
    with caplog.at_level(logging.INFO):
        status, body = await answer(house, "/echo", headers)
    assert status == 503
    assert b'"urn:request:request-1"' in body
    (told,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert (told.getMessage(), told.exc_info) == (RedisUnavailable.message, None)
    assert vars(told)["cause"] == "ConnectionRefusedError: refused"
