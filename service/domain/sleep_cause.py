"""Why a session's pod ended: one rule for metrics, log and history."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.idle_times import IdleTimes
from service.domain.queue_state import QueueState
from service.domain.record import Record
from service.domain.wake_cause import WATCH_LAG
from service.domain.workload import ScaledBy, Workload

_ROUNDING = timedelta(seconds=1)
"""KEDA's times are in whole seconds."""
_WORKED_RECENTLY = timedelta(seconds=60)
_ECHO = timedelta(seconds=10)
"""For this long after an activity, output may be no more than its answer."""


class SleepReason(StrEnum):
    """Why a session fell asleep."""

    IDLE = "idle"
    """KEDA scaled down after the cooldown: nobody used the session."""
    ASKED = "asked"
    """A call of `POST /session/{uuid}/sleep`."""
    OPERATOR = "operator"
    """An operator scaled down: `kubectl scale`, or a pause that scales to 0."""
    LATE_ZERO = "late-zero"
    """KEDA decided before a push and wrote its 0 after it; the service scales up again."""
    FALSE = "false"
    """KEDA scaled down before last activity + cooldown, which must not happen."""


@dataclass(frozen=True, slots=True)
class SleepCause:
    why: SleepReason
    idle_since: datetime | None = None
    """The last use before the sleep; None when none is known."""
    request: str | None = None
    """For `asked`: the id of the request that asked."""
    by: str | None = None
    """For `asked`: the name of the caller; None if it is not known."""
    interrupted: bool = False
    """A program was still working."""


def sleep_cause(
    record: Record,
    after: Workload,
    *,
    at: datetime,
    awake_since: datetime | None = None,
    idle_times: IdleTimes | None = None,
) -> SleepCause:
    """Why the pod ended at `at`, from the record and the workload right after it.

    `awake_since` is when the pod was first wanted, None when unknown. `idle_times` apply to workloads without any.
    """
    cause = _cause(record, after, at, awake_since, after.idle_times or idle_times or IdleTimes())
    return replace(cause, interrupted=was_interrupted(record, at))


def _cause(
    record: Record, after: Workload, at: datetime, awake_since: datetime | None, idle_times: IdleTimes
) -> SleepCause:
    used = _last_use(record, after, at, idle_times)
    if _asked(record, after, awake_since):
        asked = record.sleep_request
        return SleepCause(SleepReason.ASKED, used, asked.request if asked else None, asked.by if asked else None)
    if after.scaled_by is ScaledBy.OTHER:
        return SleepCause(SleepReason.OPERATOR, used)
    if after.last_active is not None and at < after.last_active + idle_times.cooldown - _ROUNDING:
        # KEDA waits for the cooldown after it last saw a filled queue, so an earlier end was an operator's. The API
        # server does not record who used the scale subresource, so `scaled_by` alone is not enough.
        return SleepCause(SleepReason.OPERATOR, used)
    if was_wanted(record.queue, at):
        return SleepCause(SleepReason.LATE_ZERO, used)
    last = record.last_activity
    early = last is not None and last <= at < last + idle_times.cooldown
    return SleepCause(SleepReason.FALSE if early else SleepReason.IDLE, used)


def was_interrupted(record: Record, at: datetime) -> bool:
    """Whether a program was still working when the pod ended at `at`. What an activity printed does not count."""
    output, last = record.last_output, record.last_activity
    if output is None or at - output > _WORKED_RECENTLY:
        return False
    return last is None or output - last > _ECHO


def was_wanted(queue: QueueState, at: datetime) -> bool:
    """Whether the queue was not empty at that time; later pushes do not count."""
    return queue.is_wanted and (queue.pending_since is None or queue.pending_since <= at)


def _asked(record: Record, after: Workload, awake_since: datetime | None) -> bool:
    """Whether a call asked for this sleep. It empties the queue, so either the service or KEDA may have scaled down."""
    if after.scaled_by is ScaledBy.SERVICE:
        return True
    if record.sleep_request is None:
        return False
    asked, last = record.sleep_request.at, record.last_activity
    return (last is None or last <= asked) and (awake_since is None or awake_since <= asked + WATCH_LAG)


def _last_use(record: Record, after: Workload, at: datetime, idle_times: IdleTimes) -> datetime | None:
    """The last activity, or the time when KEDA last saw a queue that somebody else filled later.

    An extension, a late pod and a working program keep the queue filled without being a use.
    """
    noted = record.last_activity if record.last_activity is None or record.last_activity <= at else None
    seen = after.last_active if after.last_active is None or after.last_active <= at else None
    if noted is None or seen is None:
        return noted or seen
    ours = [noted + idle_times.lease]
    if record.kept_until is not None:
        ours.append(record.kept_until - idle_times.cooldown + idle_times.poll)  # when an extension's lease expires
    if record.renewed_until is not None:
        ours.append(record.renewed_until)
    if record.last_output is not None and idle_times.background:
        ours.append(min(record.last_output + idle_times.lease, noted + idle_times.background))
    return seen if seen > max(ours) + _ROUNDING else noted
