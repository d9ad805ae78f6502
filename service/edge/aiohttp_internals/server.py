"""aiohttp's server with hooks that it does not offer: for what arrives on a connection, and for how it ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import EMPTY_PAYLOAD, HttpVersion11, StreamReader, web
from aiohttp.http import HttpRequestParser
from aiohttp.http_exceptions import BadHttpMessage, ContentEncodingError, HttpProcessingError, LineTooLong

__all__ = ["EMPTY_PAYLOAD", "ContentEncodingError", "HttpConnection", "HttpProcessingError", "HttpServer"]

_TOO_MANY_HEADERS = "Too many headers received"
"""The message by which alone aiohttp distinguishes this error."""
_CANCEL_SECONDS = 1.0
"""Seconds that a cancelled request has to end."""
_POLL_INTERVAL = 0.05
"""Seconds between two checks, at the end of the process, whether requests are in progress."""


def is_too_large(error: BaseException) -> bool:
    """Whether the parser refuses a line, or the number of headers."""
    return isinstance(error, LineTooLong) or (isinstance(error, BadHttpMessage) and error.message == _TOO_MANY_HEADERS)


class HttpServer(web.Server):
    """Override `make_connection`. At the end, requests in progress are finished before connections close."""

    closed = False
    """A connection that the kernel still accepts must be closed at once."""
    draining = False
    """Each response is the last of its connection: clients move on to another replica before this one ends."""

    def __call__(self) -> web.RequestHandler:
        return self.make_connection(loop=self._loop, **self._kwargs)

    def make_connection(self, **options: Any) -> "HttpConnection":
        raise NotImplementedError

    def pre_shutdown(self) -> None:
        """Close idle connections now, and the others after their request.

        aiohttp would stop reading from all of them: uploads could not be completed, and WebSockets not be closed.
        """
        self.draining = True
        self._close_idle()

    async def shutdown(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # aiohttp's signature
        """Give requests in progress `timeout` seconds, then end them."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + (timeout or 0)
        while self._close_idle() and clock() < deadline:  # noqa: ASYNC110  # an event would cost every request
            await asyncio.sleep(_POLL_INTERVAL)
        self.closed = True
        await super().shutdown(_CANCEL_SECONDS)

    def _close_idle(self) -> bool:
        """Close idle connections; return whether there are others."""
        connections = self.connections
        idle = [each for each in connections if isinstance(each, HttpConnection) and each.is_idle]
        for each in idle:
            each.close()
        return len(idle) < len(connections)


class HttpConnection(web.RequestHandler):
    """One connection. `pipelined`: how many requests are read while one is served."""

    __slots__ = ()

    def __init__(self, server: HttpServer, *, pipelined: int, **options: Any) -> None:
        super().__init__(server, **options)
        # The parser that aiohttp makes would read far more requests ahead.
        self._max_msg_queue_size = pipelined
        self._msg_queue_resume_size = pipelined // 2
        self._parser = HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=web.RequestPayloadError,
            auto_decompress=options["auto_decompress"],
            max_msg_queue_size=pipelined,
        )

    @property
    def heads_parsed(self) -> int:
        """How many requests have had a complete head."""
        return self._request_count

    @property
    def newest_body(self) -> StreamReader:
        """The body of the request whose head was completed last, and which is not being served yet."""
        return self._messages[-1][1]

    @property
    def is_idle(self) -> bool:
        """Whether no request is being served."""
        return self._request_count == 0 or (self._waiter is not None and not self._waiter.done())

    @property
    def is_closing(self) -> bool:
        return self._close or self._force_close

    @property
    def is_switched(self) -> bool:
        """Whether it has switched protocols."""
        return self._upgraded

    @property
    def is_parser_paused(self) -> bool:
        """Whether the parser has stopped, with bytes left, because enough requests wait."""
        return self._buffer_paused

    @property
    def is_reading_paused(self) -> bool:
        return self._reading_paused

    def close_after_request(self) -> None:
        """Close when the request that is being served has its response."""
        self._close = True


def close_after_response(request: web.BaseRequest) -> None:
    """Make the response to this request the last of its connection."""
    request._message = request._message._replace(should_close=True)  # noqa: SLF001


def respond_as_http11(request: web.BaseRequest) -> None:
    """Make the response HTTP/1.1, whatever version the request claims."""
    request._version = HttpVersion11  # noqa: SLF001


def set_server(app: web.Application, make: Callable[[web.Server], HttpServer]) -> None:
    """Serve the application by what `make` returns, given the server that aiohttp would use."""
    default = app._make_handler  # noqa: SLF001  # where aiohttp's runners get an application's server

    def make_handler(**options: Any) -> HttpServer:
        return make(default(**options))

    vars(app)["_make_handler"] = make_handler


Handler = Callable[[Any], Awaitable[web.StreamResponse]]
