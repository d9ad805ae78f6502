"""The only declaration of what an application carries."""

from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from service.domain.access import WorkspaceAccess
from service.domain.activity import SessionActivity
from service.domain.audit import Audit
from service.domain.awake_quota import AwakeLimits
from service.domain.capacity import ClusterCapacity
from service.domain.diagnosis.diagnosis import Doctor
from service.domain.health import Health
from service.domain.ports import Progress
from service.domain.profiles import Profiles
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.revocation import Revocation
from service.domain.rollouts import RolloutControl
from service.domain.session_counts import SessionCounter
from service.domain.supervisor import Supervisor
from service.domain.upgrading import ReleaseUpgrades
from service.domain.wake_times import WakeTimes
from service.edge.readiness import Readiness
from service.web.access import Gate
from service.web.stream import EventStreams


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
    upgrades: ReleaseUpgrades
    rollouts: RolloutControl
    activity: SessionActivity
    revocation: Revocation
    queries: SessionQueries
    profiles: Profiles
    progress: Progress
    access: WorkspaceAccess | None
    audit: Audit
    counter: SessionCounter
    wake_times: WakeTimes
    awake_limits: AwakeLimits
    capacity: ClusterCapacity
    users_namespace: str
    exposition: Exposition
    doctor: Doctor
    example_url: str | None
    """URL of a workspace with the id `names.EXAMPLE_ID`; None without a gateway."""


API = web.AppKey("api", ApiParts)
PROBES = web.AppKey("probes", ProbeParts)
EXPOSITION: web.AppKey[Exposition] = web.AppKey("exposition")
STREAMS = web.AppKey("streams", EventStreams)
GATE = web.AppKey("gate", Gate)
"""What every request passes; missing where nobody has to say who they are."""
BODY_SECONDS = web.AppKey("body_seconds", float)
"""Seconds within which a request's body must arrive."""
