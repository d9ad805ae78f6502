"""The only declaration of what hangs on the application and on a request."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from service.domain.access import WorkspaceAccess
from service.domain.activity import SessionActivity
from service.domain.health import Health
from service.domain.names import SessionId
from service.domain.ports import Progress
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.supervisor import Supervisor


@dataclass
class Readiness:
    """Whether this process can serve: its caches are filled and it is not on its way out."""

    filled: Callable[[], bool] = lambda: True
    draining: bool = False
    """Load balancers shall send nothing more here; what comes is served."""
    closing: bool = False
    """Event streams end, to be resumed at another replica."""

    @property
    def ready(self) -> bool:
        return self.filled() and not self.draining


class StreamLimiter(Protocol):
    """Bounds the streams of events."""

    def place(self, uuid: SessionId, /) -> AbstractContextManager[None]: ...


class Exposition(Protocol):
    """Makes the page of metrics in the format that the `Accept` header asks for; the page, and its content type."""

    async def __call__(self, accept: str, /) -> tuple[bytes, str]: ...


PROVISIONER = web.AppKey("provisioner", Provisioner)
ACTIVITY = web.AppKey("activity", SessionActivity)
QUERIES = web.AppKey("queries", SessionQueries)
PROGRESS: web.AppKey[Progress] = web.AppKey("progress")
BODY_SECONDS = web.AppKey("body_seconds", float)
"""Seconds until a request's body must have come."""
STREAM_LIMITER: web.AppKey["StreamLimiter"] = web.AppKey("stream_limiter")
STREAMS: web.AppKey[set[asyncio.Event]] = web.AppKey("streams")
"""The event of every open stream that makes it look for changes."""
ACCESS: web.AppKey[WorkspaceAccess | None] = web.AppKey("entrance")
"""None where no gateway is."""
HEALTH = web.AppKey("health", Health)
READINESS = web.AppKey("readiness", Readiness)
SUPERVISOR = web.AppKey("supervisor", Supervisor)
EXPOSITION: web.AppKey[Exposition] = web.AppKey("exposition")
