"""The gateway as a server on a port of its own."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from service.edge.bounds import affordable
from service.edge.connections import Server
from service.gateway import refusal
from service.gateway.gateway import Gateway

log = logging.getLogger(__name__)


@asynccontextmanager
async def served(gateway: Gateway, host: str, port: int, *, shutdown_timeout: float = 10) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; the port that was taken."""
    bounds = affordable(gateway.bounds)
    server = Server(gateway, bounds, refusal.of_fault, meter=gateway.meter, handler_cancellation=True)
    gateway.connections = lambda: server.open
    runner = web.ServerRunner(server, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        taken = int(runner.addresses[0][1])
        log.info("the gateway listens", extra={"host": host, "port": taken})
        yield taken
    finally:
        await runner.cleanup()
        await gateway.close()
