"""Connections from outside: bounds how many there are, what each may send, and how long it may take over it.

Idle clients are left alone: nothing here ends a WebSocket or an event stream without traffic.
"""

import asyncio
import errno
import logging
import secrets
import socket
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

from aiohttp import StreamReader, web

from service.domain.metrics import SILENT, GatewayMetrics, Slow
from service.edge import addresses, faults
from service.edge.aiohttp_internals.heads import head_bytes
from service.edge.aiohttp_internals.server import (
    EMPTY_PAYLOAD,
    Handler,
    HttpConnection,
    HttpProcessingError,
    HttpServer,
    close_after_response,
    respond_as_http11,
)
from service.edge.connection_limits import ConnectionLimits
from service.edge.drain import Drain
from service.edge.faults import Fault

log = logging.getLogger(__name__)

FaultResponse = Callable[[Fault, str], web.Response | None]
"""Makes the response to a fault, given its id in the log. None: the connection is closed without one."""

_REJECTION_SECONDS = 2.0
"""Seconds that a client has to read why it is rejected: an immediate close would discard the response."""
_KEEPALIVE_IDLE = 60
_KEEPALIVE_INTERVAL = 30
"""Seconds of silence after which the kernel probes the other side, and between two probes. A live client's kernel
answers; only a client that has vanished does not, and loses the connection."""
_BROKEN_OFF = (web.RequestPayloadError, HttpProcessingError, ConnectionError)
_PIPELINED = 2
"""Requests of a connection that are read while one is served. Each may have a large head."""


class OpenConnections:
    """Counts the open connections of the server that it is passed to."""

    def __init__(self) -> None:
        self.count = 0


class Server(HttpServer):
    """Hands the requests of each connection to `handler`, within the limits. `fault_response` answers faults.

    Once `drain` has begun, each response is the last of its connection.
    """

    def __init__(
        self,
        handler: Handler,
        connection_limits: ConnectionLimits,
        fault_response: FaultResponse,
        *,
        metrics: GatewayMetrics = SILENT,
        open_connections: OpenConnections | None = None,
        drain: Drain | None = None,
        request_factory: Callable[..., web.BaseRequest] | None = None,
        handler_cancellation: bool = False,
    ) -> None:
        super().__init__(
            self._check,
            request_factory=request_factory,
            handler_cancellation=handler_cancellation,
            keepalive_timeout=connection_limits.idle,
            access_log=None,
            max_line_size=connection_limits.head_bytes,
            max_field_size=connection_limits.head_bytes,
            max_headers=connection_limits.head_lines,
            auto_decompress=False,
        )
        self._handler = handler
        self.connection_limits = connection_limits
        self.fault_response = fault_response
        self.metrics = metrics
        self.open_connections = open_connections or OpenConnections()
        self._drain = drain or Drain()
        self.by_address: Counter[str] = Counter()
        """Open connections, where they are counted by address."""
        self.unfinished = 0
        """Bytes of heads that have begun and are not complete."""
        self.rejected: set[Connection] = set()
        """Connections that are being sent the reason for their rejection."""

    def make_connection(self, **options: Any) -> HttpConnection:
        return Connection(self, **options)

    @property
    def open(self) -> int:
        return self.open_connections.count

    def count_address(self, peer: str) -> str | None:
        """Count a connection by its client's address; None where it is a proxy's."""
        address = addresses.parse(peer)
        if address is None or addresses.is_within(address, self.connection_limits.uncounted):
            return None
        name = addresses.client(address)
        self.by_address[name] += 1
        return name

    def uncount_address(self, address: str) -> None:
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]

    def _check(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        """The handler's work, if the request may be served. Not a coroutine, which would cost every request."""
        connection = cast("Connection", request.protocol)
        fault = connection.check_size(request) if connection.must_measure else None
        fault = fault or faults.of_request(request)
        if fault is None:
            if self.draining or self._drain.begun.is_set():
                close_after_response(request)
            return self._handler(request)
        respond_as_http11(request)
        return _finished(connection.refuse(fault))


class Connection(HttpConnection):
    """What arrives is a head until a request is complete, then a body until that is complete."""

    def __init__(self, server: Server, **options: Any) -> None:
        super().__init__(server, pipelined=_PIPELINED, **options)
        self._server = server
        self._timer: asyncio.TimerHandle | None = None
        """Of the head in progress, or of the rejection."""
        self._admitted = False
        self._discarding = False
        """It has been refused: what still comes is discarded."""
        self._address: str | None = None
        """By which it is counted."""
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the last request whose head is complete."""
        self._body_overhead = 0
        """Bytes since that body last grew: extensions of chunks, or trailers."""
        self._head_limit = server.connection_limits.head_bytes + 1
        """Bytes of a head that are one too many."""
        self._least = self._most = 0
        """Bounds on the size of the head in progress. It may have started in a read that also ended the previous body,
        and how much of that read was body is not known."""
        self._line_seen = False
        """The request line of that head is complete."""
        self.must_measure = False
        """A head may be larger than allowed, so each is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.closed:
            self._discarding = True
            transport.close()
            return
        fault = self._over_limit(transport)
        if fault is not None:
            self._server.metrics.connection_rejected()
            self._discarding = True
            self._reject(cast("asyncio.Transport", transport), fault)
            return
        self._admitted = True
        self._server.open_connections.count += 1
        super().connection_made(transport)
        _limit_silence(transport, self._server.connection_limits.stall)

    def data_received(self, data: bytes) -> None:
        while not self._discarding:
            if self.is_switched:
                super().data_received(data)
                return
            if not self._body.is_eof():
                self._read_body(data)
                return
            room = self._head_limit - self._least
            if len(data) <= room:
                self._read_head(data)
                return
            self._read_head(data[:room])
            data = data[room:]

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end_head()
        self._server.rejected.discard(self)
        if self._address is not None:
            self._server.uncount_address(self._address)
        if not self._admitted:
            return
        self._server.open_connections.count -= 1
        if isinstance(exc, OSError) and exc.errno == errno.ETIMEDOUT:
            self._server.metrics.slow_client_closed(Slow.ANSWER)
        super().connection_lost(exc)
        if not self._body.is_eof() and self._body.exception() is None:
            # aiohttp would wait for seconds for the rest of it, only to discard it.
            self._body.set_exception(ConnectionResetError("the client is gone"))

    def check_size(self, request: web.BaseRequest) -> Fault | None:
        return faults.HEADERS_TOO_LARGE if _head_size(request) > self._server.connection_limits.head_bytes else None

    def refuse(self, fault: Fault) -> web.Response:
        """The response to the fault. Then the connection closes: it is uncertain where a next request would begin."""
        response = self._server.fault_response(fault, self._log_fault(fault)) or web.Response(status=fault.status)
        response.force_close()
        return response

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Respond to a request that is not HTTP, or whose handler has failed."""
        if isinstance(exc, HttpProcessingError | web.RequestPayloadError):
            return self.refuse(faults.of_parser(exc))
        self.log_exception(message, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has begun already")
        return self.refuse(faults.UNEXPECTED)

    def log_exception(self, *_args: Any, exc_info: BaseException | None = None, **_more: Any) -> None:
        """Log where an error was raised, without its text, which may contain a part of the request."""
        kind = type(exc_info).__name__
        if isinstance(exc_info, _BROKEN_OFF):
            log.debug("a client broke off its request", extra={"error": kind, "peer": str(self.peername)})
            return
        stack = "".join(traceback.format_tb(exc_info.__traceback__)) if exc_info else ""
        log.error("a request failed unexpectedly", extra={"error": kind, "stack": stack})

    # --- heads and bodies ---

    def _read_head(self, data: bytes) -> None:
        """Parse bytes that belong to no body. They may complete a head, and begin a body or the next head."""
        before = self.heads_parsed
        if not self._parse(data):
            return
        if self.heads_parsed == before:
            self._head_grew(data)
            return
        self._body = self.newest_body
        size = len(data)
        if self._most + size >= self._head_limit:
            self.must_measure = True
        if self._least or self._timer is not None:
            self._end_head()
        self._most = size

    def _read_body(self, data: bytes) -> None:
        before, body, length = self.heads_parsed, self._body, self._body.total_bytes
        if not self._parse(data):
            return
        if self.heads_parsed != before:
            if not body.is_eof():
                # The parser has given up on it without failing its readers.
                body.set_exception(web.RequestPayloadError("the body is malformed"))
            self._body = self.newest_body
            self._most = len(data)
        elif body.is_eof():
            self._most = len(data)
        elif body.total_bytes != length or self.is_reading_paused:
            self._body_overhead = 0
        else:
            self._body_overhead += len(data)
            if self._body_overhead > self._server.connection_limits.head_bytes:
                self._stop(faults.HEADERS_TOO_LARGE)

    def _parse(self, data: bytes) -> bool:
        """Pass bytes to the parser; False if it failed, which asyncio would log with the error's text."""
        try:
            super().data_received(data)
        except Exception as error:  # noqa: BLE001
            self.log_exception(exc_info=error)
            self._stop(faults.BAD_REQUEST)
            return False
        return True

    def _head_grew(self, data: bytes) -> None:
        """These bytes have not completed a head."""
        if not data or self.is_closing:
            return
        size, server = len(data), self._server
        self._most += size
        if self.is_parser_paused:
            return  # the parser has not read them yet
        self._least += size
        server.unfinished += size
        self._line_seen = self._line_seen or b"\n" in data
        if self._least > server.connection_limits.head_bytes:
            self._stop(faults.HEADERS_TOO_LARGE if self._line_seen else faults.TARGET_TOO_LONG)
        elif server.unfinished > server.connection_limits.heads:
            self._stop(faults.CROWDED_HEADS)
        elif self._timer is None and self.is_idle:
            self._timer = asyncio.get_running_loop().call_later(server.connection_limits.head, self._head_timed_out)

    def _end_head(self) -> None:
        self._server.unfinished -= self._least
        self._least = self._most = 0
        self._line_seen = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- refusals ---

    def _over_limit(self, transport: asyncio.BaseTransport) -> Fault | None:
        server, limits = self._server, self._server.connection_limits
        if server.open >= limits.connections:
            return faults.CROWDED
        if not limits.per_address:
            return None
        peer = transport.get_extra_info("peername")
        self._address = server.count_address(str(peer[0])) if peer else None
        if self._address and server.by_address[self._address] > limits.per_address:
            return faults.CROWDED_ADDRESS
        return None

    def _head_timed_out(self) -> None:
        self._server.metrics.slow_client_closed(Slow.HEAD)
        self._stop(faults.SLOW_HEAD)

    def _stop(self, fault: Fault) -> None:
        """Read no more. A request in progress gets its response; otherwise the fault is the response."""
        self._end_head()
        self._discarding = True
        if not self._body.is_eof():
            self._body.set_exception(web.RequestPayloadError("the body is malformed"))
        if self.is_idle and self.transport is not None:
            self._reject(self.transport, fault)
        else:
            self._log_fault(fault)
            self.close_after_request()

    def _reject(self, transport: asyncio.Transport, fault: Fault) -> None:
        rejected, response = self._server.rejected, self._server.fault_response(fault, self._log_fault(fault))
        if len(rejected) * 10 >= self._server.connection_limits.connections:
            transport.abort()  # with so many, even a rejection takes too many resources
        elif response is None:
            transport.close()
        else:
            rejected.add(self)
            transport.write(_as_bytes(response))
            if transport.can_write_eof():
                transport.write_eof()
            self._timer = asyncio.get_running_loop().call_later(_REJECTION_SECONDS, transport.abort)

    def _log_fault(self, fault: Fault) -> str:
        """Log the fault without any part of the request, which may contain a credential. Returns its id in the log."""
        request_id = secrets.token_hex(8)
        level = logging.DEBUG if fault.retry_after else logging.INFO  # crowds are in the metrics
        log.log(
            level,
            "refused: %s",
            fault.title,
            extra={"status": fault.status, "peer": str(self.peername), "request_id": request_id},
        )
        return request_id


async def _finished(response: web.Response) -> web.StreamResponse:
    return response


def _head_size(request: web.BaseRequest) -> int:
    """Bytes of the head, as it is usually written."""
    line = len(f"{request.method} {request.raw_path} HTTP/1.1\r\n\r\n")
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers)


def _as_bytes(response: web.Response) -> bytes:
    """The response to a client that has sent no request yet."""
    body = (response.text or "").encode()
    headers = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
    return head_bytes(f"HTTP/1.1 {response.status} {response.reason}", headers) + body


def _limit_silence(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Let the kernel end a connection whose other side reads nothing of what it is sent, or is gone.

    Only the kernel sees whether bytes move: what a slow client has read in minutes may all have been in its buffers.
    Only Linux can do this. Elsewhere, where only developers run a gateway, such clients stay.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEPALIVE_IDLE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _KEEPALIVE_INTERVAL)
