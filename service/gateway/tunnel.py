"""A WebSocket to a pod: once the pod has switched over, bytes go through as they are, in both directions.

So fragments, close codes and subprotocols are the two ends' own. Extensions are not agreed on: compression would hide
from the gateway what it must tell apart, and cost memory for every connection.
"""

import asyncio
import contextlib
from collections.abc import Callable

from aiohttp import ClientConnectionError, ClientError, ClientResponse, StreamReader, hdrs, web
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

from service.gateway.exchange import Passed, PodLost, answered
from service.gateway.frames import Frame, Frames, close_frame
from service.gateway.headers import to_browser
from service.gateway.pods import Upstream

_BUFFER = 2**15
"""Bytes read ahead in each direction."""
GOING_AWAY = 1001
_LAST_WORDS = 2.0
"""Seconds that a browser has to answer a close."""


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
    tokens = (
        part.strip().lower() for value in request.headers.getall(hdrs.CONNECTION, ()) for part in value.split(",")
    )
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket" and "upgrade" in tokens


async def tunnel(
    request: web.BaseRequest,
    upstream: Upstream,
    headers: CIMultiDict[str],
    target: str,
    *,
    keep: int,
    sent: Callable[[Frame], None],
    heard: Callable[[], None],
) -> web.StreamResponse:
    """Switch over, and stay until either end closes or the pod is gone. Raises PodLost when the pod took nothing.

    `heard` is called when the pod answers, `sent` with every frame of the browser, of whose payload it gets the first
    `keep` bytes.
    """
    headers.popall(hdrs.SEC_WEBSOCKET_EXTENSIONS, None)
    headers[hdrs.CONNECTION], headers[hdrs.UPGRADE] = "Upgrade", "websocket"
    try:
        answer = await upstream.http.get(
            upstream.url(target), headers=headers, allow_redirects=False, read_until_eof=False
        )
    except (ClientConnectionError, RuntimeError) as error:
        upstream.answered = False
        raise PodLost from error
    heard()
    async with answer:
        if answer.status != 101:
            return await answered(request, answer)
        return await _Tunnel(request, answer, keep, sent).run(upstream.gone)


class _Tunnel:
    def __init__(
        self, request: web.BaseRequest, answer: ClientResponse, keep: int, sent: Callable[[Frame], None]
    ) -> None:
        self._request = request
        self._answer = answer
        self._sent = sent
        self._to_pod = Frames(keep)
        self._to_browser = Frames()

    async def run(self, gone: asyncio.Event) -> web.StreamResponse:
        response = _Switched(status=101, reason=self._answer.reason, headers=to_browser(self._answer.headers))
        response.headers[hdrs.CONNECTION], response.headers[hdrs.UPGRADE] = "Upgrade", "websocket"
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
        writer = StreamWriter(browser, loop)
        outward = asyncio.create_task(_pump(from_browser, StreamWriter(pod, loop), self._look_out))
        inward = asyncio.create_task(_pump(from_pod, writer, self._look_in))
        ending = asyncio.create_task(gone.wait())
        try:
            await asyncio.wait((outward, inward, ending), return_when=asyncio.FIRST_COMPLETED)
            if ending.done() and not outward.done():
                inward.cancel()
                await self._say_goodbye(writer, outward)
        finally:
            for task in (outward, inward, ending):
                task.cancel()
            await asyncio.gather(outward, inward, ending, return_exceptions=True)
            connection.close()
        return response

    def _look_out(self, data: bytes) -> None:
        for frame in self._to_pod.seen(data):
            self._sent(frame)

    def _look_in(self, data: bytes) -> None:
        for _ in self._to_browser.seen(data):
            pass

    async def _say_goodbye(self, writer: StreamWriter, outward: "asyncio.Task[None]") -> None:
        """Close the browser's side properly, which is possible between two frames only."""
        if not self._to_browser.between:
            return
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            await writer.write(close_frame(GOING_AWAY, "the workspace went to sleep"))
            async with asyncio.timeout(_LAST_WORDS):
                await outward


async def _pump(reader: StreamReader, writer: StreamWriter, look: Callable[[bytes], None]) -> None:
    """Bytes from here to there until either ends; reads no faster than is taken."""
    with contextlib.suppress(ConnectionResetError, ClientError):
        while data := await reader.readany():
            look(data)
            await writer.write(data)
            await writer.drain()
