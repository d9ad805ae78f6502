"""The values of the field: a session's record, its release, its workload, and what they say together."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import ClassVar, NamedTuple

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


class ScaledBy(StrEnum):
    """Who has set the wanted replicas last."""

    SERVICE = "service"
    KEDA = "keda"
    OTHER = "other"
    """An operator, or a program of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTimes:
    """The times that rule falling asleep; the release is installed with the same."""

    lease: timedelta = timedelta(seconds=15)
    """How long one wake keeps the queue non-empty."""
    cooldown: timedelta = timedelta(seconds=120)
    """How long KEDA waits after it last saw the queue non-empty."""
    poll: timedelta = timedelta(seconds=5)
    """How often KEDA looks."""

    MARGIN: ClassVar[timedelta] = timedelta(seconds=2)
    """What KEDA may need to reconcile, beyond its polls."""

    @property
    def shortest_lease(self) -> timedelta:
        """A shorter lease can be missed by KEDA, or run out before it has looked at a session that was unparked."""
        return 2 * self.poll + self.MARGIN

    def earliest_sleep(self, lease_until: datetime) -> datetime:
        """The earliest moment of falling asleep when the queue runs out then.

        KEDA's last sight of the queue is at most one poll before it ran out. It acts within one poll after its
        cooldown, so the pod is gone by `earliest_sleep` + 2 polls + MARGIN.
        """
        return lease_until - self.poll + self.cooldown


@dataclass(frozen=True, slots=True)
class Pod:
    """The session's pod, as far as it has come."""

    uid: str
    address: str | None = None
    port: int | None = None
    """Where the workspace listens."""
    scheduled: bool = False
    started: bool = False
    """The workspace's container runs."""
    ready: bool = False


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
    parked: bool = False
    """The service has told KEDA to leave the session alone: no poll, no connection, no HPA."""
    last_active: datetime | None = None
    """When KEDA last saw the queue non-empty, in whole seconds (rounded down)."""
    idle_times: IdleTimes | None = None
    """From the ScaledObject; None when there is none."""
    deleting: bool = False
    """The Deployment or the ScaledObject is being deleted."""
    volume: bool = False
    created_at: datetime | None = None
    replicas: int = 0
    scaled_by: ScaledBy | None = None
    """None when the API server does not tell: it knows of changes of the Deployment itself, and rarely of a scale."""
    ready: int = 0
    pod: Pod | None = None
    """The newest pod that is not on its way out."""
    chart: str | None = None
    """Chart and version, for example ``user-pod-0.1.0``; None while there is only a reservation."""
    read_error: str | None = None
    """Why an object of the session cannot be read, and what repairs it. Nothing may follow from what is unknown."""
    paused: str | None = None
    """An operator has KEDA leave the number of pods as it is; why, and what ends that. The service leaves it too."""
    failure: str | None = None
    """Why the pod does not get ready, in Kubernetes' own words."""
    final: bool = False
    """Whether `failure` is for good; otherwise Kubernetes keeps trying, and may succeed."""
    blocker: str | None = None
    """What holds the pod up and may pass by waiting: no node has room, or KEDA cannot work with the ScaledObject."""
    warning: str | None = None
    """What somebody should look after, and how: above all what has held the pod up for longer than `SCHEDULE_TIMEOUT`.

    Waiting goes on all the same.
    """

    @property
    def exists(self) -> bool:
        """Whether the id is in use in the cluster."""
        return self.release is not None or self.deployed or self.volume

    @property
    def released(self) -> bool:
        """Neither a release nor a Deployment is left, or helm is removing the last of it; a kept volume may be."""
        gone = self.release is None or self.release.state is ReleaseState.UNINSTALLING
        return gone and not self.deployed

    @property
    def polled(self) -> bool:
        """Whether KEDA looks at the session's queue."""
        return not self.parked and self.paused is None

    @property
    def broken_reason(self) -> str | None:
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

    def phase(self, *, is_wanted: bool) -> Phase:
        """The life of the pod, of a session that is not being deleted; `is_wanted`: somebody wants it awake."""
        if self.released:
            return Phase.RELEASED
        if self.broken_reason or self.read_error:
            return Phase.FAILED
        if self.replicas == 0:
            return Phase.WAKING if is_wanted else Phase.ASLEEP
        if self.ready >= self.replicas:
            return Phase.READY
        return Phase.FAILED if self.failure else Phase.WAKING


@dataclass(frozen=True, slots=True)
class QueueState:
    """The session's wish to be awake: its wake queue, and the wake that is not served yet."""

    tokens: int = 0
    lease_until: datetime | None = None
    """When the queue runs out; None when it is empty, or when somebody pushed a token without an expiry."""
    pending_since: datetime | None = None
    """The oldest push of the service that is not known to be served (lifecycle); until it is, the lease is renewed."""

    read_error: str | None = None
    """Why the queue cannot be read, and what repairs it. Nothing may follow from what is unknown then."""

    @property
    def is_wanted(self) -> bool:
        """Whether somebody wants the session awake."""
        return self.tokens > 0 or self.pending_since is not None

    @property
    def endless(self) -> bool:
        """Tokens that would never run out: somebody else's, who gave them no expiry."""
        return self.tokens > 0 and self.lease_until is None


@dataclass(frozen=True, slots=True)
class SleepRequest:
    """A call of sleep: when, and the id of its request."""

    at: datetime
    request: str | None = None


class PushResult(NamedTuple):
    """Outcome of a wake's push."""

    length: int
    """The queue's length."""
    first: bool
    """No other wake was pending: of those that find a sleeper, one is the first, whichever replicas take them."""


@dataclass(frozen=True, slots=True)
class Record:
    """What Redis keeps about one session; what matters of it can be rebuilt from the cluster."""

    uuid: SessionId
    user_id: str
    status: RecordStatus
    created_at: datetime
    written_at: datetime | None = None
    """When helm last finished work on the session: what a watch shows may be older for a moment."""
    last_activity: datetime | None = None
    activity_source: str | None = None
    """What the last activity was: `wake`, or the name that its reporter gave."""
    kept_until: datetime | None = None
    """Its user asked for it to be kept awake until then."""
    sleep_request: SleepRequest | None = None
    """The last call of sleep; what was active since has made it void."""
    released_at: datetime | None = None
    """When its release was first seen to be gone; None while there is one."""
    keep_data: bool = True
    """Only meaningful while deleting: whether the volume outlives the session."""
    queue: QueueState = field(default_factory=QueueState)
    read_error: str | None = None
    """Why the record cannot be read as a whole, and what repairs it."""


@dataclass(frozen=True, slots=True)
class Session:
    """A record beside its workload: everything that a status tells."""

    record: Record
    workload: Workload
    idle_times: IdleTimes = field(default_factory=IdleTimes)
    """Used where the workload has none of its own."""

    @property
    def read_error(self) -> str | None:
        """Why its keys in Redis cannot be read, and what repairs them."""
        return self.record.read_error or self.record.queue.read_error

    @property
    def user_id(self) -> str:
        """From the record, or from the cluster when that cannot be read."""
        return self.record.user_id or self.workload.user_id or "unknown"

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
        if self.read_error:
            return Phase.FAILED
        return self.workload.phase(is_wanted=self.record.queue.is_wanted)

    @property
    def reason(self) -> str | None:
        """Why the phase is `failed`, or what hinders a wake that is under way."""
        if self.phase is Phase.FAILED and self.read_error:
            return self.read_error
        if self.phase in (Phase.FAILED, Phase.WAKING):
            return (
                self.workload.broken_reason
                or self.workload.read_error
                or self.workload.failure
                or self.workload.paused
                or self.workload.blocker
            )
        return None

    @property
    def final(self) -> bool:
        """Whether the phase is `failed` and waiting is of no use: nothing retries what has failed."""
        if self.phase is not Phase.FAILED:
            return False
        return bool(self.read_error or self.workload.broken_reason or self.workload.read_error) or self.workload.final

    @property
    def warning(self) -> str | None:
        """What somebody should look after although nothing has failed for good."""
        if self.phase in (Phase.DELETING, Phase.RELEASED):
            return None
        return self.workload.paused or self.workload.warning

    @property
    def awake(self) -> bool:
        """Whether the pod runs or is being started."""
        return self.phase in (Phase.WAKING, Phase.READY) or (
            self.phase is Phase.FAILED and self.workload.broken_reason is None and self.workload.replicas > 0
        )

    @property
    def sleeps_at(self) -> datetime | None:
        """The earliest moment of falling asleep without further activity; None while asleep, or when unknown."""
        idle_times, queue = self.workload.idle_times or self.idle_times, self.record.queue
        if not self.awake or self.workload.paused:
            return None
        if queue.is_wanted:
            return queue.lease_until and idle_times.earliest_sleep(queue.lease_until)
        if self.workload.last_active is not None:
            return self.workload.last_active + idle_times.cooldown
        return None

    @property
    def kept_awake_by(self) -> str | None:
        """`extension`, the source of the last activity, `queue` (a push of somebody else), `cooldown`; None asleep."""
        if not self.awake:
            return None
        if self.record.kept_until is not None and self.record.kept_until > datetime.now(UTC):
            return "extension"
        if not self.record.queue.is_wanted:
            return "cooldown"
        last, lease = self.record.last_activity, (self.workload.idle_times or self.idle_times).lease
        ours = self.record.queue.pending_since is not None or (last is not None and datetime.now(UTC) < last + lease)
        return self.record.activity_source if ours and self.record.activity_source else "queue"
