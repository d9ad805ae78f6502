"""The steps that make a session's pod follow its wake queue: one pure function, applied whenever anything changes.

KEDA alone scales an idle session down. The service alone scales up, parks and unparks;
docs/decisions/0004-parking.md explains why this order of steps loses no wake.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.idle_times import IdleTimes
from service.domain.phase import Phase
from service.domain.queue_state import QueueState
from service.domain.workload import Workload

_WAKE_TIMEOUT = timedelta(hours=1)
"""How long a wake stays pending while KEDA is away, or while the pod neither gets ready nor fails."""
_FAILURE_TIMEOUT = timedelta(minutes=10)
"""How long it stays pending while Kubernetes retries what failed: twice the longest back-off."""


class Step(StrEnum):
    SETTLE = "settle"
    """The pod is up and KEDA has seen the wake: the lease may expire from now on."""
    RENEW = "renew"
    """Extend the queue's lease, with a token if it is empty, and keep the wake pending."""
    UNPARK = "unpark"
    SCALE_UP = "scale-up"
    PARK = "park"


def steps(
    workload: Workload, queue: QueueState, *, now: datetime, parking: bool, idle_times: IdleTimes | None = None
) -> frozenset[Step]:
    """The steps that are due; empty when nothing has to change. `idle_times` applies when the workload has none."""
    if workload.broken_reason or workload.deleting or workload.user_id is None:
        return frozenset()  # without a user it is a chart that was installed by hand, not a session
    if workload.paused:
        return frozenset()  # by an operator; a pending wake waits in Redis until the pause is removed
    if queue.read_error or workload.read_error:
        return frozenset()  # whether it is wanted is unknown: awake pods stay awake, and sleepers stay asleep
    if queue.is_wanted:
        return frozenset(
            _steps_when_wanted(workload, queue, now, parking, workload.idle_times or idle_times or IdleTimes())
        )
    if workload.replicas == 0:
        return frozenset({Step.PARK if parking else Step.UNPARK}) if parking != workload.parked else frozenset()
    # Somebody scaled a parked session by hand: it gets a lease, and KEDA scales it again.
    return frozenset({Step.RENEW, Step.UNPARK}) if workload.parked else frozenset()


def _steps_when_wanted(
    workload: Workload, queue: QueueState, now: datetime, parking: bool, idle_times: IdleTimes
) -> Iterator[Step]:
    waking = False
    if workload.replicas == 0 and parking:
        waking = True
        yield Step.SCALE_UP
    if workload.parked:
        waking = True
        yield Step.UNPARK
    expiring = _lease_expires_soon(workload, queue, now, idle_times.lease)
    if settled_until(workload, queue, now) and (workload.replicas or not expiring):
        yield Step.SETTLE
    elif expiring or (waking and queue.pending_since is None):
        # Without a pending wake it is another program's push, which becomes pending like one of ours. A wake that has
        # been pending for an hour while the pod is at 0 (a pause, or an API server that was away) gets a lease before
        # it is settled.
        yield Step.RENEW


def settled_until(workload: Workload, queue: QueueState, now: datetime) -> datetime | None:
    """The time until which pushes are settled; None while the pending wake has to stay pending.

    A wake is settled once KEDA has seen it (`last_active`, in whole seconds, rounded down) and the pod is ready or has
    failed for good. A large image or a new node takes longer than lease and cooldown, and if the wake expired in that
    time, the pod would stop before its user has seen it. After an hour a wake is settled in any case.
    """
    since = queue.pending_since
    if since is None:
        return None
    if now - since > _WAKE_TIMEOUT:
        return now
    phase = workload.phase(is_wanted=True)
    if phase is Phase.WAKING or (phase is Phase.FAILED and not workload.final and now - since < _FAILURE_TIMEOUT):
        return None
    return workload.last_active if workload.last_active is not None and workload.last_active > since else None


def renewal(workload: Workload, idle_times: IdleTimes) -> timedelta:
    """The lease that a pending wake gets by RENEW.

    A pod that is up only has to be seen by KEDA. With a whole lease for that, it would sleep late.
    """
    return idle_times.until_seen if _is_up(workload) else idle_times.lease


def _lease_expires_soon(workload: Workload, queue: QueueState, now: datetime, lease: timedelta) -> bool:
    if queue.lease_until is None:
        return True
    # Activity that is reported late has a part of its lease left. Mostly KEDA sees it in that time.
    soon = min(lease / 2, IdleTimes.MARGIN) if _is_up(workload) else lease / 2
    return queue.pending_since is not None and queue.lease_until - now < soon


def _is_up(workload: Workload) -> bool:
    return workload.replicas > 0 and not workload.parked and workload.phase(is_wanted=True) is Phase.READY
