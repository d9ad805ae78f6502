"""One request to a pod and its answer back, both streamed as they come, whatever their size."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from aiohttp import (
    ClientConnectionError,
    ClientConnectorError,
    ClientError,
    ClientPayloadError,
    ClientResponse,
    ServerTimeoutError,
    hdrs,
    web,
)
from aiohttp.http import HttpVersion10, HttpVersion11
from multidict import CIMultiDict

from service.gateway.access.tickets import renew
from service.gateway.errors import GatewayError
from service.gateway.proxy.headers import to_browser
from service.gateway.proxy.heads import keep_bytes
from service.gateway.proxy.pods import UNAVAILABLE, PodLost, Upstream

_STATUSES = (200, 599)
"""The first and the last status of an answer."""
_VERSIONS = (HttpVersion11, HttpVersion10)
_CODINGS = ("chunked", "identity")
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})


def no_http() -> GatewayError:
    return GatewayError(502, "The workspace gave no proper answer", "What it sent is no HTTP.")


def _is_proper(answer: ClientResponse) -> bool:
    """Whether it is an answer of HTTP/1 that keeps its meaning when it is passed on."""
    # aiohttp undoes chunks and nothing else: of a body that is encoded otherwise nobody would know how to read it.
    codings = answer.headers.getall(hdrs.TRANSFER_ENCODING, ())
    is_known = not codings or (len(codings) == 1 and codings[0].lower() in _CODINGS)
    return is_known and _STATUSES[0] <= answer.status <= _STATUSES[1] and answer.version in _VERSIONS


class Stalled(Exception):
    """A body has stopped coming."""


class Passed(web.StreamResponse):
    """An answer with the pod's own headers and no others."""

    def at_once(self, *, body_is_there: bool) -> None:
        """Send the headers with the first of the body when that is there already, else without waiting for it."""
        self._send_headers_immediately = not body_is_there

    async def _write_headers(self) -> None:
        request, writer = self._req, self._payload_writer
        if request is None or writer is None:
            raise RuntimeError("an answer that is not prepared has nobody to go to")
        version = request.version
        first, headers = f"HTTP/{version[0]}.{version[1]} {self.status} {self.reason}", self.headers
        await writer.write_headers(first, headers)
        keep_bytes(writer, first, headers)
        if self._send_headers_immediately:
            writer.send_headers()

    async def _prepare_headers(self) -> None:
        added = [name for name in (hdrs.CONTENT_TYPE, hdrs.SERVER) if name not in self.headers]
        await super()._prepare_headers()
        for name in added:
            self.headers.popall(name, None)
        if self._req is not None and len(self._req):
            renew(self._req, self.status, self.headers)


class Body:
    """The body of a request, read once, from the moment on at which the pod wants it.

    Raises Stalled when nothing of it comes for `stall` seconds while the pod waits for it, web.RequestPayloadError when
    its chunks are malformed. `moves` is called with every piece that comes.
    """

    def __init__(self, request: web.BaseRequest, stall: float, moves: Callable[[], None] = lambda: None) -> None:
        self._request = request
        self._stall = stall
        self._moves = moves
        self.touched = False
        self.stalled = False
        self.malformed = False

    def blame(self) -> None:
        """Raises Refusal when it is the client's fault that the pod did not get all of it."""
        if self.stalled:
            raise GatewayError(408, "Too slow", "The request stopped in the middle.")
        if self.malformed:
            raise GatewayError(400, "Bad request", "The body of the request is malformed.")

    @property
    def is_there(self) -> bool:
        return self._request.body_exists

    async def stream(self) -> AsyncIterator[bytes]:
        self.touched = True
        if self._request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await self._request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._request.writer.output_size = 0
        while chunk := await self._more():
            self._moves()
            yield chunk

    async def _more(self) -> bytes:
        try:
            async with asyncio.timeout(self._stall):
                return await self._request.content.readany()
        except TimeoutError:
            self.stalled = True
            raise Stalled from None
        except web.RequestPayloadError:
            self.malformed = True
            raise


async def exchange(
    request: web.BaseRequest,
    upstream: Upstream,
    headers: CIMultiDict[str],
    target: str,
    body: Body,
    *,
    heard: Callable[[], None],
    deadline: float = 0,
) -> web.StreamResponse:
    """Pass the request on and the answer back. Raises PodLost as long as nothing is lost, Refusal otherwise.

    `heard` is called when the pod answers. `deadline`: until then (seconds of time.monotonic) a pod that is not
    ready is waited for.
    """
    # The gateway itself says to go on, once the pod has taken the connection: a pod that does not know of this could
    # leave both sides waiting for each other.
    headers.popall(hdrs.EXPECT, None)
    try:
        answer = await upstream.request(request.method, target, headers, data=body.stream() if body.is_there else None)
    except (ClientConnectorError, ServerTimeoutError) as error:
        upstream.answered = False
        raise PodLost from error
    except (ClientConnectionError, ClientPayloadError, RuntimeError) as error:
        # The last is what a session raises that was closed in between.
        body.blame()
        if request.method in _REPEATABLE and not body.touched:
            upstream.failed()
            raise PodLost from error
        raise GatewayError(
            502,
            "The workspace went away",
            "It ended before it had answered. Whether it did what was asked is not known: look before you try again.",
        ) from error
    except ClientError as error:
        raise no_http() from error
    if answer.status in UNAVAILABLE and request.method in _REPEATABLE and not body.touched:
        must_be_of_the_program(upstream, answer, deadline)
    heard()
    async with answer:
        if answer.status == HTTPStatus.SWITCHING_PROTOCOLS:
            answer.close()
            raise no_http()
        return await answered(request, upstream, answer)


def must_be_of_the_program(upstream: Upstream, answer: ClientResponse, deadline: float) -> None:
    """Raises PodLost for an answer (one of UNAVAILABLE) of something before the program, which is not there yet.

    Of a ready pod, and of one that is not but may not be waited for any more, every answer is passed on.
    """
    if not upstream.ready and time.monotonic() < deadline:
        answer.close()
        upstream.failed()
        raise PodLost


async def answered(request: web.BaseRequest, upstream: Upstream, answer: ClientResponse) -> web.StreamResponse:
    """Pass the pod's answer back."""
    if not _is_proper(answer):
        answer.close()
        raise no_http()
    response = Passed(status=answer.status, reason=answer.reason, headers=to_browser(answer.headers))
    # Headers and body of a small answer come together: then they leave together too.
    response.at_once(body_is_there=answer.content.total_bytes > 0 and request.method != "HEAD")
    if not request.content.is_eof():
        response.force_close()  # which tells a client that is still uploading that it need not go on
    try:
        await response.prepare(request)
    except ValueError as error:  # a header with what must not be in one
        answer.close()
        raise no_http() from error
    upstream.answers.add(answer)
    try:
        if request.method != "HEAD":
            # All that is there at once: to be given less, the client copies what it holds back, again and again.
            while chunk := await answer.content.readany():
                await response.write(chunk)
    except ClientError:
        # Cut the answer off: a proper end would make half of it look like all.
        response.force_close()
        if request.transport is not None:
            request.transport.abort()
        return response
    finally:
        upstream.answers.discard(answer)
    with contextlib.suppress(ConnectionResetError):
        await response.write_eof()
    return response
