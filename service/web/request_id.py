"""Gives every request an id, for the answer, problem documents and each line that is logged meanwhile."""

import logging
import time

from aiohttp import web
from aiohttp.typedefs import Handler

from service.domain import request_context as calls
from service.domain.request_context import current_request_id
from service.web.caller import CALLER

HEADER = "X-Request-Id"
_PROBES = frozenset({"/livez", "/readyz", "/health", "/metrics"})

log = logging.getLogger("service.access")


@web.middleware
async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Take the caller's id when it is well-formed, else make one; log the request when it is over."""
    calls.begin(request.headers.get(HEADER, ""))
    name = current_request_id()
    started = time.perf_counter()
    response = await handler(request)
    if not response.prepared:
        response.headers[HEADER] = name
    level = logging.DEBUG if _is_routine(request, response) else logging.INFO
    if log.isEnabledFor(level):
        took = round((time.perf_counter() - started) * 1000, 1)
        fields = {"method": request.method, "path": _path(request), "status": response.status, "ms": took}
        if (caller := request.get(CALLER)) is not None:
            fields |= {"caller": caller.name, "key": caller.key_id}
        log.log(level, "request", extra=fields)
    return response


def _path(request: web.Request) -> str:
    """The path without its query, which may hold a user's name, and only where it is one of ours: others, and free
    parts of ours, may hold a credential that somebody put there by mistake."""
    resource = request.match_info.route.resource
    if resource is None:
        return "-"
    uuid = request.match_info.get("uuid")
    return resource.canonical if uuid is None else resource.canonical.replace("{uuid}", uuid)


def _is_routine(request: web.Request, response: web.StreamResponse) -> bool:
    """A probe, or a successful read: there are thousands a second, and each line costs 0.1 ms."""
    return request.path in _PROBES or (request.method == "GET" and response.status < 400)
