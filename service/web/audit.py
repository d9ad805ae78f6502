"""Enters every change and every refusal in the audit."""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from service.domain.audit import DONE, Audit
from service.web.caller import CALLER, SESSION, USER, WOKE, operation
from service.web.problems import PROBLEM


def middleware(audit: Audit) -> Middleware:
    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        changes = request.method not in ("GET", "HEAD")
        uuid = request.match_info.get("uuid")
        user = audit.user_of(uuid) if changes else None  # now: nobody knows it once the session is deleted
        response = await handler(request)
        asked = operation(request)
        if asked is None:
            return response  # there is nothing behind it but "not found"
        audit.note(
            request.get(CALLER),
            asked,
            uuid=uuid or request.get(SESSION),
            result=response.get(PROBLEM, DONE),
            status=response.status,
            changes=changes,
            user_id=request.get(USER) or user,
            woke=request.get(WOKE, False),
        )
        return response

    return record
