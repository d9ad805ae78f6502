"""Where a request keeps who has sent it."""

from aiohttp import web

from service.domain.permissions import Caller

CALLER = web.RequestKey("caller", Caller)
