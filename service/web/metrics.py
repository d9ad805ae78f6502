"""The application of the port that serves only `/metrics`, and the time that requests take."""

import time
from collections.abc import Callable
from dataclasses import replace

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service.edge.connection_limits import HEADER_LIMIT
from service.web import access, edge, handlers, problems, request_id
from service.web.caller import is_page
from service.web.keys import EXPOSITION, Exposition

Answered = Callable[[str, int, float], None]
"""Called for each answer with operation (`dashboard` for its pages, `other` if it is none), status and seconds."""


def middleware(answered: Answered) -> Middleware:
    @web.middleware
    async def measure(request: web.Request, handler: Handler) -> web.StreamResponse:
        started = time.perf_counter()
        response = await handler(request)
        name = "dashboard" if is_page(request) else request.match_info.route.name
        answered(name or "other", response.status, time.perf_counter() - started)
        return response

    return measure


def make_metrics(exposition: Exposition, *, header_limit: int = HEADER_LIMIT) -> web.Application:
    """An application that serves nothing but `/metrics`, without a key."""
    app = web.Application(middlewares=[request_id.middleware, problems.middleware, access.middleware(None)])
    app[EXPOSITION] = exposition
    app.router.add_get("/metrics", handlers.metrics)
    return edge.serve_within(app, replace(edge.METRICS, head_bytes=header_limit))
