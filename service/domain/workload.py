"""What the cluster has of a session: its objects and its pod."""

import sys
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.placement import ANYWHERE, Placement
from service.domain.release import Release, ReleaseState


class ScaledBy(StrEnum):
    """Who last set the Deployment's replicas."""

    SERVICE = "service"
    KEDA = "keda"
    OTHER = "other"
    """An operator, or an operator's program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What a session is created with, and keeps. A kept volume knows no idle times."""

    profile: str | None = None
    group: str | None = None
    """Whose quota of awake sessions it counts for."""
    idle_times: IdleTimes | None = None
    """For whoever installs its ScaledObject, which has those that are in force."""


UNASSIGNED = Assignment()


@dataclass(frozen=True, slots=True)
class Requests:
    """What a pod requests of its node."""

    cpu: float
    """CPUs."""
    memory: float
    """GiB."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The session's pod, and how far it has started."""

    uid: str
    address: str | None = None
    port: int | None = None
    """The port that the workspace listens on."""
    scheduled: bool = False
    node: str | None = None
    started: bool = False
    """The workspace container runs."""
    ready: bool = False
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything the cluster knows about one session at one time.

    Any part may be missing: there may be a release without objects, objects without a release, or a volume alone.
    """

    uuid: SessionId
    user_id: str | None = None
    """From the objects' annotation; None when there is none (a chart installed by hand)."""
    assignment: Assignment = UNASSIGNED
    """From the Deployment's labels; without a Deployment, from those of a kept volume."""
    release: Release | None = None
    installed_revision: int | None = None
    """Number of the newest revision that helm has installed completely; None if it keeps none."""
    deployed: bool = False
    """The Deployment exists."""
    has_scaler: bool = False
    """The ScaledObject exists."""
    parked: bool = False
    """The service makes KEDA ignore the session: no poll, no connection, no HPA."""
    last_active: datetime | None = None
    """When KEDA last saw the queue non-empty, in whole seconds (rounded down)."""
    idle_times: IdleTimes | None = None
    """From the ScaledObject; None when there is none."""
    deleting: bool = False
    """The Deployment or the ScaledObject is being deleted."""
    volume: bool = False
    created_at: datetime | None = None
    revoked_at: datetime | None = None
    """When somebody last revoked all sign-ins to the workspace."""
    sign_ins_unknown: bool = False
    """The Deployment cannot be read, so nobody knows which sign-ins were revoked. None is accepted."""
    replicas: int = 0
    scaled_by: ScaledBy | None = None
    """None when unknown. The API server records changes of the Deployment itself, and rarely those of its scale."""
    ready: int = 0
    requests: Requests | None = None
    """Of its pod, also while there is none; None when unknown."""
    placement: Placement = ANYWHERE
    """Which nodes its pod may run on."""
    pod: Pod | None = None
    """The newest pod that is not terminating."""
    chart: str | None = None
    """Chart and version, for example ``user-pod-0.1.0``; None while there is only a reservation."""
    revision: str | None = None
    """Names the chart and the chart values of the release; None for releases of services that set none."""
    read_error: str | None = None
    """Why an object of the session cannot be read, and what repairs it. Draw no conclusion from unknown values."""
    paused: str | None = None
    """Why an operator's pause stops the session from being scaled, by KEDA or the service, and what ends the pause."""
    failure: str | None = None
    """Why the pod does not get ready, in Kubernetes' own words."""
    final: bool = False
    """Whether `failure` is final. Otherwise Kubernetes retries and may succeed."""
    blocker: str | None = None
    """A temporary blocker: no node has room for the pod, or KEDA cannot work with the ScaledObject."""
    warning: str | None = None
    """What somebody should fix, and how; above all, what has delayed the pod for longer than `SCHEDULE_TIMEOUT`.

    The wake goes on nevertheless.
    """

    @property
    def exists(self) -> bool:
        """Whether the cluster has anything of the session, so that its id is in use."""
        return self.release is not None or self.deployed or self.volume

    @property
    def released(self) -> bool:
        """Neither a release nor a Deployment is left, or helm is removing the last of it. A kept volume may exist."""
        gone = self.release is None or self.release.state is ReleaseState.UNINSTALLING
        return gone and not self.deployed

    @property
    def polled(self) -> bool:
        """Whether KEDA polls the session's queue."""
        return not self.parked and self.paused is None

    @property
    def broken_reason(self) -> str | None:
        """Why the session's objects are inconsistent: no wake can succeed until a create repairs them. Else None."""
        if self.release is None:
            return "the release is not installed; create the session again to finish it"
        if self.release.unfinished:
            return f"the release is {self.release.state}; create the session again to repair it"
        if not self.deployed:
            return "the Deployment is missing; create the session again to repair it"
        if not self.has_scaler:
            return "the ScaledObject is missing; create the session again to repair it"
        return None

    @property
    def earliest_sign_in(self) -> int:
        """Sign-ins from before this time (seconds since 1970) are refused.

        They have been revoked, or belong to an earlier session with this id: a volume that was kept brings an id back.
        """
        if self.sign_ins_unknown:
            return sys.maxsize
        created = int(self.created_at.timestamp()) if self.created_at else 0
        # A sign-in has whole seconds, so one within the same second may have been before.
        return max(created, int(self.revoked_at.timestamp()) + 1) if self.revoked_at else created

    def phase(self, *, is_wanted: bool) -> Phase:
        """The phase of a session that is not being deleted. `is_wanted`: its queue or pending wake wants it awake."""
        if self.released:
            return Phase.RELEASED
        if self.broken_reason or self.read_error:
            return Phase.FAILED
        if self.replicas == 0:
            return Phase.WAKING if is_wanted else Phase.ASLEEP
        if self.ready >= self.replicas:
            return Phase.READY
        return Phase.FAILED if self.failure else Phase.WAKING
