"""`/metrics` on a port of its own, and the time that requests take."""

import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service.edge import ports
from service.edge.connection_limits import HEADER_LIMIT
from service.web import access, edge, handlers, problems, request_id
from service.web.keys import EXPOSITION, Exposition

Answered = Callable[[str, int, float], None]
"""Called for each answer with operation (`other` if it is not one of the API's), status and seconds."""


def middleware(answered: Answered) -> Middleware:
    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        response = await handler(request)
        name = request.match_info.route.name
        answered(name or "other", response.status, time.perf_counter() - started)
        return response

    return measure


@asynccontextmanager
async def served(
    exposition: Exposition,
    host: str,
    port: int,
    *,
    header_limit: int = HEADER_LIMIT,
    sockets: Sequence[socket.socket] = (),
) -> AsyncIterator[None]:
    """Serve nothing but `/metrics` there, without a key.

    `sockets` are bound to host and port already; without any they are bound here. Raises PortUnusable.
    """
    app = web.Application(middlewares=[request_id.middleware, problems.middleware, access.middleware(())])
    app[EXPOSITION] = exposition
    app.router.add_get("/metrics", handlers.metrics)
    runner = web.AppRunner(edge.serve_within(app, replace(edge.METRICS, head_bytes=header_limit)), access_log=None)
    await runner.setup()
    try:
        for each in sockets or ports.bind("metrics", host, port):
            await web.SockSite(runner, each).start()
        yield
    finally:
        await runner.cleanup()
