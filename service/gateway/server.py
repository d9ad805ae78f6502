"""The gateway as a server on a port of its own."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from service.gateway.gateway import Gateway
from service.gateway.pods import HEADER_LIMIT

log = logging.getLogger(__name__)

_KEEPALIVE = 75.0
"""Seconds that an idle connection of a browser is kept."""


@asynccontextmanager
async def served(gateway: Gateway, host: str, port: int, *, shutdown_timeout: float = 10) -> AsyncIterator[int]:
    """Serve for as long as the context lasts; the port that was taken."""
    server = web.Server(
        gateway,
        handler_cancellation=True,
        keepalive_timeout=_KEEPALIVE,
        access_log=None,
        max_line_size=HEADER_LIMIT,
        max_field_size=HEADER_LIMIT,
        auto_decompress=False,
    )
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
