"""Serves an application on a port of its own."""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def running(
    application: web.Application, sockets: Sequence[socket.socket], *, shutdown_timeout: float
) -> AsyncIterator[str]:
    """Serve the application on the bound sockets. Yields its address.

    When the context ends, event streams end, and other requests get `shutdown_timeout` seconds.
    """
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=shutdown_timeout)
    try:
        await runner.setup()
        for each in sockets:
            await web.SockSite(runner, each).start()
        host, port = sockets[0].getsockname()[:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()
