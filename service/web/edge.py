"""Puts an application on the service's own edge: its connections, their bounds, and strictness about HTTP."""

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from service.edge.connection_limits import ConnectionLimits
from service.edge.connections import Server
from service.web import problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What callers may take up. `body`: seconds until a body must have come."""

    connection_limits: ConnectionLimits
    body: float = 10
    streams: int = 1000
    streams_per_session: int = 16


TERMS = Terms(connection_limits=ConnectionLimits(connections=2000))
METRICS = ConnectionLimits(connections=50)
"""Of the port that serves nothing but metrics, to a scraper or two."""


def fit(app: web.Application, connection_limits: ConnectionLimits) -> web.Application:
    """`app`, whose connections are ours wherever it is served. Answers to faults are problem documents."""
    make = app._make_handler  # noqa: SLF001  # the one place where aiohttp's runners get an application's server

    def handler(**more: Any) -> Server:
        plain = make(**more)
        return Server(
            plain.request_handler,
            connection_limits,
            problems.of_fault,
            request_factory=plain.request_factory,
        )

    vars(app)["_make_handler"] = handler
    return app
