"""An HTTP client for a proxy, made of the parts of aiohttp's client. It differs from that in six ways.

- A target is sent byte for byte. yarl, which aiohttp takes targets from, drops an empty query (`/x?`).
- Headers are sent byte for byte (heads.py), and none is added.
- The head of a response is bounded as a whole, including floods of interim responses, not only line by line.
- A response whose body is malformed in the middle is cut off. aiohttp leaves its readers waiting.
- An early response is read. A server may respond (413, 401, a redirect) and close before the upload has ended. aiohttp
  then finds that it cannot write, and gives up without looking for a response.
- A body where none may be (an answer to HEAD, 204, 304) is left out, and its connection is not used again. To aiohttp,
  it is the beginning of another response, which fails the one before.

tests/gateway/test_client.py fails when a new aiohttp behaves differently.
"""

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Iterable
from functools import partial
from http import HTTPStatus
from typing import cast

from aiohttp import (
    ClientConnectionError,
    ClientError,
    ClientOSError,
    ClientPayloadError,
    ClientRequest,
    ClientResponse,
    ClientResponseError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    ServerDisconnectedError,
    TCPConnector,
    hdrs,
)
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader
from aiohttp.typedefs import LooseHeaders
from multidict import CIMultiDict
from yarl import URL

from service.edge.aiohttp_internals.heads import HeadWriter

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_MAX_REST = 2**20
"""Bytes that are read at most from a connection that has broken."""
_READ_SIZE = 2**16
_BLANK_LINE = re.compile(rb"\n\r?\n")
_STATUS_ENDS = len(b"HTTP/1.1 200")
_BODILESS = frozenset(str(status).encode() for status in (*range(100, 200), 204, 304))
"""Statuses after whose head no body may come. After most below 200, another head follows."""


class _Protocol(ResponseHandler):
    """The client's side of a connection."""

    was_used = False
    """A request has been made over it."""
    head_left = 0
    """Bytes that the head of the expected response may still have; 0 when none is expected."""
    _begin = b""
    """Of that head, up to its status."""
    _line_end = b""
    """The last bytes of it, where its end is looked for."""
    _has_surplus = False
    """A body came where none may be. Everything from there on is left out."""

    def data_received(self, data: bytes) -> None:
        if self._has_surplus:
            return
        left = self.head_left
        if not left or len(data) <= left:
            self._take(data)
            return
        self._take(data[:left])
        if not self._exception and not self._has_surplus:
            super().data_received(data[left:])

    def _take(self, data: bytes) -> None:
        """Pass it on; but where no body may follow a head, pass on the head alone."""
        while self.head_left:
            self._begin = (self._begin + data)[:_STATUS_ENDS]
            if not self._may_have_no_body():
                break
            known = self._line_end
            end = _BLANK_LINE.search(known + data)
            if end is None:
                self._line_end = (known + data)[-2:]
                break
            cut = end.end() - len(known)
            head, data = data[:cut], data[cut:]
            self._begin = self._line_end = b""
            self._feed(head)
            if not data:
                return
            if not self.head_left and not self._upgraded:
                self._has_surplus = True
                self.force_close()
                return
        self._feed(data)

    def _may_have_no_body(self) -> bool:
        """Also while too little of the head has arrived to know."""
        return self._skip_payload or len(self._begin) < _STATUS_ENDS or self._begin[9:] in _BODILESS

    def _feed(self, data: bytes) -> None:
        super().data_received(data)
        if self.head_left:
            self.head_left -= len(data)
            if self.head_left <= 0:
                self.head_left = 0
                self.set_exception(HttpProcessingError(code=502, message="the head of the response is too long"))
                self.force_close()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """A head is complete. After that of an interim response, except a switch of protocols, another one follows."""
        if data[0].code >= HTTPStatus.OK or data[0].code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.head_left = 0
            self._begin = self._line_end = b""
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Fail the readers of the body too, when the parser gives up on it: they would wait for the rest forever."""
        super().set_exception(exc, *cause)
        body = self._payload
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            body.set_exception(ClientPayloadError("the body is malformed"))

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None and self.transport is not None:
            self._read_rest(self.transport)
        super().connection_lost(exc)

    def _read_rest(self, transport: asyncio.Transport) -> None:
        """Read what the server sent before the connection broke.

        An event loop that cannot write closes at once, even when a response waits to be read. A server that responds
        early and closes resets the connection, because it has not read all of the upload.
        """
        connection, taken = transport.get_extra_info("socket"), 0
        with contextlib.suppress(OSError):
            while taken < _MAX_REST and (data := os.read(connection.fileno(), _READ_SIZE)):
                taken += len(data)
                self.data_received(data)


class _Request(ClientRequest):
    """A request with exactly the headers that it is given."""

    _skip_auto_headers = CIMultiDict({hdrs.CONTENT_TYPE: None})

    def update_headers(self, headers: LooseHeaders | None) -> None:
        self.headers = cast("CIMultiDict[str]", headers)

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Add none."""

    async def send_to(self, target: str, conn: Connection) -> ClientResponse:
        """aiohttp's `send`, without what a proxy never uses, and with `target` and a HeadWriter."""
        protocol = conn.protocol
        if protocol is None:
            raise ClientConnectionError("the connection is closed")
        writer = HeadWriter(protocol, self.loop)
        if self.chunked is not None:
            writer.enable_chunking()
        await writer.write_headers(f"{self.method} {target} HTTP/1.1", self.headers)
        task: asyncio.Task[None] | None = None
        if self._body or protocol.writing_paused:
            task = asyncio.create_task(self.write_bytes(writer, conn, self._get_content_length()), name="request body")
            self._writer = task
        else:
            writer.set_eof()
        return self.response_class(
            self.method,
            self.original_url,
            writer=task,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=[],
            loop=self.loop,
            session=cast("ClientSession", None),
            stream_writer=writer,
        )

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write the body. If the server closes the connection in that time, `connection_lost` handles it."""
        protocol = conn.protocol
        try:
            if self._body:
                await self._body.write_with_length(writer, content_length)
            await writer.write_eof()
        except Exception as error:  # noqa: BLE001 - the waiting request gets any error
            if protocol is None or protocol.transport is None:
                return  # closed by us, or lost: the request knows
            if protocol.transport.is_closing():
                protocol.force_close()
                return
            protocol.set_exception(ClientConnectionError(f"the body broke off: {error!r}"), error)
        except BaseException:
            conn.close()  # part of a request has been sent
            raise


class OriginClient:
    """HTTP/1.1 to one origin. A ClientSession without what only browsers need: cookies, redirects, proxies."""

    def __init__(
        self,
        origin: str,
        *,
        connect_timeout: float,
        keepalive: float,
        head_limit: int,
        max_headers: int,
        read_ahead: int,
    ) -> None:
        """`connect_timeout` and `keepalive` (how long idle connections are kept) are in seconds. `head_limit`: bytes of
        a response's head; `max_headers`: its lines; `read_ahead`: bytes of its body.
        """
        self._loop = asyncio.get_running_loop()
        self._connector = TCPConnector(limit=0, keepalive_timeout=keepalive, ttl_dns_cache=None)
        self._connector._factory = partial(_Protocol, loop=self._loop)  # type: ignore[assignment]  # noqa: SLF001
        self._origin = URL(origin)
        self._timeout = ClientTimeout(total=None, sock_connect=connect_timeout)
        self._head_limit = head_limit
        self._max_headers = max_headers
        self._read_ahead = read_ahead

    async def request(
        self, method: str, target: str, headers: CIMultiDict[str], *, data: AsyncIterator[bytes] | None
    ) -> ClientResponse:
        """Return the response as soon as its head has arrived. Raises ClientError, and RuntimeError once closed.

        The server may have closed a kept connection just now, or have sent more of the response before: requests that
        are safe to repeat are sent again.
        """
        repeatable = data is None and method in _IDEMPOTENT
        while True:
            if self._connector.closed:
                raise RuntimeError("the client is closed")
            request = _Request(method, self._origin, headers=headers, data=data, loop=self._loop)
            connection = await self._connect(request)
            protocol = cast("_Protocol", connection.protocol)
            was_kept, protocol.was_used = protocol.was_used, True
            try:
                return await self._send(request, target, connection, protocol)
            except (ClientOSError, ClientResponseError, ServerDisconnectedError):
                if not (was_kept and repeatable):
                    raise

    async def _connect(self, request: _Request) -> Connection:
        try:
            return await self._connector.connect(request, [], self._timeout)
        except TimeoutError as error:
            raise ConnectionTimeoutError(f"no connection to {self._origin} in time") from error

    async def _send(
        self, request: _Request, target: str, connection: Connection, protocol: _Protocol
    ) -> ClientResponse:
        try:
            protocol.set_response_params(
                skip_payload=request.method == hdrs.METH_HEAD,
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=self._read_ahead,
                max_line_size=self._head_limit,
                max_field_size=self._head_limit,
                max_headers=self._max_headers,
            )
            protocol.head_left = self._head_limit
            response = await request.send_to(target, connection)
            try:
                return await response.start(connection)
            except BaseException:
                response.close()
                raise
        except BaseException as error:
            connection.close()
            if isinstance(error, OSError) and not isinstance(error, ClientError):
                raise ClientOSError(*error.args) from error
            raise

    async def close(self) -> None:
        await self._connector.close()


def abort_body(response: ClientResponse, error: Exception) -> None:
    """Fail the readers of a body that has not ended. Closing the connection alone would leave them waiting."""
    if not response.content.is_eof():
        response.content.set_exception(error)


def body_has_begun(response: ClientResponse) -> bool:
    """Whether some of the body has arrived."""
    return response.content.total_bytes > 0
