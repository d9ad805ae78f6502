"""What the gateway needs of aiohttp's client beyond its public face, in one place.

- A target goes out byte for byte. yarl, which the client takes targets from, drops an empty query (`/x?`).
- Headers go out byte for byte (heads.py), and none is added.
- The head of an answer is bounded as a whole, floods of interim answers included, not only each line of it.
- A body that is malformed in the middle is cut off. The client leaves whoever reads it waiting.
- An early answer is heard. A pod may answer (413, 401, a redirect) and close while the upload is still under way. The
  client then finds that it cannot write, and gives the request up without looking whether an answer is there.

tests/gateway/test_client.py fails when a new aiohttp behaves differently.
"""

import asyncio
import contextlib
import os
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

from service.gateway.proxy.heads import HeadWriter

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_LEFT = 2**20
"""Bytes that are read at most from a connection that has broken."""
_AT_ONCE = 2**16


class _Pod(ResponseHandler):
    """The client's side of a connection to a pod."""

    was_used = False
    """A request has been made over it."""
    head_left = 0
    """Bytes that the head of the awaited answer may still have; 0 when none is awaited."""

    def data_received(self, data: bytes) -> None:
        left = self.head_left
        if not left or len(data) <= left:
            self._take(data)
            return
        self._take(data[:left])
        if not self._exception:
            super().data_received(data[left:])

    def _take(self, data: bytes) -> None:
        super().data_received(data)
        if self.head_left:
            self.head_left -= len(data)
            if self.head_left <= 0:
                self.head_left = 0
                self.set_exception(HttpProcessingError(code=502, message="the head of the answer is too long"))
                self.force_close()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """An answer's head is complete; after an interim one, but for a switch, the answer itself is still to come."""
        if data[0].code >= HTTPStatus.OK or data[0].code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.head_left = 0
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Tell whoever reads a body, too, that the parser gave up on it: they would wait for the rest for ever."""
        super().set_exception(exc, *cause)
        body = self._payload
        if isinstance(exc, HttpProcessingError) and body is not None and not body.is_eof():
            body.set_exception(ClientPayloadError("the body is malformed"))

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None and self.transport is not None:
            self._read_rest(self.transport)
        super().connection_lost(exc)

    def _read_rest(self, transport: asyncio.Transport) -> None:
        """Take in what the pod said before the connection broke.

        An event loop that cannot write any more closes at once, also when an answer waits to be read: the pod that
        answers early and closes resets the connection, for there is more of the upload than it has read.
        """
        connection, taken = transport.get_extra_info("socket"), 0
        with contextlib.suppress(OSError):
            while taken < _LEFT and (data := os.read(connection.fileno(), _AT_ONCE)):
                taken += len(data)
                self.data_received(data)


class _Request(ClientRequest):
    """A request with the headers that it is given and no others."""

    _skip_auto_headers = CIMultiDict({hdrs.CONTENT_TYPE: None})

    def update_headers(self, headers: LooseHeaders | None) -> None:
        self.headers = cast("CIMultiDict[str]", headers)

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Add none."""

    async def send_to(self, target: str, conn: Connection) -> ClientResponse:
        """As `send` in aiohttp, without what the gateway never uses, with `target` and a writer that keeps bytes."""
        protocol = conn.protocol
        if protocol is None:
            raise ClientConnectionError("the connection is closed")
        writer = HeadWriter(protocol, self.loop)
        if self.chunked is not None:
            writer.enable_chunking()
        await writer.write_headers(f"{self.method} {target} HTTP/1.1", self.headers)
        task: asyncio.Task[None] | None = None
        if self._body or protocol.writing_paused:
            task = asyncio.create_task(self.write_bytes(writer, conn, self._get_content_length()))
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
        """Write the body; when the pod ends the connection meanwhile, `connection_lost` tells what came of it."""
        protocol = conn.protocol
        try:
            if self._body:
                await self._body.write_with_length(writer, content_length)
            await writer.write_eof()
        except Exception as error:  # noqa: BLE001 - whatever it is, the waiting request gets it
            if protocol is None or protocol.transport is None:
                return  # closed by ourselves, or lost: the request knows of it
            if protocol.transport.is_closing():
                protocol.force_close()
                return
            protocol.set_exception(ClientConnectionError(f"the body broke off: {error!r}"), error)
        except BaseException:
            conn.close()  # half of a request has been sent
            raise


class PodClient:
    """HTTP/1.1 to one origin. A ClientSession without what only browsers need: cookies, redirects, proxies."""

    def __init__(
        self, origin: str, *, connect_timeout: float, idle: float, head_limit: int, lines: int, read: int
    ) -> None:
        """`idle`: seconds that a connection is kept; `head_limit`: bytes of an answer's head, and `lines` of it;
        `read`: bytes that are read ahead.
        """
        self._loop = asyncio.get_running_loop()
        self._connector = TCPConnector(limit=0, keepalive_timeout=idle, ttl_dns_cache=None)
        self._connector._factory = partial(_Pod, loop=self._loop)  # type: ignore[assignment]  # noqa: SLF001
        self._origin = URL(origin)
        self._timeout = ClientTimeout(total=None, sock_connect=connect_timeout)
        self._head_limit = head_limit
        self._lines = lines
        self._read = read

    async def request(
        self, method: str, target: str, headers: CIMultiDict[str], *, data: AsyncIterator[bytes] | None
    ) -> ClientResponse:
        """The answer, as soon as its head is there. Raises ClientError, and RuntimeError once this is closed.

        A connection that was kept may have been ended by the pod just now: what is safe to repeat is asked anew.
        """
        repeatable = data is None and method in _IDEMPOTENT
        while True:
            if self._connector.closed:
                raise RuntimeError("the pod is gone")
            request = _Request(method, self._origin, headers=headers, data=data, loop=self._loop)
            connection = await self._connect(request)
            protocol = cast("_Pod", connection.protocol)
            was_kept, protocol.was_used = protocol.was_used, True
            try:
                return await self._ask(request, target, connection, protocol)
            except (ClientOSError, ServerDisconnectedError):
                if not (was_kept and repeatable):
                    raise

    async def _connect(self, request: _Request) -> Connection:
        try:
            return await self._connector.connect(request, [], self._timeout)
        except TimeoutError as error:
            raise ConnectionTimeoutError(f"no connection to {self._origin} in time") from error

    async def _ask(self, request: _Request, target: str, connection: Connection, protocol: _Pod) -> ClientResponse:
        try:
            protocol.set_response_params(
                skip_payload=request.method == hdrs.METH_HEAD,
                read_until_eof=True,
                auto_decompress=False,
                read_bufsize=self._read,
                max_line_size=self._head_limit,
                max_field_size=self._head_limit,
                max_headers=self._lines,
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
