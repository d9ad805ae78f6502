"""Connections from outside: how many there may be, what each may send, and how long it may take over what it owes.

Who merely has nothing to say is left alone: a WebSocket or a stream of events without traffic ends by nothing in here.
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

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, StreamReader, web
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import HttpProcessingError

from service.domain.metrics import SILENT, GatewayMetrics, Slow
from service.edge import addresses, faults
from service.edge.connection_limits import ConnectionLimits
from service.edge.faults import Fault

log = logging.getLogger(__name__)

Handler = Callable[[Any], Awaitable[web.StreamResponse]]
Refuse = Callable[[Fault, str], web.Response | None]
"""Makes the answer to a fault, given the id that names it in the log; None: the connection is closed without one."""

_GOODBYE = 2.0
"""Seconds that a client has to read why it is turned away: a close before would take the answer from its hands."""
_LOOK_AFTER = 60
_LOOK_AGAIN = 30
"""Seconds of silence after which the kernel asks whether the other side is still there, and between two such questions.
It answers by itself, without its browser; only one that has vanished does not, and loses the connection."""
_BROKEN_OFF = (web.RequestPayloadError, HttpProcessingError, ConnectionError)
_LOOK = 0.05
"""Seconds between two looks, at the end of the process, whether requests are still under way."""
_CANCELLED = 1.0
"""Seconds that a request gets to end that has been cancelled."""
_PIPELINED = 2
"""Requests of a connection that are read while one is served. Each may have a large head."""


class OpenConnections:
    """Counts connections that are open; given to a server by whoever wants to know."""

    def __init__(self) -> None:
        self.count = 0


class Server(web.Server):
    """Hands each connection's requests to `handler`, within its limits; `refuse` makes the answers to faults."""

    def __init__(
        self,
        handler: Handler,
        connection_limits: ConnectionLimits,
        refuse: Refuse,
        *,
        metrics: GatewayMetrics = SILENT,
        open_connections: OpenConnections | None = None,
        request_factory: Callable[..., web.BaseRequest] | None = None,
        handler_cancellation: bool = False,
        auto_decompress: bool = False,
    ) -> None:
        super().__init__(
            self._checked,
            request_factory=request_factory,
            handler_cancellation=handler_cancellation,
            keepalive_timeout=connection_limits.idle,
            access_log=None,
            max_line_size=connection_limits.head_bytes,
            max_field_size=connection_limits.head_bytes,
            max_headers=connection_limits.head_lines,
            auto_decompress=auto_decompress,
        )
        self._handler = handler
        self.connection_limits = connection_limits
        self.refuse = refuse
        self.metrics = metrics
        self.open_connections = open_connections or OpenConnections()
        self.by_address: Counter[str] = Counter()
        """Open connections, where they are counted by address."""
        self.unfinished = 0
        """Bytes of heads that have begun and are not complete."""
        self.turned_away: set[Connection] = set()
        """Those that are being told why, and lose their connection."""
        self.closed = False
        """What the kernel still brings is closed at once."""
        self.draining = False
        """Each answer is the last of its connection: clients move on to another replica before this one goes."""

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)

    @property
    def open(self) -> int:
        return self.open_connections.count

    def entered(self, peer: str) -> str | None:
        """Count the connection by its client's address; None where it is a proxy's."""
        address = addresses.parse(peer)
        if address is None or addresses.is_within(address, self.connection_limits.uncounted):
            return None
        name = addresses.client(address)
        self.by_address[name] += 1
        return name

    def is_full(self, address: str) -> bool:
        return self.by_address[address] > self.connection_limits.per_address

    def left(self, address: str) -> None:
        self.by_address[address] -= 1
        if not self.by_address[address]:
            del self.by_address[address]

    def pre_shutdown(self) -> None:
        """Close the idle connections, and the others after their request.

        aiohttp would stop reading from all of them: no upload under way could be completed, no WebSocket closed.
        """
        self.draining = True
        self._close_idle()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # it is aiohttp's
        """Give requests under way `timeout` seconds, then end them."""
        clock = asyncio.get_running_loop().time
        until = clock() + (timeout or 0)
        while self._close_idle() and clock() < until:  # noqa: ASYNC110  # an event would cost every request
            await asyncio.sleep(_LOOK)
        self.closed = True
        await super().shutdown(_CANCELLED)

    def _close_idle(self) -> bool:
        """Whether there are others."""
        idle = [connection for connection in self._connections if cast("Connection", connection).waits]
        for connection in idle:
            connection.close()
        return len(idle) < len(self._connections)

    def _checked(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        """The handler's work, if the request may be served at all. No coroutine: it would cost every request one."""
        connection: Connection = request.protocol  # type: ignore[assignment]  # this server's
        fault = connection.oversize(request) if connection.doubtful else None
        fault = fault or faults.of_request(request)
        if fault is None:
            if self.draining:
                request._message = request._message._replace(should_close=True)  # noqa: SLF001
            return self._handler(request)
        request._version = HttpVersion11  # noqa: SLF001  # the answer's
        return _told(connection.refusal(fault))


class Connection(web.RequestHandler):
    """One connection. What comes on it is a head until a request is complete, then a body until that is."""

    __slots__ = (
        "_address",
        "_admitted",
        "_body",
        "_deadline",
        "_deaf",
        "_idle",
        "_least",
        "_line_seen",
        "_most",
        "_most_head",
        "_server",
        "doubtful",
    )

    def __init__(self, server: Server, **more: Any) -> None:
        super().__init__(server, **more)
        self._server = server
        # The parser that aiohttp makes would read far more requests ahead.
        self._max_msg_queue_size = _PIPELINED
        self._msg_queue_resume_size = _PIPELINED // 2
        self._parser = HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=web.RequestPayloadError,
            auto_decompress=more["auto_decompress"],
            max_msg_queue_size=_PIPELINED,
        )
        self._deadline: asyncio.TimerHandle | None = None
        """Of the head that is under way, or of the goodbye."""
        self._admitted = False
        self._deaf = False
        """It has been refused: what still comes is thrown away."""
        self._address: str | None = None
        """By which it is counted."""
        self._body: StreamReader = EMPTY_PAYLOAD
        """Of the last request whose head is complete."""
        self._idle = 0
        """Bytes since that body last grown: extensions of chunks, or trailers."""
        self._most_head = server.connection_limits.head_bytes + 1
        """Bytes of a head that are one too many."""
        self._least = self._most = 0
        """Bytes of the head that is under way. It may have begun among bytes that completed what came before it."""
        self._line_seen = False
        """Of that head, the request line is complete."""
        self.doubtful = False
        """A head may be larger than allowed; it has to be measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.closed:
            self._deaf = True
            transport.close()
            return
        fault = self._one_too_many(transport)
        if fault is not None:
            self._server.metrics.turned_away()
            self._deaf = True
            self._say_goodbye(cast("asyncio.Transport", transport), fault)
            return
        self._admitted = True
        self._server.open_connections.count += 1
        super().connection_made(transport)
        _limit_silence(transport, self._server.connection_limits.stall)

    def data_received(self, data: bytes) -> None:
        while not self._deaf:
            if self._upgraded:
                super().data_received(data)
                return
            if not self._body.is_eof():
                self._take_body(data)
                return
            room = self._most_head - self._least
            if len(data) <= room:
                self._take_head(data)
                return
            self._take_head(data[:room])
            data = data[room:]

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_head()
        self._server.turned_away.discard(self)
        if self._address is not None:
            self._server.left(self._address)
        if not self._admitted:
            return
        self._server.open_connections.count -= 1
        if isinstance(exc, OSError) and exc.errno == errno.ETIMEDOUT:
            self._server.metrics.ended(Slow.ANSWER)
        super().connection_lost(exc)
        if not self._body.is_eof() and self._body.exception() is None:
            # aiohttp would wait for the rest of it for seconds, to throw it away.
            self._body.set_exception(ConnectionResetError("the client is gone"))

    def oversize(self, request: web.BaseRequest) -> Fault | None:
        return faults.HEADERS_TOO_LARGE if _size(request) > self._server.connection_limits.head_bytes else None

    def refusal(self, fault: Fault) -> web.Response:
        """The answer to the fault, after which the connection closes: where a next request would begin is uncertain."""
        name = self._note(fault)
        answer = self._server.refuse(fault, name) or web.Response(status=fault.status)
        answer.force_close()
        return answer

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that is not HTTP, or one that a handler has failed on."""
        if isinstance(exc, HttpProcessingError | web.RequestPayloadError):
            return self.refusal(faults.of_parser(exc))
        self.log_exception(message, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        return self.refusal(faults.UNEXPECTED)

    def log_exception(self, *_args: Any, exc_info: BaseException | None = None, **_more: Any) -> None:
        """Log where an error came from. Its text is left out: it may hold a part of the request."""
        kind = type(exc_info).__name__
        if isinstance(exc_info, _BROKEN_OFF):
            log.debug("a client broke off its request", extra={"error": kind, "peer": str(self.peername)})
            return
        stack = "".join(traceback.format_tb(exc_info.__traceback__)) if exc_info else ""
        log.error("a request failed unexpectedly", extra={"error": kind, "stack": stack})

    # --- heads and bodies ---

    def _take_head(self, data: bytes) -> None:
        """Parse bytes that are no body's. They may complete a head, and begin a body or a next head."""
        before = self._request_count
        try:
            super().data_received(data)
        except Exception as error:  # noqa: BLE001
            self._parser_failed(error)
            return
        if self._request_count == before:
            self._head_grew(data)
            return
        self._body = self._messages[-1][1]
        size = len(data)
        if self._most + size >= self._most_head:
            self.doubtful = True
        if self._least or self._deadline is not None:
            self._forget_head()
        self._most = size

    def _take_body(self, data: bytes) -> None:
        before, body, length = self._request_count, self._body, self._body.total_bytes
        try:
            super().data_received(data)
        except Exception as error:  # noqa: BLE001
            self._parser_failed(error)
            return
        if self._request_count != before:
            if not body.is_eof():
                # The parser gave up on it, and tells nobody who reads it.
                body.set_exception(web.RequestPayloadError("the body is malformed"))
            self._body = self._messages[-1][1]
            self._most = len(data)
        elif body.is_eof():
            self._most = len(data)
        elif body.total_bytes != length or self._reading_paused:
            self._idle = 0
        else:
            self._idle += len(data)
            if self._idle > self._server.connection_limits.head_bytes:
                self._refuse(faults.HEADERS_TOO_LARGE)

    def _parser_failed(self, error: Exception) -> None:
        """By itself, asyncio would log the error's text, and the client get no answer."""
        self.log_exception(exc_info=error)
        self._refuse(faults.BAD_REQUEST)

    def _head_grew(self, data: bytes) -> None:
        """These bytes have not completed a head."""
        if not data or self._close or self._force_close:
            return
        size, server = len(data), self._server
        self._most += size
        if self._buffer_paused:
            return  # the parser has stopped before them
        self._least += size
        server.unfinished += size
        self._line_seen = self._line_seen or b"\n" in data
        if self._least > server.connection_limits.head_bytes:
            self._refuse(faults.HEADERS_TOO_LARGE if self._line_seen else faults.TARGET_TOO_LONG)
        elif server.unfinished > server.connection_limits.heads:
            self._refuse(faults.CROWDED_HEADS)
        elif self._deadline is None and self.waits:
            self._deadline = self._loop.call_later(server.connection_limits.head, self._too_slow)

    def _forget_head(self) -> None:
        self._server.unfinished -= self._least
        self._least = self._most = 0
        self._line_seen = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    @property
    def waits(self) -> bool:
        """No request is being served."""
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    # --- refusals ---

    def _one_too_many(self, transport: asyncio.BaseTransport) -> Fault | None:
        server = self._server
        if server.open >= server.connection_limits.connections:
            return faults.CROWDED
        if not server.connection_limits.per_address:
            return None
        peer = transport.get_extra_info("peername")
        self._address = server.entered(str(peer[0])) if peer else None
        return faults.CROWDED_ADDRESS if self._address and server.is_full(self._address) else None

    def _too_slow(self) -> None:
        self._server.metrics.ended(Slow.HEAD)
        self._refuse(faults.SLOW_HEAD)

    def _refuse(self, fault: Fault) -> None:
        """Listen no more. A request that is under way gets its answer; else the fault is the answer."""
        self._forget_head()
        self._deaf = True
        if not self._body.is_eof():
            self._body.set_exception(web.RequestPayloadError("the body is malformed"))
        if self.waits and self.transport is not None:
            self._say_goodbye(self.transport, fault)
        else:
            self._note(fault)
            self._close = True

    def _say_goodbye(self, transport: asyncio.Transport, fault: Fault) -> None:
        away, answer = self._server.turned_away, self._server.refuse(fault, self._note(fault))
        if len(away) * 10 >= self._server.connection_limits.connections:
            transport.abort()  # in a crowd even a goodbye would take more than there is
        elif answer is None:
            transport.close()
        else:
            away.add(self)
            transport.write(_plain(answer))
            if transport.can_write_eof():
                transport.write_eof()
            self._deadline = self._loop.call_later(_GOODBYE, transport.abort)

    def _note(self, fault: Fault) -> str:
        """Log the fault without a word of the request, which may hold a credential; the id that names it."""
        name = secrets.token_hex(8)
        level = logging.DEBUG if fault.retry_after else logging.INFO  # of a crowd, the metrics tell
        log.log(
            level,
            "refused: %s",
            fault.title,
            extra={"status": fault.status, "peer": str(self.peername), "request_id": name},
        )
        return name


async def _told(answer: web.Response) -> web.StreamResponse:
    return answer


def _size(request: web.BaseRequest) -> int:
    """Bytes of the head, as it is usually written."""
    line = len(f"{request.method} {request.raw_path} HTTP/1.1\r\n\r\n")
    return line + sum(len(name) + len(value) + len(": \r\n") for name, value in request.raw_headers)


def _plain(answer: web.Response) -> bytes:
    """The answer as bytes, for somebody who has not asked yet."""
    body = (answer.text or "").encode()
    headers = {**answer.headers, "Content-Length": str(len(body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _limit_silence(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Let the kernel end a connection whose other side takes nothing of what it is sent, or is gone.

    The kernel alone sees whether bytes move: what a slow client has taken in minutes may all have been in its buffers.
    Only Linux knows how; elsewhere, where nobody but developers runs a gateway, such a client stays.
    """
    connection = transport.get_extra_info("socket")
    if connection is None or not hasattr(socket, "TCP_USER_TIMEOUT"):
        return
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _LOOK_AFTER)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _LOOK_AGAIN)
