"""A session: its record and its workload, and the status that follows from them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from service.domain.expiry import NEVER, Expiry, ExpiryRule
from service.domain.idle_times import IdleTimes
from service.domain.phase import Phase
from service.domain.record import Record, RecordStatus
from service.domain.workload import Workload

_CLOCKS = timedelta(seconds=2)
"""How far the clocks of Redis and the service may be apart."""


@dataclass(frozen=True, slots=True)
class Session:
    """A record and its workload: everything that a status shows."""

    record: Record
    workload: Workload
    idle_times: IdleTimes = field(default_factory=IdleTimes)
    """The idle times of a workload that has none of its own."""
    expiry_rule: ExpiryRule = NEVER

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
    def awake_since(self) -> datetime | None:
        """When the pod of an awake session was created. A replaced pod begins anew."""
        return self.workload.pod.created_at if self.awake and self.workload.pod is not None else None

    @property
    def last_awake(self) -> datetime:
        """The latest time at which it is known to have been awake or wanted; its creation at least."""
        record, workload = self.record, self.workload
        known = (record.last_activity, record.last_output, record.kept_until, workload.last_active, workload.created_at)
        return max(each for each in (record.created_at, *known) if each)

    @property
    def expiry(self) -> Expiry | None:
        """When the service deletes it if nothing changes. None: never, or nobody can say.

        Nobody can say that of a session that is broken, unreadable or paused: its user may have been kept from using
        it, and an operator is about to look at it.
        """
        if not self.expiry_rule:
            return None  # as by default: every status asks
        workload = self.workload
        doubtful = workload.broken_reason or self.read_error or workload.read_error or workload.paused
        if doubtful or workload.created_at is None or self.status is not RecordStatus.CREATED:
            return None
        asleep = self.phase is Phase.ASLEEP and workload.pod is None
        return self.expiry_rule.expiry(
            datetime.now(UTC),
            # A record may be wrong, or be that of an earlier session with this id. The cluster knows better.
            created_at=max(self.record.created_at, workload.created_at),
            last_awake=self.last_awake if asleep else None,
            spared_until=self.record.spared_until,
            warning=self.record.deletion_warning,
        )

    @property
    def spared_until(self) -> datetime | None:
        """Until when somebody keeps it from deletion; None without."""
        until = self.record.spared_until
        return until if until is not None and until > datetime.now(UTC) else None

    @property
    def deletion_warned(self) -> bool:
        """Whether its user is warned of a deletion by the service."""
        expiry = self.expiry
        return expiry is not None and datetime.now(UTC) >= expiry.warn_at

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
        return (self._is_filled_by_activity(idle_times) and self.record.activity_source) or "queue"

    def _is_filled_by_activity(self, idle_times: IdleTimes) -> bool:
        """Whether the queue outlasts the activity's lease only because the service has renewed it for a late pod."""
        last, renewed, queue = self.record.last_activity, self.record.renewed_until, self.record.queue
        if queue.pending_since is not None:
            return last is not None and last >= queue.pending_since - idle_times.lease
        return renewed is not None and queue.lease_until is not None and queue.lease_until <= renewed + _CLOCKS
