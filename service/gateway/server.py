"""The gateway as a server on a port of its own."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiohttp import web

from service.edge import ports
from service.edge.connection_limits import affordable
from service.edge.connections import Server
from service.edge.drain import Drain
from service.gateway import errors as refusal
from service.gateway.gateway import Gateway

log = logging.getLogger(__name__)


@asynccontextmanager
async def served(
    gateway: Gateway,
    host: str,
    port: int,
    *,
    sockets: Sequence[socket.socket] = (),
    drain: Drain | None = None,
    spread: float = 0,
    shutdown_timeout: float = 10,
) -> AsyncIterator[int]:
    """Serve for as long as the context lasts, or until `drain` is over; the port that was taken.

    `sockets` are bound to host and port already; without any they are bound here. Raises PortUnusable.

    At the end new connections are refused, requests get `shutdown_timeout` seconds, and open WebSockets are closed one
    after the other in the course of `spread` seconds: all at once would come back at once.
    """
    drain = drain or Drain()
    connection_limits = affordable(gateway.connection_limits)
    server = Server(gateway, connection_limits, refusal.of_fault, metrics=gateway.metrics, handler_cancellation=True)
    gateway.connections = lambda: server.open
    runner = web.ServerRunner(server, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    sockets = sockets or ports.bind("the gateway", host, port)
    for each in sockets:
        await web.SockSite(runner, each).start()
    taken = int(sockets[0].getsockname()[1])
    log.info("the gateway listens", extra={"host": host, "port": taken})
    closing = asyncio.create_task(_close(gateway, server, runner, drain, spread), name="gateway closing")
    try:
        yield taken
    finally:
        drain.begun.set()
        drain.over.set()
        await closing
        await gateway.close()


async def _close(gateway: Gateway, server: Server, runner: web.ServerRunner, drain: Drain, spread: float) -> None:
    await drain.begun.wait()
    server.draining = True
    await drain.over.wait()
    await asyncio.gather(gateway.leave(spread), runner.cleanup())
