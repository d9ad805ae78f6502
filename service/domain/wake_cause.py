"""Who woke a session when no caller of the service did."""

from datetime import datetime, timedelta

from service.domain.idle_times import IdleTimes
from service.domain.record import Record
from service.domain.workload import ScaledBy, Workload

API, VISIT, QUEUE, OPERATOR = "api", "visit", "queue", "operator"
"""Sources of wakes: the API, a browser at the gateway, a push by another program, a scale by hand."""

WATCH_LAG = timedelta(seconds=2)
"""How late a watch may report that a pod was requested: a sleep requested within that time ended this pod."""


def wake_initiator(record: Record, risen: Workload, *, at: datetime, idle_times: IdleTimes) -> str | None:
    """Who made the pod wanted at `at`; None for a push of the service, which is in the journal already.

    A push of the service sets the last activity, and `pending_since` unless an earlier push is pending. Renewing the
    lease of a foreign push sets `pending_since` only.
    """
    if risen.scaled_by is ScaledBy.OTHER:
        return OPERATOR
    used, pending = record.last_activity, record.queue.pending_since
    recent = used is not None and at < used + (risen.idle_times or idle_times).lease
    if not record.queue.is_wanted:
        # No queue asked for this pod, unless a sleep emptied the queue after our push.
        asked = record.sleep_request
        emptied = asked is not None and used is not None and used <= asked.at and at <= asked.at + WATCH_LAG
        return None if recent and emptied else OPERATOR
    if used is None:
        return QUEUE
    ours = pending <= used if pending is not None else recent
    return None if ours else QUEUE
