"""What has to be done so that a session's pod follows its queue: one pure rule, applied whenever anything changes.

KEDA alone scales down. The service alone scales up, parks and unparks; docs/decisions/0004-parking.md says why this
order of steps loses no wake.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.session import IdleTimes, Phase, QueueState, Workload

_GIVE_UP = timedelta(hours=1)
"""How long a wake is held for a KEDA that does not come back, or a pod that neither gets ready nor fails."""
_RETRIED = timedelta(minutes=10)
"""How long it is held for a pod that fails at something which Kubernetes retries: twice the longest back-off."""


class Step(StrEnum):
    SETTLE = "settle"
    """The pod is up, and KEDA has seen the wake: the lease may run out from now on."""
    RENEW = "renew"
    """Give the queue a lease, with a token when it has none, and hold it until that is so."""
    UNPARK = "unpark"
    SCALE_UP = "scale-up"
    PARK = "park"


def steps(
    workload: Workload, queue: QueueState, *, now: datetime, parking: bool, idle_times: IdleTimes | None = None
) -> frozenset[Step]:
    """The steps that are due, none when all is as it should be. `idle_times` is used when the workload has none."""
    if workload.broken_reason or workload.deleting or workload.user_id is None:
        return frozenset()  # the last is no session of the service, but a chart that somebody installed by hand
    if workload.paused:
        return frozenset()  # by an operator; a pending wake waits in Redis until the pause is removed
    if queue.read_error or workload.read_error:
        return frozenset()  # nobody can tell who wants it: what is awake stays awake, and what sleeps is left asleep
    if queue.is_wanted:
        return frozenset(
            _awake(workload, queue, now, parking, (workload.idle_times or idle_times or IdleTimes()).lease)
        )
    if workload.replicas == 0:
        return frozenset({Step.PARK if parking else Step.UNPARK}) if parking != workload.parked else frozenset()
    # Somebody scaled a parked one by hand: it gets a lease like any other, and KEDA back.
    return frozenset({Step.RENEW, Step.UNPARK}) if workload.parked else frozenset()


def _awake(workload: Workload, queue: QueueState, now: datetime, parking: bool, lease: timedelta) -> Iterator[Step]:
    rousing = False
    if workload.replicas == 0 and parking:
        rousing = True
        yield Step.SCALE_UP
    if workload.parked:
        rousing = True
        yield Step.UNPARK
    short = _runs_short(queue, now, lease)
    if served(workload, queue, now) and (workload.replicas or not short):
        yield Step.SETTLE
    elif short or (rousing and queue.pending_since is None):
        # The latter is somebody else's push: held like one of ours. And who sleeps, although a wake has waited for an
        # hour, was paused for so long, or Kubernetes was away: the pod gets a lease before the wake is let go.
        yield Step.RENEW


def served(workload: Workload, queue: QueueState, now: datetime) -> datetime | None:
    """Up to when pushes are KEDA's business, if the pending wake is among them.

    KEDA's time is in whole seconds, rounded down. Not before the pod is ready or has failed for good: a big image or
    a new node takes longer to come than lease and cooldown, and a wake that ran out meanwhile would end the pod before
    anybody has seen it. After an hour a wake counts as served, or it would be held for ever.
    """
    since = queue.pending_since
    if since is None:
        return None
    if now - since > _GIVE_UP:
        return now
    phase = workload.phase(is_wanted=True)
    if phase is Phase.WAKING or (phase is Phase.FAILED and not workload.final and now - since < _RETRIED):
        return None
    return workload.last_active if workload.last_active is not None and workload.last_active > since else None


def _runs_short(queue: QueueState, now: datetime, lease: timedelta) -> bool:
    if queue.lease_until is None:
        return True
    return queue.pending_since is not None and queue.lease_until - now < lease / 2
