"""Limits an application's connections, and the resources that callers may use."""

from dataclasses import dataclass

from aiohttp import web

from service.edge.aiohttp_internals.server import set_server
from service.edge.connection_limits import ConnectionLimits
from service.edge.connections import Server
from service.edge.drain import Drain
from service.web import problems


@dataclass(frozen=True, slots=True, kw_only=True)
class RestLimits:
    """`body`: seconds until a request's body must have arrived. `streams`: open event streams."""

    connection_limits: ConnectionLimits
    body: float = 10
    streams: int = 1000
    streams_per_session: int = 16


DEFAULTS = RestLimits(connection_limits=ConnectionLimits(connections=2000))
METRICS = ConnectionLimits(connections=50)
"""For the port that serves only metrics, to a scraper or two."""


def serve_within(
    app: web.Application, connection_limits: ConnectionLimits, drain: Drain | None = None
) -> web.Application:
    """Bound the connections of `app`, wherever it is served. Faults are answered with problem documents.

    Once `drain` has begun, each response is the last of its connection.
    """

    def make(default: web.Server) -> Server:
        return Server(
            default.request_handler,
            connection_limits,
            problems.of_fault,
            drain=drain,
            request_factory=default.request_factory,
        )

    set_server(app, make)
    return app
