"""Puts the web layer together; what it works on comes from outside, as one context manager."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache

from aiohttp import web

from service.domain.limits import Limits
from service.web import access, docs, edge, metrics, openapi, operations, problems, request_id, stream
from service.web.keys import BODY_SECONDS, STREAM_LIMITER, STREAMS
from service.web.static_content import StaticContent
from service.web.stream import StreamLimiter

Resources = Callable[[web.Application], AbstractAsyncContextManager[None]]
_BODY_LIMIT = 16 * 1024
"""Bytes: the largest sensible body is a user_id of 254 characters."""


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
    app[STREAM_LIMITER] = StreamLimiter(terms.streams, terms.streams_per_session)
    app[BODY_SECONDS] = terms.body
    app.on_shutdown.append(stream.drain)
    app.cleanup_ctx.append(resources)
    app.add_routes(operations.routes())
    app.router.add_get("/openapi.json", _openapi(limits or Limits()).respond)
    app.add_routes(docs.routes())
    return edge.fit(app, terms.connection_limits)


@cache
def _openapi(limits: Limits) -> StaticContent:
    return StaticContent((json.dumps(openapi.document(limits), indent=2) + "\n").encode(), "application/json")
