"""Where a request keeps who has sent it, and what it is about."""

from aiohttp import web

from service.domain.permissions import Caller

CALLER = web.RequestKey("caller", Caller)
SESSION = web.RequestKey("session", str)
"""The id of the session that a request without one in its path is about."""
