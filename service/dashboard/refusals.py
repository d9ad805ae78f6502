"""What a refusal says on a page: what happened, and what to do next."""

import json

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from service.dashboard import paths
from service.dashboard.pages import DashboardPages
from service.dashboard.visitors import Visitors
from service.domain.request_context import current_request_id
from service.web.caller import is_page
from service.web.problems import PROBLEM

_TITLES = {
    "unauthorized": "You are not signed in",
    "forbidden": "You may not do that",
    "cross-site": "This form was refused",
    "not-found": "Nothing is here",
    "session-not-found": "No such session",
    "too-many-requests": "That was too often",
    "signing-keys-unavailable": "Nobody can sign in right now",
}
_NEXT = {
    "unauthorized": "Sign in, and you come back to this page.",
    "forbidden": "Ask an operator for a key, or a group, that may. Your own role is at the top of the page.",
    "cross-site": "Open the page again from the dashboard, and try once more.",
    "session-not-found": "Check the id. The session may have been deleted.",
    "session-busy": "Somebody else works on the session. Try again in a moment.",
    "upgrade-running": "Open the page of the upgrade. Stop that one first, or wait until it is done.",
    "no-upgrade": "Open the page of the upgrade: it shows how the last one has ended.",
    "session-asleep": "Wake it first.",
    "session-released": (
        "`user-pods create` with its user's id, or `POST /session/create`, installs it again, with its volume if that"
        " was kept."
    ),
    "session-broken": "`user-pods create` with its user's id, or `POST /session/create`, repairs it.",
    "session-unreadable": "`user-pods create` with its user's id, or `POST /session/create`, repairs it.",
    "session-paused": "Only an operator can end the pause.",
    "session-deleting": "Wait until it is deleted.",
    "not-found": "Check the address, or begin at the start.",
    "gateway-off": "Set GATEWAY_DOMAIN to serve workspaces by the service.",
    "awake-limit-reached": "Send another session to sleep, or raise AWAKE_LIMIT.",
}
_KEPT = (hdrs.RETRY_AFTER, hdrs.ALLOW)


async def explain(
    pages: DashboardPages, visitors: Visitors, request: web.Request, handler: Handler
) -> web.StreamResponse:
    """Answer with a page where the API answers with a problem document. Log and audit see the same problem.

    Whoever was revoked loses their cookie: with it, the page that signs people in would lead back here.
    """
    response = await handler(request)
    if response.content_type != "application/problem+json" or not isinstance(response, web.Response):
        return response
    if not is_page(request):
        return response
    slug, told = response[PROBLEM], json.loads(response.text or "{}")
    page = pages.page(
        request,
        "refusal.html",
        status=response.status,
        title=_TITLES.get(slug, "That did not work"),
        detail=_sentence(str(told.get("detail", ""))),
        next=_NEXT.get(slug) or ("Try again in a moment." if hdrs.RETRY_AFTER in response.headers else ""),
        signs_in=paths.sign_in(request.raw_path) if slug == "unauthorized" else None,
        gone=request.match_info.get("uuid") if slug == "session-not-found" else None,
        reference=current_request_id(),
    )
    page[PROBLEM] = slug
    if slug == "unauthorized":
        visitors.forget(request, page)
    for name in _KEPT:
        if name in response.headers:
            page.headers[name] = response.headers[name]
    return page


def _sentence(detail: str) -> str:
    return f"{detail[:1].upper()}{detail[1:].rstrip('.')}." if detail else ""
