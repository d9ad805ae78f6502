"""Proxies a WebSocket to a pod: once the pod has switched protocols, bytes pass unchanged in both directions.

So the two ends agree on fragments, close codes and subprotocols by themselves. Extensions are not offered to the pod:
compressed frames would hide from the gateway what counts as activity.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from http import HTTPStatus

from aiohttp import ClientConnectionError, ClientError, ClientResponse, StreamReader, hdrs, web
from multidict import CIMultiDict

from service.domain.names import SessionId
from service.edge.aiohttp_internals.heads import StreamWriter
from service.edge.aiohttp_internals.switched import client_streams, server_streams
from service.gateway.activity.background import BackgroundRecorder, output_observer
from service.gateway.activity.input import InputRecorder
from service.gateway.activity.presence import CompanionPresence
from service.gateway.activity.recorder import ActivityRecorder
from service.gateway.activity.rules import ActivityMode
from service.gateway.limits import GatewayLimits
from service.gateway.proxy.http_proxy import ProxiedResponse, bad_response, check_from_program, send_response
from service.gateway.proxy.pods import UNAVAILABLE, PodLost, Upstream
from service.gateway.request_outcome import OutcomeRecorder
from service.gateway.websocket.frames import FrameObserver, FrameReader, close_frame
from service.gateway.websocket.open_websockets import Closing, OpenWebSockets

FRAMES_PER_WRITE = 128
"""So many frames are read at once, within a millisecond, so that a flood of tiny ones does not delay other clients."""
GOING_AWAY = 1001
_READ_AHEAD = 2**15
"""Bytes read ahead in each direction."""
_CLOSE_TIMEOUT = 2.0
"""Seconds that a browser has to answer a close frame."""
_FRAME_POLL = 0.02
"""Seconds between two checks whether the rest of a frame has passed."""


def is_handshake(request: web.BaseRequest) -> bool:
    """Whether the handshake is a GET without a body. A pod might read anything more as a second request."""
    length = request.headers.get(hdrs.CONTENT_LENGTH, "0")
    return request.method == hdrs.METH_GET and length == "0" and hdrs.TRANSFER_ENCODING not in request.headers


def in_batches(reader: FrameReader, data: bytes, observer: FrameObserver) -> Iterator[bytes]:
    """The same bytes, cut after every FRAMES_PER_WRITE frames; what was read leaves before more is read."""
    start = 0
    for number, frame in enumerate(reader.read(data), 1):
        observer.on_frame(frame)
        if number % FRAMES_PER_WRITE == 0:
            yield data[start : reader.end]
            start = reader.end
    if start < len(data):
        yield data[start:]


class WebSocketProxy:
    """Proxies WebSockets, and records their activity."""

    def __init__(
        self,
        sockets: OpenWebSockets,
        activity: ActivityRecorder,
        presence: CompanionPresence,
        background: BackgroundRecorder,
        limits: GatewayLimits,
    ) -> None:
        self._sockets = sockets
        self._activity = activity
        self._presence = presence
        self._background = background
        self._by_input = limits.activity_mode is ActivityMode.INPUT
        self._longest_connection = limits.longest_connection.total_seconds()

    async def proxy(
        self,
        request: web.BaseRequest,
        uuid: SessionId,
        upstream: Upstream,
        headers: CIMultiDict[str],
        *,
        outcome: OutcomeRecorder,
        deadline: float,
    ) -> web.StreamResponse:
        """Proxy until either end closes or the pod is gone. Raises PodLost and GatewayError, as `proxy_request` does.

        A pod that is not ready is waited for until `deadline` (seconds of time.monotonic).
        """
        response = await self._handshake(request, upstream, headers, deadline)
        outcome.on_response()
        async with response:
            if response.status != HTTPStatus.SWITCHING_PROTOCOLS:
                return await send_response(request, upstream, response)
            output = output_observer(request, self._background, uuid)
            with self._sockets.opened(request) as closing:
                if self._by_input:
                    observer = InputRecorder(request, uuid, self._activity, self._presence)
                    return await _Connection(request, response, observer, output).run(upstream.gone, closing)
                recording = asyncio.create_task(
                    self._activity.record_while_open(uuid, self._longest_connection), name=f"open WebSocket of {uuid}"
                )
                try:
                    return await _Connection(request, response, FrameObserver(), output).run(upstream.gone, closing)
                finally:
                    recording.cancel()

    @staticmethod
    async def _handshake(
        request: web.BaseRequest, upstream: Upstream, headers: CIMultiDict[str], deadline: float
    ) -> ClientResponse:
        headers.popall(hdrs.SEC_WEBSOCKET_EXTENSIONS, ())
        headers[hdrs.CONNECTION], headers[hdrs.UPGRADE] = "Upgrade", "websocket"
        try:
            response = await upstream.request(hdrs.METH_GET, request.raw_path, headers)
        except (ClientConnectionError, RuntimeError) as error:
            upstream.responds = False
            raise PodLost from error
        except ClientError as error:
            raise bad_response() from error
        if response.status in UNAVAILABLE:
            check_from_program(upstream, response, deadline)
        return response


class _Connection:
    """One open WebSocket."""

    def __init__(
        self,
        request: web.BaseRequest,
        upstream_response: ClientResponse,
        observer: FrameObserver,
        output_observer: FrameObserver,
    ) -> None:
        """`observer` sees what the browser sends, `output_observer` what the pod sends."""
        self._request = request
        self._upstream_response = upstream_response
        self._observer = observer
        self._output_observer = output_observer
        self._from_pod = FrameReader(output_observer.head_bytes)

    async def run(self, gone: asyncio.Event, closing: Closing) -> web.StreamResponse:
        """Copy bytes until either end closes, the pod is `gone`, or `closing` is done."""
        response = await self._switch_protocols()
        connection = self._upstream_response.connection
        pod = server_streams(connection, _READ_AHEAD) if connection else None
        if connection is None or pod is None:
            return response
        pod_reader, pod_writer = pod
        browser_reader, browser_writer = client_streams(self._request, _READ_AHEAD)
        from_browser = FrameReader(self._observer.head_bytes)
        sending = _pump(browser_reader, pod_writer, from_browser, self._observer)
        receiving = _pump(pod_reader, browser_writer, self._from_pod, self._output_observer)
        to_pod = asyncio.create_task(sending, name="WebSocket to pod")
        from_pod = asyncio.create_task(receiving, name="WebSocket from pod")
        pod_gone = asyncio.create_task(gone.wait(), name="pod of a WebSocket")
        try:
            await asyncio.wait((to_pod, from_pod, pod_gone, closing), return_when=asyncio.FIRST_COMPLETED)
            if pod_gone.done() and not to_pod.done():
                from_pod.cancel()
                await self._close_browser(browser_writer, GOING_AWAY, "the workspace went to sleep", to_pod)
            elif closing.done() and not to_pod.done():
                await self._frame_complete(from_pod)
                from_pod.cancel()
                await asyncio.gather(from_pod, return_exceptions=True)
                # The browser's close frame passes on to the pod, which then closes.
                pod_closed = asyncio.create_task(_discard(pod_reader), name="WebSocket closing")
                await self._close_browser(browser_writer, *closing.result(), to_pod, pod_closed)
                pod_closed.cancel()
        finally:
            for task in (to_pod, from_pod, pod_gone):
                task.cancel()
            await asyncio.gather(to_pod, from_pod, pod_gone, return_exceptions=True)
            connection.close()
        return response

    async def _switch_protocols(self) -> web.StreamResponse:
        response = ProxiedResponse(self._upstream_response)
        response.headers[hdrs.CONNECTION], response.headers[hdrs.UPGRADE] = "Upgrade", "websocket"
        response.force_close()
        response.switch_protocols()
        await response.prepare(self._request)
        return response

    async def _frame_complete(self, from_pod: "asyncio.Task[None]") -> None:
        """Wait until the browser has the rest of the frame that is being sent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                # An event would cost every frame.
                while not (self._from_pod.at_boundary or from_pod.done()):  # noqa: ASYNC110
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


async def _pump(reader: StreamReader, writer: StreamWriter, frames: FrameReader, observer: FrameObserver) -> None:
    """Copy bytes until either side ends; reads no faster than the other side takes."""
    with contextlib.suppress(ConnectionResetError, ClientError):
        while data := await reader.readany():
            for number, batch in enumerate(in_batches(frames, data, observer)):
                if number:
                    await asyncio.sleep(0)  # many frames: let other clients have a turn
                await writer.write(batch)
                await writer.drain()
