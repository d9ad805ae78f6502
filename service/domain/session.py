"""The values of the field: a session's record, its release, its workload, and what they say together."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.names import SessionId


class RecordStatus(StrEnum):
    """State of the session's record, `session.status` in answers."""

    CREATED = "created"
    RELEASED = "released"
    """The record is there, its Helm release is not (`helm uninstall`)."""
    DELETING = "deleting"


class Phase(StrEnum):
    """Life of the session's pod."""

    ASLEEP = "asleep"
    WAKING = "waking"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    RELEASED = "released"
    """There is no pod to speak of, since there is no release."""


class ReleaseState(StrEnum):
    """Helm's own words for a release's last revision."""

    UNKNOWN = "unknown"
    DEPLOYED = "deployed"
    UNINSTALLED = "uninstalled"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    UNINSTALLING = "uninstalling"
    PENDING_INSTALL = "pending-install"
    PENDING_UPGRADE = "pending-upgrade"
    PENDING_ROLLBACK = "pending-rollback"


@dataclass(frozen=True, slots=True)
class Release:
    """The newest revision of a Helm release, read from the labels of its Secret."""

    name: str
    revision: int
    state: ReleaseState
    modified_at: datetime

    @property
    def unfinished(self) -> bool:
        """It was never installed completely, or is half removed: helm can only remove it."""
        return self.state in (ReleaseState.PENDING_INSTALL, ReleaseState.UNINSTALLING) or (
            self.state is ReleaseState.FAILED and self.revision == 1
        )

    @property
    def transient(self) -> bool:
        """Some helm is at work on it, or died at it."""
        return self.state in (
            ReleaseState.PENDING_INSTALL,
            ReleaseState.PENDING_UPGRADE,
            ReleaseState.PENDING_ROLLBACK,
            ReleaseState.UNINSTALLING,
        )


@dataclass(frozen=True, slots=True)
class Workload:
    """All that the cluster says about one session at one moment.

    Any part may be missing: a release without objects, objects without a release (a reservation), a volume alone.
    """

    uuid: SessionId
    user_id: str | None = None
    """From the objects' annotation; None when nobody set one (a chart installed by hand)."""
    release: Release | None = None
    deployed: bool = False
    """The Deployment exists."""
    scaled: bool = False
    """The ScaledObject exists."""
    deleting: bool = False
    """The Deployment or the ScaledObject is being deleted."""
    volume: bool = False
    created_at: datetime | None = None
    replicas: int = 0
    ready: int = 0
    chart: str | None = None
    """Chart and version, for example ``user-pod-0.1.0``; None while there is only a reservation."""
    trouble: str | None = None
    """Why the pod does not get ready, in Kubernetes' or KEDA's own words."""

    @property
    def anything(self) -> bool:
        """Whether the id is in use in the cluster."""
        return self.release is not None or self.deployed or self.volume

    @property
    def released(self) -> bool:
        """Neither a release nor a Deployment is left (a kept volume may be)."""
        return self.release is None and not self.deployed

    @property
    def broken(self) -> str | None:
        """Why no wake can succeed until the release is repaired, which a create does; None when one can."""
        if self.release is None:
            return "the release is not installed; create the session again to finish it"
        if self.release.unfinished:
            return f"the release is {self.release.state}; create the session again to repair it"
        if not self.deployed:
            return "the Deployment is missing; create the session again to repair it"
        if not self.scaled:
            return "the ScaledObject is missing; create the session again to repair it"
        return None


@dataclass(frozen=True, slots=True)
class Record:
    """What Redis keeps about one session; all of it can be rebuilt from the cluster."""

    uuid: SessionId
    user_id: str
    status: RecordStatus
    created_at: datetime
    last_activity: datetime | None = None
    keep_data: bool = True
    """Only meaningful while deleting: whether the volume outlives the session."""
    queue_length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """The times that rule falling asleep; the chart is installed with the same."""

    lease: timedelta = timedelta(seconds=15)
    """How long one wake keeps the queue non-empty."""
    cooldown: timedelta = timedelta(seconds=120)
    """How long KEDA waits after it last saw the queue non-empty."""
    poll: timedelta = timedelta(seconds=5)
    """How often KEDA looks."""

    def sleeps_at(self, last_activity: datetime) -> datetime:
        """The earliest moment to expect the pod asleep; KEDA gets there at most two polls and 2 s later."""
        return last_activity + self.lease + self.cooldown - self.poll


@dataclass(frozen=True, slots=True)
class Session:
    """A record beside its workload: everything that a status tells."""

    record: Record
    workload: Workload
    rhythm: Rhythm = field(default_factory=Rhythm)

    @property
    def status(self) -> RecordStatus:
        if self.record.status is RecordStatus.CREATED and self.workload.released:
            return RecordStatus.RELEASED
        return self.record.status

    @property
    def phase(self) -> Phase:
        if self.status is RecordStatus.DELETING:
            return Phase.DELETING
        if self.status is RecordStatus.RELEASED:
            return Phase.RELEASED
        if self.workload.broken:
            return Phase.FAILED
        if self.workload.replicas == 0:
            return Phase.WAKING if self.record.queue_length else Phase.ASLEEP
        if self.workload.ready >= self.workload.replicas:
            return Phase.READY
        return Phase.FAILED if self.workload.trouble else Phase.WAKING

    @property
    def reason(self) -> str | None:
        """Why the phase is `failed`, or what hinders a wake that is under way."""
        if self.phase in (Phase.FAILED, Phase.WAKING):
            return self.workload.broken or self.workload.trouble
        return None

    @property
    def sleeps_at(self) -> datetime | None:
        if self.record.last_activity is None or self.phase not in (Phase.WAKING, Phase.READY):
            return None
        return self.rhythm.sleeps_at(self.record.last_activity)
