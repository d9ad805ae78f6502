"""Enters every change and every refusal in the audit."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service.domain.audit import DONE, Audit
from service.web.caller import CALLER, SESSION
from service.web.problems import PROBLEM

_OTHER = "other"
"""Names requests for what is no operation."""


def middleware(audit: Audit) -> Middleware:
    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        audit.note(
            request.get(CALLER),
            request.match_info.route.name or _OTHER,
            uuid=request.match_info.get("uuid") or request.get(SESSION),
            result=response.get(PROBLEM, DONE),
            status=response.status,
            changes=request.method not in ("GET", "HEAD"),
        )
        return response

    return record
