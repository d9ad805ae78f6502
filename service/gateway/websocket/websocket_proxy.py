"""A WebSocket to a pod: once the pod has switched over, bytes go through as they are, in both directions.

So fragments, close codes and subprotocols are the two ends' own. With the pod no extension is agreed on: compression
would hide from the gateway what it must tell apart. Where it is wanted, it is between browser and gateway (deflate.py).
"""

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator
from http import HTTPStatus

from aiohttp import ClientConnectionError, ClientError, ClientResponse, StreamReader, hdrs, web
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from service.gateway.proxy.headers import to_browser
from service.gateway.proxy.http_proxy import Passed, answered, must_be_of_the_program, no_http
from service.gateway.proxy.pods import UNAVAILABLE, PodLost, Upstream
from service.gateway.websocket.deflate import Agreement, Packer, Unpacker, Violation, agreed, gathered
from service.gateway.websocket.frames import BREATH, Frame, Frames, close_frame

_BUFFER = 2**15
"""Bytes read ahead in each direction."""
GOING_AWAY = 1001
SERVICE_RESTART = 1012
_PROTOCOL_ERROR = 1002
_LAST_WORDS = 2.0
"""Seconds that a browser has to answer a close."""

_REST_OF_FRAME = 0.02
"""Seconds between two looks whether it has passed."""


class _Switched(Passed):
    _length_check = False


class _Feed:
    """What a connection that was switched over hands its bytes to."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self._reader.feed_eof()


def is_websocket(request: web.BaseRequest) -> bool:
    wanted = request.headers.get(hdrs.UPGRADE, "")
    if wanted.lower() != "websocket" or not wanted.isascii():
        return False
    tokens = (part for value in request.headers.getall(hdrs.CONNECTION, ()) for part in value.split(","))
    return any(token.strip().lower() == "upgrade" for token in tokens)


def is_handshake(request: web.BaseRequest) -> bool:
    """Whether what asks for a WebSocket does so as it must: what else it brings might be taken for a next request."""
    length = request.headers.get(hdrs.CONTENT_LENGTH, "0")
    return request.method == hdrs.METH_GET and length == "0" and hdrs.TRANSFER_ENCODING not in request.headers


class _AsTheyAre:
    """Frames go through byte for byte."""

    def __init__(self, keep: int, sent: Callable[[Frame], None]) -> None:
        self._sent = sent
        self._to_pod = Frames(keep)
        self._to_browser = Frames()

    @property
    def between(self) -> bool:
        """Whether the browser has got whole frames until now, so that one may be put in."""
        return self._to_browser.between

    def outward(self, data: bytes) -> Iterator[bytes]:
        return in_pieces(self._to_pod, data, self._sent)

    def inward(self, data: bytes) -> Iterator[bytes]:
        return in_pieces(self._to_browser, data, lambda _: None)


def in_pieces(frames: Frames, data: bytes, told: Callable[[Frame], None]) -> Iterator[bytes]:
    """The same bytes, cut where many frames have been seen: what was looked at has left before more is."""
    begun = 0
    for number, frame in enumerate(frames.seen(data), 1):
        told(frame)
        if number % BREATH == 0:
            yield data[begun : frames.at]
            begun = frames.at
    if begun < len(data):
        yield data[begun:]


class _Compressed:
    """Compressed on the browser's side."""

    between = True

    def __init__(self, agreement: Agreement, keep: int, sent: Callable[[Frame], None]) -> None:
        self._to_pod = Unpacker(keep, sent)
        self._to_browser = Packer(agreement.window)

    def outward(self, data: bytes) -> Iterator[bytes]:
        return gathered(self._to_pod.carry(data))

    def inward(self, data: bytes) -> Iterator[bytes]:
        return gathered(self._to_browser.carry(data))


async def tunnel(
    request: web.BaseRequest,
    upstream: Upstream,
    headers: CIMultiDict[str],
    target: str,
    *,
    keep: int,
    sent: Callable[[Frame], None],
    heard: Callable[[], None],
    compress: bool = False,
    deadline: float = 0,
    leave: "asyncio.Future[None] | None" = None,
) -> web.StreamResponse:
    """Switch over, and stay until either end closes or the pod is gone. Raises PodLost when the pod took nothing.

    `heard` is called when the pod answers, `sent` with every frame of the browser, of whose payload it gets the first
    `keep` bytes. `compress`: if the browser can. `deadline`: until then (seconds of time.monotonic)
    a pod that is not ready is waited for. `leave` is done when this process ends.
    """
    offers = headers.popall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())
    agreement = agreed(offers) if compress else None
    headers[hdrs.CONNECTION], headers[hdrs.UPGRADE] = "Upgrade", "websocket"
    try:
        answer = await upstream.request(hdrs.METH_GET, target, headers)
    except (ClientConnectionError, RuntimeError) as error:
        upstream.answered = False
        raise PodLost from error
    except ClientError as error:
        raise no_http() from error
    if answer.status in UNAVAILABLE:
        must_be_of_the_program(upstream, answer, deadline)
    heard()
    async with answer:
        if answer.status != HTTPStatus.SWITCHING_PROTOCOLS:
            return await answered(request, upstream, answer)
        way = _Compressed(agreement, keep, sent) if agreement else _AsTheyAre(keep, sent)
        return await _Tunnel(request, answer, way, agreement).run(
            upstream.gone, leave or asyncio.get_running_loop().create_future()
        )


class _Tunnel:
    def __init__(
        self,
        request: web.BaseRequest,
        answer: ClientResponse,
        way: _AsTheyAre | _Compressed,
        agreement: Agreement | None,
    ) -> None:
        self._request = request
        self._answer = answer
        self._way = way
        self._agreement = agreement

    async def run(self, gone: asyncio.Event, leave: "asyncio.Future[None]") -> web.StreamResponse:
        response = _Switched(
            status=HTTPStatus.SWITCHING_PROTOCOLS, reason=self._answer.reason, headers=to_browser(self._answer.headers)
        )
        response.headers[hdrs.CONNECTION], response.headers[hdrs.UPGRADE] = "Upgrade", "websocket"
        if self._agreement:
            response.headers[hdrs.SEC_WEBSOCKET_EXTENSIONS] = self._agreement.text
        response.force_close()
        await response.prepare(self._request)
        loop = asyncio.get_running_loop()
        connection = self._answer.connection
        if connection is None or connection.protocol is None:
            return response
        browser, pod = self._request.protocol, connection.protocol
        from_pod, from_browser = StreamReader(pod, _BUFFER, loop=loop), StreamReader(browser, _BUFFER, loop=loop)
        pod.set_parser(_Feed(from_pod), from_pod)
        browser.set_parser(_Feed(from_browser))  # type: ignore[arg-type]  # it only calls these two methods
        browser_writer, pod_writer = StreamWriter(browser, loop), StreamWriter(pod, loop)
        outward = asyncio.create_task(_pump(from_browser, pod_writer, self._way.outward))
        inward = asyncio.create_task(_pump(from_pod, browser_writer, self._way.inward))
        ending = asyncio.create_task(gone.wait())
        try:
            await asyncio.wait((outward, inward, ending, leave), return_when=asyncio.FIRST_COMPLETED)
            violation = _violation(outward) or _violation(inward)
            if violation:
                outward.cancel()
                inward.cancel()
                await asyncio.gather(outward, inward, return_exceptions=True)
                await _refuse(violation, browser_writer, pod_writer, from_browser)
            elif ending.done() and not outward.done():
                inward.cancel()
                await self._say_goodbye(browser_writer, outward, GOING_AWAY, "the workspace went to sleep")
            elif leave.done() and not outward.done():
                await self._come_between(inward)
                inward.cancel()
                await asyncio.gather(inward, return_exceptions=True)
                # The browser's answer goes on to the pod, which then closes.
                rest = asyncio.ensure_future(_rest(from_pod))
                words = "the gateway restarts; connect again"
                await self._say_goodbye(browser_writer, outward, SERVICE_RESTART, words, rest)
                rest.cancel()
        finally:
            for task in (outward, inward, ending):
                task.cancel()
            await asyncio.gather(outward, inward, ending, return_exceptions=True)
            connection.close()
        return response

    async def _come_between(self, inward: "asyncio.Task[None]") -> None:
        """Wait until the browser has got the rest of a frame that is under way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                while not (self._way.between or inward.done()):  # noqa: ASYNC110  # an event would cost every frame
                    await asyncio.sleep(_REST_OF_FRAME)

    async def _say_goodbye(
        self, writer: StreamWriter, outward: "asyncio.Task[None]", code: int, words: str, *others: "asyncio.Task[None]"
    ) -> None:
        """Close the browser's side properly, which is possible between two frames only.

        Its answer has been heard when it closes the connection, or when one of the others is done.
        """
        if not self._way.between:
            return
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            await writer.write(close_frame(code, words))
            await asyncio.wait((outward, *others), timeout=_LAST_WORDS, return_when=asyncio.FIRST_COMPLETED)


async def _rest(reader: StreamReader) -> None:
    """Throw away what still comes, until the other side closes."""
    with contextlib.suppress(ConnectionResetError, ClientError):
        while await reader.readany():
            pass


def _violation(task: "asyncio.Task[None]") -> Violation | None:
    error = task.exception() if task.done() and not task.cancelled() else None
    return error if isinstance(error, Violation) else None


async def _refuse(
    violation: Violation, browser_writer: StreamWriter, pod_writer: StreamWriter, from_browser: StreamReader
) -> None:
    """Close both sides, and read on until the browser has heard of it."""
    with contextlib.suppress(ConnectionResetError):
        await pod_writer.write(close_frame(_PROTOCOL_ERROR, str(violation), os.urandom(4)))
    with contextlib.suppress(ConnectionResetError, TimeoutError):
        await browser_writer.write(close_frame(_PROTOCOL_ERROR, str(violation)))
        if browser_writer.transport is not None and browser_writer.transport.can_write_eof():
            browser_writer.transport.write_eof()
        async with asyncio.timeout(_LAST_WORDS):
            while await from_browser.readany():
                pass


async def _pump(reader: StreamReader, writer: StreamWriter, carry: Callable[[bytes], Iterator[bytes]]) -> None:
    """Bytes from here to there until either ends; reads no faster than is taken."""
    with contextlib.suppress(ConnectionResetError, ClientError):
        while data := await reader.readany():
            for number, piece in enumerate(carry(data)):
                if number:
                    # Little may unpack to much, or hold many frames: others shall have their turn.
                    await asyncio.sleep(0)
                await writer.write(piece)
                await writer.drain()
