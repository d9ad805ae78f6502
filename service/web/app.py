"""Puts the web layer together from the parts that it is given."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from service.domain.limits import Limits
from service.web import access, audit, docs, edge, metrics, openapi, operations
from service.web.keys import API, BODY_SECONDS, EXPOSITION, GATE, PROBES, STREAMS, ApiParts, ProbeParts
from service.web.probes import middlewares
from service.web.static_content import StaticContent
from service.web.stream import EventStreams

_BODY_LIMIT = 16 * 1024
"""Bytes: the largest sensible body is a user_id of 254 characters."""


class Pages(Protocol):
    """The dashboard."""

    def routes(self) -> Sequence[web.RouteDef]: ...

    async def explain(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A middleware: problems of its pages become pages, too."""


def make_app(
    parts: ApiParts,
    probes: ProbeParts,
    *,
    gate: access.Gate | None = None,
    answered: metrics.Answered = lambda *_: None,
    rest_limits: edge.RestLimits = edge.DEFAULTS,
    limits: Limits | None = None,
    pages: Pages | None = None,
) -> web.Application:
    """The application. Without a `gate`, serve it on loopback only.

    `limits` only go into the OpenAPI document; the parts enforce them.
    """
    audited = [audit.middleware(parts.audit)]
    if pages is not None:
        audited.append(pages.explain)
    app = web.Application(middlewares=middlewares(answered, gate, audited), client_max_size=_BODY_LIMIT)
    app[API] = parts
    app[PROBES] = probes
    app[EXPOSITION] = parts.exposition
    app[BODY_SECONDS] = rest_limits.body
    app[STREAMS] = streams = EventStreams(
        parts.progress,
        probes.readiness,
        gate,
        total=rest_limits.streams,
        per_session=rest_limits.streams_per_session,
    )
    app.on_shutdown.append(streams.end)
    app.add_routes(operations.routes())
    app.router.add_get("/openapi.json", _openapi(limits or Limits()).respond)
    app.add_routes(docs.routes())
    if gate is not None:
        app[GATE] = gate
    if pages is not None:
        app.add_routes(pages.routes())
    return edge.serve_within(app, rest_limits.connection_limits, probes.readiness.drain)


@cache
def _openapi(limits: Limits) -> StaticContent:
    return StaticContent((json.dumps(openapi.document(limits), indent=2) + "\n").encode(), "application/json")
