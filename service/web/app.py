"""Puts the web layer together; what it works on comes from outside, as one context manager."""

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from aiohttp import web

from service.domain.limits import Limits
from service.web import access, edge, metrics, operations, problems, request_id, stream
from service.web.keys import BODY_SECONDS, STREAM_ROOM, STREAMS
from service.web.stream import Room

Resources = Callable[[web.Application], AbstractAsyncContextManager[None]]
_STATIC = Path(__file__).parent / "static"
_BODY_LIMIT = 16 * 1024
"""Bytes: the largest sensible body is a user_id of 254 characters."""
_DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"


def make_app(
    resources: Resources,
    *,
    keys: Sequence[str] = (),
    answered: metrics.Answered = lambda *_: None,
    terms: edge.Terms = edge.TERMS,
    limits: Limits | None = None,
) -> web.Application:
    """The application. `resources` fills the slots of `service.web.keys` and gives back what it opened.

    `limits` are in the OpenAPI document; whatever `resources` makes holds callers to them.
    """
    app = web.Application(
        middlewares=[
            metrics.middleware(answered),
            request_id.middleware,
            problems.middleware,
            access.middleware(keys),
        ],
        client_max_size=_BODY_LIMIT,
    )
    app[STREAMS] = set()
    app[STREAM_ROOM] = Room(terms.streams, terms.streams_per_session)
    app[BODY_SECONDS] = terms.body
    app.on_shutdown.append(stream.drain)
    app.cleanup_ctx.append(resources)
    app.add_routes(operations.routes())
    app.router.add_get("/openapi.json", _document(limits or Limits()))
    app.router.add_get("/docs", _docs)
    app.router.add_get("/problems/{slug:[a-z-]+}", _problem)
    return edge.fit(app, terms.connection_limits)


def _document(limits: Limits) -> Callable[[web.Request], Awaitable[web.Response]]:
    text = json.dumps(operations.openapi(limits), indent=2) + "\n"

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="application/json")

    return answer


async def _docs(_request: web.Request) -> web.FileResponse:
    return web.FileResponse(_STATIC / "docs.html", headers={"Content-Security-Policy": _DOCS_POLICY})


async def _problem(request: web.Request) -> web.Response:
    """Where a problem's `type` leads."""
    raise web.HTTPFound(f"/docs#{request.match_info['slug']}")
