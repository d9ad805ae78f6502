"""Where a request keeps who has sent it, and what it asks for."""

from aiohttp import web

from service.domain.permissions import Caller

CALLER = web.RequestKey("caller", Caller)
SESSION = web.RequestKey("session", str)
"""The id of the session that a request without one in its path is about."""
USER = web.RequestKey("user", str)
"""That session's user, or another one's whose record had to be read anyway."""
WOKE = web.RequestKey("woke", bool)
"""Whether the request has woken a sleeping session."""
_ROOT = "/dashboard"
PAGES = "dashboard."
"""Begins the names of the dashboard's routes. After it comes the operation of the API that the page shows or does."""


def is_page(request: web.BaseRequest) -> bool:
    """Whether the request is for a page of the dashboard."""
    return request.path == _ROOT or request.path.startswith(f"{_ROOT}/")


def operation(request: web.Request) -> str | None:
    """The operation of the API, by whatever way; None when there is nothing at the path."""
    name = request.match_info.route.name
    return name.removeprefix(PAGES).partition(".")[0] if name is not None else None
