"""Connections of browsers: how many there may be, and how long one may take over what it owes the gateway.

Who merely has nothing to say is left alone: a WebSocket or a stream of events without traffic ends by nothing in here.
"""

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from service.domain.meter import Doorkeeper, Slow
from service.gateway.pods import HEADER_LIMIT
from service.gateway.refusal import Refusal

log = logging.getLogger(__name__)

_FULL = Refusal(503, "Too many connections", "The gateway has as many connections as it may have.", retry_after=5)
_NO_HTTP = Refusal(400, "Bad request", "This is no HTTP, or a part of it is longer than may be.")
_OTHER_FILES = 256
"""What the rest of the service opens, helm's pipes included."""
_GOODBYE = 2.0
"""Seconds that a client has to read why it is turned away: a close before would take the answer from its hands."""
_LOOK_AFTER = 60
_LOOK_AGAIN = 30
"""Seconds of silence after which the kernel asks whether the other side is still there, and between two such questions.
It answers by itself, without its browser; only one that has vanished does not, and loses the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Times are in seconds."""

    connections: int = 10_000
    """Open at the same time."""
    head: float = 20
    """From the first byte of a request to the last of its headers. A browser sends them at once."""
    idle: float = 75
    """Without a request. More than the 60 that load balancers keep theirs, so that they are the ones who close."""
    stall: float = 300
    """Without a byte of a body that the pod waits for, or without one taken of an answer: far longer than a train's
    tunnel, and short enough that the dead do not pile up."""


class Server(web.Server):
    """Hands each connection's requests to `handler`, within `bounds`."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        bounds: Bounds,
        meter: Doorkeeper,
    ) -> None:
        super().__init__(
            handler,
            handler_cancellation=True,
            keepalive_timeout=bounds.idle,
            access_log=None,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            auto_decompress=False,
        )
        self.bounds = bounds
        self.meter = meter
        self.turned_away: set[_Connection] = set()
        """Those beyond the bound that are being told so."""

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=self._loop, **self._kwargs)

    @property
    def open(self) -> int:
        return len(self._connections)


class _Connection(web.RequestHandler):
    __slots__ = ("_deadline", "_server")

    def __init__(self, server: Server, **more: object) -> None:
        super().__init__(server, **more)  # type: ignore[arg-type]  # what web.Server keeps for it
        self._server = server
        self._deadline: asyncio.TimerHandle | None = None
        """Of the head that is under way, or of the goodbye."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._server.open >= self._server.bounds.connections:
            self._turn_away(cast("asyncio.Transport", transport))
            return
        super().connection_made(transport)
        _limit_silence(transport, self._server.bounds.stall)

    def data_received(self, data: bytes) -> None:
        if self in self._server.turned_away:
            return
        heads = self._request_count
        super().data_received(data)
        if self._request_count != heads:
            if self._deadline is not None:
                self._forget_deadline()
        elif self._deadline is None and (heads == 0 or self._waits):
            # No request is being served, and these bytes have not made one.
            self._deadline = self._loop.call_later(self._server.bounds.head, self._too_slow)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_deadline()
        if self in self._server.turned_away:
            self._server.turned_away.discard(self)
            return
        if isinstance(exc, OSError) and exc.errno == errno.ETIMEDOUT:
            self._server.meter.ended(Slow.ANSWER)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, and tell the log of it without its words: they may hold a pass or a ticket."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.info("a request is no HTTP: %s", type(exc).__name__, extra={"peer": str(self.peername)})
        answer = _NO_HTTP.answer(page=False)
        answer.force_close()
        return answer

    @property
    def _waits(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        log.info("a request's head did not come along", extra={"peer": str(self.peername)})
        self._server.meter.ended(Slow.HEAD)
        self.force_close()

    def _turn_away(self, transport: asyncio.Transport) -> None:
        self._server.meter.turned_away()
        away = self._server.turned_away
        if len(away) * 10 >= self._server.bounds.connections:
            transport.abort()  # even a goodbye would take more than there is
        else:
            transport.write(_plain(_FULL.answer(page=False)))
            if transport.can_write_eof():
                transport.write_eof()
            self._deadline = self._loop.call_later(_GOODBYE, transport.abort)
        away.add(self)


def affordable(bounds: Bounds) -> Bounds:
    """`bounds` with as many connections as there are file descriptors for: each takes one, and one more to its pod.

    Beyond what the process may open, Redis and Kubernetes could not be reached either.
    """
    needed = 2 * bounds.connections + _OTHER_FILES
    may, could = resource.getrlimit(resource.RLIMIT_NOFILE)
    if may != resource.RLIM_INFINITY and may < needed:
        may = needed if could == resource.RLIM_INFINITY else min(needed, could)
        resource.setrlimit(resource.RLIMIT_NOFILE, (may, could))
    if may == resource.RLIM_INFINITY or may >= needed:
        return bounds
    there = max(1, (may - _OTHER_FILES) // 2)
    log.warning("fewer connections than wanted, by the limit of open files", extra={"connections": there, "files": may})
    return replace(bounds, connections=there)


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
