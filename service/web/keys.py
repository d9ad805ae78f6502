"""The only declaration of what an application and a request carry."""

import asyncio
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
from service.edge.readiness import Readiness


class StreamLimiter(Protocol):
    """Bounds the streams of events."""

    def place(self, uuid: SessionId, /) -> AbstractContextManager[None]: ...


class Exposition(Protocol):
    """Renders the metrics in the format that the `Accept` header asks for; returns the page and its content type."""

    async def __call__(self, accept: str, /) -> tuple[bytes, str]: ...


@dataclass(frozen=True, kw_only=True)
class ProbeParts:
    """What /health, /livez and /readyz read."""

    health: Health
    supervisor: Supervisor
    readiness: Readiness


@dataclass(frozen=True, kw_only=True)
class ApiParts:
    """What the other operations use. `access` is None without a gateway."""

    provisioner: Provisioner
    activity: SessionActivity
    queries: SessionQueries
    progress: Progress
    access: WorkspaceAccess | None
    exposition: Exposition


PROVISIONER = web.AppKey("provisioner", Provisioner)
ACTIVITY = web.AppKey("activity", SessionActivity)
QUERIES = web.AppKey("queries", SessionQueries)
PROGRESS: web.AppKey[Progress] = web.AppKey("progress")
BODY_SECONDS = web.AppKey("body_seconds", float)
"""Seconds within which a request's body must arrive."""
STREAM_LIMITER: web.AppKey["StreamLimiter"] = web.AppKey("stream_limiter")
STREAMS: web.AppKey[set[asyncio.Event]] = web.AppKey("streams")
"""Wakes each open stream."""
ACCESS: web.AppKey[WorkspaceAccess | None] = web.AppKey("access")
"""None without a gateway."""
HEALTH = web.AppKey("health", Health)
READINESS = web.AppKey("readiness", Readiness)
SUPERVISOR = web.AppKey("supervisor", Supervisor)
EXPOSITION: web.AppKey[Exposition] = web.AppKey("exposition")


def set_probe_parts(app: web.Application, parts: ProbeParts) -> None:
    app[HEALTH] = parts.health
    app[SUPERVISOR] = parts.supervisor
    app[READINESS] = parts.readiness


def set_api_parts(app: web.Application, parts: ApiParts) -> None:
    app[PROVISIONER] = parts.provisioner
    app[ACTIVITY] = parts.activity
    app[QUERIES] = parts.queries
    app[PROGRESS] = parts.progress
    app[ACCESS] = parts.access
    app[EXPOSITION] = parts.exposition
