"""Ways to a server that a trial can cut, half-open or lead elsewhere, and an API server that talks nonsense."""

import asyncio
import contextlib
import itertools
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_CHUNK = 65536


class Way:
    """A TCP proxy on loopback. `target` is the port where new connections go."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.made = 0
        """Connections so far."""
        self._swallowed: set[int] = set()
        self._writers: dict[int, tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def to(cls, target: int) -> AsyncIterator["Way"]:
        way = cls(target)
        server = await asyncio.start_server(way._accept, "127.0.0.1", 0)
        way.port = server.sockets[0].getsockname()[1]
        try:
            yield way
        finally:
            server.close()
            await way._close()

    def half_open(self) -> None:
        """Let the present connections stand, and pass nothing on over them any more: what a lost route leaves."""
        self._swallowed |= set(self._writers)

    def cut(self) -> None:
        """Reset the present connections."""
        for pair in [*self._writers.values()]:
            for writer in pair:
                writer.transport.abort()

    def lead(self, target: int) -> None:
        """Lead new connections elsewhere, and reset those that lead to the old place."""
        self.target = target
        self.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self.made = self.made, self.made + 1
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers[number] = (writer, far_writer)
        passing = [
            asyncio.create_task(self._pass(reader, far_writer, number)),
            asyncio.create_task(self._pass(far_reader, writer, number)),
        ]
        self._tasks.update(passing)
        for task in passing:
            task.add_done_callback(self._tasks.discard)
        await asyncio.wait(passing)
        self._writers.pop(number, None)
        for each in (writer, far_writer):
            each.transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, number: int) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(_CHUNK):
                if number not in self._swallowed:
                    sink.write(data)
                    await sink.drain()
            if number not in self._swallowed:
                sink.write_eof() if sink.can_write_eof() else sink.close()

    async def _close(self) -> None:
        self.cut()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


NONSENSE = (
    ("text/html", b"<html><body>Please sign in</body></html>"),
    ("application/json", b"null"),
    ("application/json", b'{"kind": "Status"'),
    ("application/json", b"[]"),
    ("application/json", b'{"kind": "List", "items": "none"}'),
)
"""What a proxy in between, or a broken one, answers with 200."""

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
