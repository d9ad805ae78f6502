"""The edge alone, over a real socket, in front of a handler that reports what it received."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from service.edge.connection_limits import ConnectionLimits
from service.edge.connections import Server
from service.edge.faults import Fault
from tests.wire import Answer, asked, said, split


@dataclass
class Edge:
    """A server within bounds. `seen` has each request's path and what became of its body."""

    connection_limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    port: int = 0
    seen: list[tuple[str, bytes | str]] = field(default_factory=list)
    slow: asyncio.Event = field(default_factory=asyncio.Event)
    """`/slow` is answered when it is set."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Edge"]:
        self.server = Server(self._serve, self.connection_limits, self._refuse)
        runner = web.ServerRunner(self.server, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.port = int(runner.addresses[0][1])
            yield self
        finally:
            await runner.cleanup()

    async def asked(self, *pieces: bytes) -> Answer:
        return await asked(self.port, *pieces)

    async def said(self, *pieces: bytes) -> list[Answer]:
        answers, rest = [], await said(self.port, *pieces)
        while rest:
            answer, rest = split(rest)
            answers.append(answer)
        return answers

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/slow":
            await self.slow.wait()
        if request.path == "/fails":
            raise ValueError(request.headers["X-Secret"])
        try:
            self.seen.append((request.path, await request.read()))
        except web.RequestPayloadError as error:
            self.seen.append((request.path, type(error).__name__))
            raise
        return web.Response(text=str(len(request.headers)))

    @staticmethod
    def _refuse(fault: Fault, name: str) -> web.Response:
        told = {"slug": fault.slug, "name": name, "title": fault.title, "detail": fault.detail}
        return web.json_response(told, status=fault.status)


Serve = Callable[..., Any]


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    async with Edge().open() as edge:
        yield edge


@asynccontextmanager
async def bounded(**connection_limits: Any) -> AsyncIterator[Edge]:
    async with Edge(ConnectionLimits(**connection_limits)).open() as edge:
        yield edge
