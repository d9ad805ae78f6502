"""Why a session's pod was taken away: one rule, for metrics, log and history alike."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.session import IdleTimes, QueueState, Record, ScaledBy, Workload
from service.domain.wake import WATCH_LAG

_ROUNDING = timedelta(seconds=1)
"""KEDA's times are in whole seconds."""


class SleepReason(StrEnum):
    """The causes of a sleep."""

    IDLE = "idle"
    """KEDA, after the cooldown: nobody used the session any more."""
    ASKED = "asked"
    """A call of `POST /session/{uuid}/sleep`."""
    OPERATOR = "operator"
    """Somebody else than the service and KEDA's idle rule: `kubectl scale`, or a pause that scales to 0."""
    LATE_ZERO = "late-zero"
    """KEDA decided before a push, and wrote its 0 after it; the service scales up again."""
    FALSE = "false"
    """KEDA, although last activity + cooldown had not passed: this must not happen."""


@dataclass(frozen=True, slots=True)
class SleepCause:
    why: SleepReason
    idle_since: datetime | None = None
    """The last sign of life before the sleep; None when none is known."""
    request: str | None = None
    """For `asked`: the id of the request that asked."""


def sleep_cause(
    record: Record,
    after: Workload,
    *,
    at: datetime,
    awake_since: datetime | None = None,
    idle_times: IdleTimes | None = None,
) -> SleepCause:
    """Why the pod was taken away at `at`, from what Redis and the cluster say right after it.

    `awake_since` is when the pod was last wanted, None when nobody knows; `idle_times` is for workloads without any.
    """
    idle_times = after.idle_times or idle_times or IdleTimes()
    used = _last_use(record, after, at, idle_times)
    if _asked(record, after, awake_since):
        return SleepCause(SleepReason.ASKED, used, record.sleep_request.request if record.sleep_request else None)
    if after.scaled_by is ScaledBy.OTHER:
        return SleepCause(SleepReason.OPERATOR, used)
    if after.last_active is not None and at < after.last_active + idle_times.cooldown - _ROUNDING:
        # KEDA waits for its cooldown from its last sight of the queue: what is earlier was somebody's will. The API
        # server names nobody who has scaled to 0 by the scale subresource, so `scaled_by` alone cannot tell.
        return SleepCause(SleepReason.OPERATOR, used)
    if wanted(record.queue, at):
        return SleepCause(SleepReason.LATE_ZERO, used)
    last = record.last_activity
    early = last is not None and last <= at < last + idle_times.cooldown
    return SleepCause(SleepReason.FALSE if early else SleepReason.IDLE, used)


def wanted(queue: QueueState, at: datetime) -> bool:
    """Whether the queue was not empty then: a push since does not count."""
    return queue.is_wanted and (queue.pending_since is None or queue.pending_since <= at)


def _asked(record: Record, after: Workload, awake_since: datetime | None) -> bool:
    """Whether a call asked for this sleep. Whoever wrote the 0: a queue that was emptied lets KEDA write it as well."""
    if after.scaled_by is ScaledBy.SERVICE:
        return True
    if record.sleep_request is None:
        return False
    asked, last = record.sleep_request.at, record.last_activity
    return (last is None or last <= asked) and (awake_since is None or awake_since <= asked + WATCH_LAG)


def _last_use(record: Record, after: Workload, at: datetime, idle_times: IdleTimes) -> datetime | None:
    """The last activity, or KEDA's last sight of the queue when somebody else filled it since."""
    noted = record.last_activity if record.last_activity is None or record.last_activity <= at else None
    seen = after.last_active if after.last_active is None or after.last_active <= at else None
    if noted is None or seen is None:
        return noted or seen
    return seen if seen > noted + idle_times.lease else noted
