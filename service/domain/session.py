"""The domain's values: a session's record, release and workload, and the status that follows from them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import ClassVar, NamedTuple

from service.domain.names import SessionId


class RecordStatus(StrEnum):
    """State of the session's record, `session.status` in answers."""

    CREATED = "created"
    RELEASED = "released"
    """The record exists, but its Helm release does not (`helm uninstall`)."""
    DELETING = "deleting"


class Phase(StrEnum):
    """Life of the session's pod."""

    ASLEEP = "asleep"
    WAKING = "waking"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    RELEASED = "released"
    """There is no release, and so no pod."""


class ReleaseState(StrEnum):
    """Helm's own status of a release's last revision."""

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
        """The release was never installed completely, or is half removed: helm can only uninstall it."""
        return self.state in (ReleaseState.PENDING_INSTALL, ReleaseState.UNINSTALLING) or (
            self.state is ReleaseState.FAILED and self.revision == 1
        )

    @property
    def transient(self) -> bool:
        """Some helm process is working on the release, or died while it was."""
        return self.state in (
            ReleaseState.PENDING_INSTALL,
            ReleaseState.PENDING_UPGRADE,
            ReleaseState.PENDING_ROLLBACK,
            ReleaseState.UNINSTALLING,
        )


class ScaledBy(StrEnum):
    """Who last set the Deployment's replicas."""

    SERVICE = "service"
    KEDA = "keda"
    OTHER = "other"
    """An operator, or an operator's program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdleTimes:
    """The times that decide when a session falls asleep; its release is installed with them."""

    lease: timedelta = timedelta(seconds=15)
    """How long one wake keeps the queue non-empty."""
    cooldown: timedelta = timedelta(seconds=120)
    """How long KEDA waits after it last saw the queue non-empty."""
    poll: timedelta = timedelta(seconds=5)
    """How often KEDA reads the queue."""
    background: timedelta = timedelta(0)
    """How long after the last activity a working program may keep the pod awake. 0: it does not."""

    MARGIN: ClassVar[timedelta] = timedelta(seconds=2)
    """How long KEDA may take to reconcile, beyond its poll."""

    @property
    def shortest_lease(self) -> timedelta:
        """KEDA could miss a shorter lease, or first poll an unparked session after the lease has expired."""
        return 2 * self.poll + self.MARGIN

    def earliest_sleep(self, lease_until: datetime) -> datetime:
        """The earliest time to fall asleep when the lease expires at `lease_until`.

        KEDA last sees the queue at most one poll before it expires. It acts within one poll after its cooldown, so the
        pod is gone by `earliest_sleep` + 2 polls + MARGIN.
        """
        return lease_until - self.poll + self.cooldown


@dataclass(frozen=True, slots=True)
class Pod:
    """The session's pod, and how far it has started."""

    uid: str
    address: str | None = None
    port: int | None = None
    """The port that the workspace listens on."""
    scheduled: bool = False
    started: bool = False
    """The workspace container runs."""
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything the cluster knows about one session at one time.

    Any part may be missing: there may be a release without objects, objects without a release, or a volume alone.
    """

    uuid: SessionId
    user_id: str | None = None
    """From the objects' annotation; None when there is none (a chart installed by hand)."""
    release: Release | None = None
    deployed: bool = False
    """The Deployment exists."""
    scaled: bool = False
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
    replicas: int = 0
    scaled_by: ScaledBy | None = None
    """None when unknown. The API server records changes of the Deployment itself, and rarely those of its scale."""
    ready: int = 0
    pod: Pod | None = None
    """The newest pod that is not terminating."""
    chart: str | None = None
    """Chart and version, for example ``user-pod-0.1.0``; None while there is only a reservation."""
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
        if not self.scaled:
            return "the ScaledObject is missing; create the session again to repair it"
        return None

    @property
    def earliest_sign_in(self) -> int:
        """Sign-ins from before this time (seconds since 1970) are refused.

        They have been revoked, or belong to an earlier session with this id: a volume that was kept brings an id back.
        """
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


@dataclass(frozen=True, slots=True)
class QueueState:
    """Whether and until when the session is wanted awake: its wake queue and its pending wake."""

    tokens: int = 0
    lease_until: datetime | None = None
    """When the queue expires; None when it is empty, or when somebody pushed a token without an expiry."""
    pending_since: datetime | None = None
    """The oldest push of the pending wake. The service renews the lease while there is one."""

    read_error: str | None = None
    """Why the queue cannot be read, and what repairs it. Draw no conclusion from the other fields then."""

    @property
    def is_wanted(self) -> bool:
        """Whether the session is wanted awake."""
        return self.tokens > 0 or self.pending_since is not None


@dataclass(frozen=True, slots=True)
class SleepRequest:
    """A call that asked for sleep: its time and request id."""

    at: datetime
    request: str | None = None


class PushResult(NamedTuple):
    """The result of a wake's push."""

    length: int
    """The queue's length."""
    first: bool
    """No other wake was pending. Of concurrent wakes, on any replicas, exactly one is the first."""


@dataclass(frozen=True, slots=True)
class Record:
    """What Redis stores about one session. The essential parts can be rebuilt from the cluster."""

    uuid: SessionId
    user_id: str
    status: RecordStatus
    created_at: datetime
    written_at: datetime | None = None
    """When helm last finished work on the session. The workload cache may be older for a moment."""
    last_activity: datetime | None = None
    activity_source: str | None = None
    """The last activity's source: `wake`, or the name that its reporter gave."""
    last_output: datetime | None = None
    """When the gateway last saw a program in the pod work: terminal output, or a download."""
    kept_until: datetime | None = None
    """The end of the extension that the user asked for."""
    sleep_request: SleepRequest | None = None
    """The last request for sleep; later activity makes it void."""
    released_at: datetime | None = None
    """When the release was first found missing; None while there is one."""
    keep_data: bool = True
    """While deleting: whether the volume outlives the session."""
    queue: QueueState = field(default_factory=QueueState)
    read_error: str | None = None
    """Why the record cannot be read, and what repairs it."""

    def keeps_working(self, now: datetime, idle_times: IdleTimes) -> bool:
        """Whether a program that works in the pod counts, and has filled the queue."""
        if self.last_output is None or self.last_activity is None:
            return False
        return now < min(self.last_output + idle_times.lease, self.last_activity + idle_times.background)


@dataclass(frozen=True, slots=True)
class Session:
    """A record and its workload: everything that a status shows."""

    record: Record
    workload: Workload
    idle_times: IdleTimes = field(default_factory=IdleTimes)
    """The idle times of a workload that has none of its own."""

    @property
    def read_error(self) -> str | None:
        """Why the session's keys in Redis cannot be read, and what repairs them."""
        return self.record.read_error or self.record.queue.read_error

    @property
    def user_id(self) -> str:
        """From the record, or from the cluster when the record is unreadable."""
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
        """Why the phase is `failed`, or what blocks a wake that is in progress."""
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
        """Whether the phase is `failed` permanently: nothing retries, so waiting does not help."""
        if self.phase is not Phase.FAILED:
            return False
        return bool(self.read_error or self.workload.broken_reason or self.workload.read_error) or self.workload.final

    @property
    def warning(self) -> str | None:
        """What an operator should fix although nothing has failed permanently."""
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
        """The earliest time to fall asleep without further activity; None while asleep, or when unknown."""
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
        """`extension`, the last activity's source, `background`, `queue` (another program's push) or `cooldown`.

        None while asleep.
        """
        if not self.awake:
            return None
        if self.record.kept_until is not None and self.record.kept_until > datetime.now(UTC):
            return "extension"
        if not self.record.queue.is_wanted:
            return "cooldown"
        now, last, idle_times = (
            datetime.now(UTC),
            self.record.last_activity,
            self.workload.idle_times or self.idle_times,
        )
        if last is not None and now < last + idle_times.lease:
            return self.record.activity_source or "queue"
        if self.record.keeps_working(now, idle_times):
            return "background"
        return (self.record.queue.pending_since and self.record.activity_source) or "queue"
