"""The application of a process that serves no REST API: the probes, and nothing else."""

from collections.abc import Sequence

from aiohttp import web
from aiohttp.typedefs import Middleware

from service.web import access, edge, handlers, metrics, problems, request_id
from service.web.keys import PROBES, ProbeParts


def middlewares(
    answered: metrics.Answered, gate: access.Gate | None = None, audited: Sequence[Middleware] = ()
) -> list[Middleware]:
    """What every request of the service's port passes, outermost first. `audited` sees what was answered."""
    return [
        metrics.middleware(answered),
        request_id.middleware,
        *audited,
        problems.middleware,
        access.middleware(gate),
    ]


def make_probes(
    parts: ProbeParts, *, answered: metrics.Answered = lambda *_: None, rest_limits: edge.RestLimits = edge.DEFAULTS
) -> web.Application:
    app = web.Application(middlewares=middlewares(answered))
    app[PROBES] = parts
    app.router.add_get("/health", handlers.health, name="health")
    app.router.add_get("/livez", handlers.livez, name="livez")
    app.router.add_get("/readyz", handlers.readyz, name="readyz")
    return edge.serve_within(app, rest_limits.connection_limits, parts.readiness.drain)
