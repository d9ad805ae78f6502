"""A TCP proxy that can reset, half-open and redirect connections, and an API server that answers nonsense."""

import asyncio
import contextlib
import itertools
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_CHUNK = 65536


class TcpProxy:
    """A TCP proxy on loopback. `target` is the port that new connections go to."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.accepted = 0
        """Connections so far."""
        self._closed = False
        self._half_open: set[int] = set()
        self._writers: dict[int, tuple[asyncio.StreamWriter, ...]] = {}
        self._handlers: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, target: int) -> AsyncIterator["TcpProxy"]:
        proxy = cls(target)
        server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        try:
            yield proxy
        finally:
            server.close()
            await proxy._close()

    def half_open(self) -> None:
        """Keep the current connections open, but forward nothing over them any more, like a lost route."""
        self._half_open |= set(range(self.accepted))

    def reset(self) -> None:
        """Reset the current connections."""
        for writers in [*self._writers.values()]:
            for writer in writers:
                writer.transport.abort()

    def redirect(self, target: int) -> None:
        """Send new connections to another port, and reset the current ones."""
        self.target = target
        self.reset()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio runs a coroutine here in a task that nobody can wait for, so start and keep our own.
        if self._closed:  # accepted by the kernel before the server closed
            writer.transport.abort()
            return
        number, self.accepted = self.accepted, self.accepted + 1
        self._writers[number] = (writer,)  # here, because a handler may be cancelled before its first step
        handler = asyncio.create_task(self._handle(reader, writer, number), name=f"proxied connection {number}")
        self._handlers.add(handler)
        handler.add_done_callback(self._handlers.discard)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers[number] = (writer, far_writer)
            await asyncio.gather(self._forward(reader, far_writer, number), self._forward(far_reader, writer, number))
        except OSError:
            pass  # the target refuses connections
        finally:
            writers = self._writers.pop(number)
            for each in writers:
                each.transport.abort()
            for each in writers:  # an aborted transport is closed only in the next iteration of the loop
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _forward(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if number not in self._half_open:
                    sink.write(data)
                    await sink.drain()
            if number not in self._half_open:
                sink.write_eof() if sink.can_write_eof() else sink.close()

    async def _close(self) -> None:
        self._closed = True
        self.reset()
        handlers = [*self._handlers]
        for handler in handlers:
            handler.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


NONSENSE = (
    ("text/html", b"<html><body>Please sign in</body></html>"),
    ("application/json", b"null"),
    ("application/json", b'{"kind": "Status"'),
    ("application/json", b"[]"),
    ("application/json", b'{"kind": "List", "items": "none"}'),
)
"""Responses with status 200 that a proxy in between or a broken server may send."""

_LENGTH = re.compile(rb"^content-length:\s*(\d+)", re.IGNORECASE | re.MULTILINE)


class NonsenseServer:
    """Speaks TLS with the cluster's own certificate, and answers every request with 200 and nonsense."""

    def __init__(self) -> None:
        self.port = 0
        self.requests = 0
        self._kinds = itertools.cycle(NONSENSE)
        self._writers: set[asyncio.StreamWriter] = set()

    @classmethod
    @asynccontextmanager
    async def serving(cls, certificate: Path, key: Path) -> AsyncIterator["NonsenseServer"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        nonsense = cls()
        server = await asyncio.start_server(nonsense._serve, "127.0.0.1", 0, ssl=context)
        nonsense.port = server.sockets[0].getsockname()[1]
        try:
            yield nonsense
        finally:
            server.close()
            for writer in [*nonsense._writers]:
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = _LENGTH.search(head)
                    await reader.readexactly(int(length[1]) if length else 0)
                    await self._answer(writer)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        media, body = next(self._kinds)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
