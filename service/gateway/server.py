"""Serves the gateway on a port of its own."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from service.edge.connection_limits import affordable
from service.edge.connections import Server
from service.edge.drain import Drain
from service.gateway import errors
from service.gateway.gateway import Gateway

log = logging.getLogger(__name__)


@asynccontextmanager
async def serving(
    gateway: Gateway,
    sockets: Sequence[socket.socket],
    *,
    drain: Drain,
    spread: float = 0,
    shutdown_timeout: float = 10,
) -> AsyncIterator[int]:
    """Serve on the bound sockets until the context ends or `drain` is over. Yields the port.

    At the end, new connections are refused, requests get `shutdown_timeout` seconds, and open WebSockets are closed one
    after the other within `spread` seconds: if all closed at once, all would come back at once.
    """
    server = Server(
        gateway,
        affordable(gateway.limits.connection_limits),
        errors.of_fault,
        metrics=gateway.metrics,
        open_connections=gateway.connections,
        drain=drain,
        handler_cancellation=True,
    )
    runner = web.ServerRunner(server, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    for each in sockets:
        await web.SockSite(runner, each).start()
    host, port = sockets[0].getsockname()[:2]
    log.info("the gateway listens", extra={"host": host, "port": port})
    closing = asyncio.create_task(_close(gateway, runner, drain, spread), name="gateway closing")
    try:
        yield port
    finally:
        drain.begun.set()
        drain.over.set()
        await closing
        await gateway.close()


async def _close(gateway: Gateway, runner: web.ServerRunner, drain: Drain, spread: float) -> None:
    await drain.over.wait()
    await asyncio.gather(gateway.drain(spread), runner.cleanup())
