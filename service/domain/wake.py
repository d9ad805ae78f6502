"""Who has woken a session, where no caller of the service has."""

from datetime import datetime, timedelta

from service.domain.session import IdleTimes, Record, ScaledBy, Workload

API, VISIT, QUEUE, OPERATOR = "api", "visit", "queue", "operator"
"""Who asks for wakes: a caller of the API, a person's browser, somebody else's push, somebody who scales by hand."""

WATCH_LAG = timedelta(seconds=2)
"""A watch may show that a pod is wanted so long after it was: a sleep asked for in between ended this life."""


def wake_initiator(record: Record, risen: Workload, *, at: datetime, idle_times: IdleTimes) -> str | None:
    """Who made the pod wanted at `at`; None when that was a push of the service, which has noted it already.

    A push notes its own time as the last activity, and as pending unless an earlier one is; what renews the lease of
    somebody else's push notes the latter alone.
    """
    if risen.scaled_by is ScaledBy.OTHER:
        return OPERATOR
    used, pending = record.last_activity, record.queue.pending_since
    recent = used is not None and at < used + (risen.idle_times or idle_times).lease
    if not record.queue.is_wanted:
        # A pod that no queue has asked for, unless a sleep has emptied the queue of our push since.
        asked = record.sleep_request
        emptied = asked is not None and used is not None and used <= asked.at and at <= asked.at + WATCH_LAG
        return None if recent and emptied else OPERATOR
    if used is None:
        return QUEUE
    ours = pending <= used if pending is not None else recent
    return None if ours else QUEUE
