"""Serves the application on a port of its own."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from service.edge.connections import Server
from service.edge.drain import Drain


@asynccontextmanager
async def running(
    application: web.Application, sockets: Sequence[socket.socket], *, drain: Drain, shutdown_timeout: float
) -> AsyncIterator[str]:
    """Serve the application on the bound sockets. Yields its address.

    Once `drain` has begun, each response is the last of its connection. When the context ends, event streams end, and
    other requests get `shutdown_timeout` seconds.
    """
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=shutdown_timeout)
    try:
        await runner.setup()
        for each in sockets:
            await web.SockSite(runner, each).start()
        async with _draining(runner.server, drain):
            host, port = sockets[0].getsockname()[:2]
            yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _draining(server: web.Server | None, drain: Drain) -> AsyncIterator[None]:
    task = asyncio.create_task(_drain(server, drain), name="api draining")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _drain(server: web.Server | None, drain: Drain) -> None:
    await drain.begun.wait()
    if isinstance(server, Server):
        server.drain()
