"""Proxies a WebSocket to a pod: once the pod has switched protocols, bytes pass unchanged in both directions.

So the two ends agree on fragments, close codes and subprotocols by themselves. Extensions are not offered to the pod:
compressed frames would hide from the gateway what counts as activity.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from http import HTTPStatus

from aiohttp import ClientConnectionError, ClientError, ClientResponse, StreamReader, hdrs, web
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from service.gateway.proxy.headers import to_browser
from service.gateway.proxy.http_proxy import Passed, answered, must_be_of_the_program, no_http
from service.gateway.proxy.pods import UNAVAILABLE, PodLost, Upstream
from service.gateway.websocket.frames import Frame, FrameReader, close_frame

FRAMES_PER_WRITE = 128
"""So many frames are read at once, within a millisecond, so that a flood of tiny ones does not delay other clients."""
GOING_AWAY = 1001
SERVICE_RESTART = 1012
_READ_AHEAD = 2**15
"""Bytes read ahead in each direction."""
_CLOSE_TIMEOUT = 2.0
"""Seconds that a browser has to answer a close frame."""
_FRAME_POLL = 0.02
"""Seconds between two checks whether the rest of a frame has passed."""


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
    """Whether the handshake is a GET without a body. A pod might read anything more as a second request."""
    length = request.headers.get(hdrs.CONTENT_LENGTH, "0")
    return request.method == hdrs.METH_GET and length == "0" and hdrs.TRANSFER_ENCODING not in request.headers


def in_batches(reader: FrameReader, data: bytes, on_frame: Callable[[Frame], None]) -> Iterator[bytes]:
    """The same bytes, cut after every FRAMES_PER_WRITE frames; what was read leaves before more is read."""
    start = 0
    for number, frame in enumerate(reader.read(data), 1):
        on_frame(frame)
        if number % FRAMES_PER_WRITE == 0:
            yield data[start : reader.end]
            start = reader.end
    if start < len(data):
        yield data[start:]


async def proxy_websocket(
    request: web.BaseRequest,
    upstream: Upstream,
    headers: CIMultiDict[str],
    target: str,
    *,
    keep: int,
    on_frame: Callable[[Frame], None],
    on_response: Callable[[], None],
    deadline: float = 0,
    shutdown: "asyncio.Future[None] | None" = None,
) -> web.StreamResponse:
    """Switch protocols, and proxy until either end closes or the pod is gone. Raises PodLost if the pod took nothing.

    `on_response` is called when the pod answers, `on_frame` with every frame of the browser and the first `keep` bytes
    of its payload. A pod that is not ready is waited for until `deadline` (seconds of time.monotonic). `shutdown` is
    done when this process ends.
    """
    headers.popall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())
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
    on_response()
    async with answer:
        if answer.status != HTTPStatus.SWITCHING_PROTOCOLS:
            return await answered(request, upstream, answer)
        shutdown = shutdown or asyncio.get_running_loop().create_future()
        return await _WebSocketProxy(request, answer, keep, on_frame).run(upstream.gone, shutdown)


class _WebSocketProxy:
    """One open WebSocket."""

    def __init__(
        self, request: web.BaseRequest, answer: ClientResponse, keep: int, on_frame: Callable[[Frame], None]
    ) -> None:
        self._request = request
        self._answer = answer
        self._on_frame = on_frame
        self._from_browser = FrameReader(keep)
        self._from_pod = FrameReader()

    async def run(self, gone: asyncio.Event, shutdown: "asyncio.Future[None]") -> web.StreamResponse:
        response = _Switched(
            status=HTTPStatus.SWITCHING_PROTOCOLS, reason=self._answer.reason, headers=to_browser(self._answer.headers)
        )
        response.headers[hdrs.CONNECTION], response.headers[hdrs.UPGRADE] = "Upgrade", "websocket"
        response.force_close()
        await response.prepare(self._request)
        loop = asyncio.get_running_loop()
        connection = self._answer.connection
        if connection is None or connection.protocol is None:
            return response
        browser, pod = self._request.protocol, connection.protocol
        pod_reader, browser_reader = (
            StreamReader(pod, _READ_AHEAD, loop=loop),
            StreamReader(browser, _READ_AHEAD, loop=loop),
        )
        pod.set_parser(_Feed(pod_reader), pod_reader)
        browser.set_parser(_Feed(browser_reader))  # type: ignore[arg-type]  # it only calls these two methods
        browser_writer = StreamWriter(browser, loop)
        to_pod = asyncio.create_task(_pump(browser_reader, StreamWriter(pod, loop), self._to_pod))
        to_browser_ = asyncio.create_task(_pump(pod_reader, browser_writer, self._to_browser))
        ending = asyncio.create_task(gone.wait())
        try:
            await asyncio.wait((to_pod, to_browser_, ending, shutdown), return_when=asyncio.FIRST_COMPLETED)
            if ending.done() and not to_pod.done():
                to_browser_.cancel()
                await self._close_browser(browser_writer, GOING_AWAY, "the workspace went to sleep", to_pod)
            elif shutdown.done() and not to_pod.done():
                await self._frame_complete(to_browser_)
                to_browser_.cancel()
                await asyncio.gather(to_browser_, return_exceptions=True)
                # The browser's close frame passes on to the pod, which then closes.
                pod_closed = asyncio.ensure_future(_discard(pod_reader))
                reason = "the gateway restarts; connect again"
                await self._close_browser(browser_writer, SERVICE_RESTART, reason, to_pod, pod_closed)
                pod_closed.cancel()
        finally:
            for task in (to_pod, to_browser_, ending):
                task.cancel()
            await asyncio.gather(to_pod, to_browser_, ending, return_exceptions=True)
            connection.close()
        return response

    def _to_pod(self, data: bytes) -> Iterator[bytes]:
        return in_batches(self._from_browser, data, self._on_frame)

    def _to_browser(self, data: bytes) -> Iterator[bytes]:
        return in_batches(self._from_pod, data, lambda _: None)

    async def _frame_complete(self, to_browser: "asyncio.Task[None]") -> None:
        """Wait until the browser has the rest of the frame that is being sent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                while not (self._from_pod.at_boundary or to_browser.done()):  # noqa: ASYNC110  # an event would cost every frame
                    await asyncio.sleep(_FRAME_POLL)

    async def _close_browser(self, writer: StreamWriter, code: int, reason: str, *until: "asyncio.Task[None]") -> None:
        """Send a close frame, which is possible between two frames only, and wait until one of the tasks is done."""
        if not self._from_pod.at_boundary:
            return
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            await writer.write(close_frame(code, reason))
            await asyncio.wait(until, timeout=_CLOSE_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)


async def _discard(reader: StreamReader) -> None:
    """Read and drop everything until the other side closes."""
    with contextlib.suppress(ConnectionResetError, ClientError):
        while await reader.readany():
            pass


async def _pump(reader: StreamReader, writer: StreamWriter, batches: Callable[[bytes], Iterator[bytes]]) -> None:
    """Copy bytes until either side ends; reads no faster than the other side takes."""
    with contextlib.suppress(ConnectionResetError, ClientError):
        while data := await reader.readany():
            for number, batch in enumerate(batches(data)):
                if number:
                    await asyncio.sleep(0)  # many frames: let other clients have a turn
                await writer.write(batch)
                await writer.drain()
