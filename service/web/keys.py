"""The only declaration of what hangs on the application and on a request."""

from dataclasses import dataclass

from aiohttp import web

from service.domain.health import Health
from service.domain.sessions import Sessions


@dataclass
class Readiness:
    """Whether this process can serve: its caches are filled and it is not on its way out."""

    ready: bool = False


SESSIONS = web.AppKey("sessions", Sessions)
HEALTH = web.AppKey("health", Health)
READINESS = web.AppKey("readiness", Readiness)
