"""Pods that do not start, and sessions that an operator has paused."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.survey import Survey
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.session import Session
from service.domain.workload import Workload

_GRACE = timedelta(minutes=1)
"""For a KEDA that is busy, and for clocks that differ a little."""
_NODE_GRACE = timedelta(seconds=30)
"""For a node that another pod is just leaving."""
_SLOW = timedelta(minutes=5)
"""Longer than a pod takes that nothing hinders."""
_UNEXPLAINED = f"it has wanted one for more than {_SLOW.seconds // 60} minutes, and Kubernetes names no reason"
_NAMED = 5
"""Sessions of a group that are named."""
_IMAGE = (
    "Compare the image's name with the values of every session. Where a finding `edits` names the session's Deployment,"
    " somebody has changed it by hand, and its next step undoes that. "
)
_STEPS = {
    **dict.fromkeys(("ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName"), _IMAGE),
    "Unschedulable": "`user-pods top` shows the room on the nodes. ",
}
"""What to do first, by Kubernetes' own name of the reason."""


class Pods(Check):
    """Sessions that want a pod and do not get it, by reason: a full cluster hits many of them for one cause."""

    name = "pods"
    fine = "Every session that wants a pod has one that is ready, or is about to be."

    def __init__(self, *, namespace: str) -> None:
        self._namespace = namespace

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        groups: dict[str, list[_Late]] = defaultdict(list)
        for session in (await survey.sessions()).values():
            late = _late(session, survey.now)
            if late is not None:
                groups[late.kind].append(late)
        return [self._of(kind, group) for kind, group in groups.items()]

    def _of(self, kind: str, group: Sequence["_Late"]) -> Finding:
        """For one session, or for all that wait for the same reason."""
        first, number = group[0], len(group)
        failed, final = any(each.failed for each in group), any(each.final for each in group)
        describe = f"`kubectl -n {self._namespace} describe pods -l uuid={first.uuid}`"
        if number == 1:
            who = "Its user waits"
            what = f"The pod of {first.user_id} does not get ready: {first.reason}."
            step = f"{_STEPS.get(_kind(first.reason), '')}{describe} says more"
        else:
            shown = ", ".join(each.uuid for each in group[:_NAMED]) + (", and others" if number > _NAMED else "")
            what = f"The pods of {number} sessions do not get ready ({shown}). Of the first: {first.reason}."
            who = "Their users wait"
            phases = " and ".join(
                f"`user-pods list --phase {phase}`" for phase in sorted({each.phase for each in group})
            )
            step = f"{phases} shows which. {_STEPS.get(_kind(first.reason), '')}{describe} says more of the first"
        return self.finding(
            first.uuid if number == 1 else kind,
            Severity.ERROR if failed else Severity.WARNING,
            what,
            meaning=f"{who} in vain." if final else f"{who}.",
            next_step=f"{step}.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Late:
    """A session whose pod does not get ready."""

    uuid: SessionId
    user_id: str
    phase: Phase
    kind: str
    """Equal for sessions that wait for the same reason."""
    reason: str
    failed: bool
    final: bool


def _late(session: Session, now: datetime) -> _Late | None:
    """None for a session that wants no pod, has one that is ready, or may be about to; and for a paused one."""
    workload = session.workload
    if session.phase not in (Phase.WAKING, Phase.FAILED) or session.read_error or workload.read_error:
        return None
    if workload.broken_reason or workload.paused:
        return None
    kind, reason = _reason(workload, _waits(session, now))
    if reason is None:
        return None
    return _Late(
        uuid=session.record.uuid,
        user_id=session.record.user_id,
        phase=session.phase,
        kind=kind,
        reason=reason,
        failed=workload.failure is not None,
        final=workload.final,
    )


def _reason(workload: Workload, waits: timedelta) -> tuple[str, str | None]:
    """The kind of the reason, and the reason; None if waiting is normal yet."""
    if workload.failure:
        return _kind(workload.failure), workload.failure
    if workload.blocker and (workload.warning or waits > _NODE_GRACE):
        return _kind(workload.blocker), workload.blocker
    if workload.warning:
        return "slow start", workload.warning
    return "no reason known", _UNEXPLAINED if waits > _SLOW else None


def _kind(reason: str) -> str:
    """Kubernetes' word for it, without what differs between pods."""
    return reason.partition(":")[0]


def _waits(session: Session, now: datetime) -> timedelta:
    """For how long it has wanted its pod at least. A blocker of unknown age counts."""
    pod = session.workload.pod
    since = pod.created_at if pod is not None and pod.created_at else session.record.queue.pending_since
    return now - since if since is not None else _NODE_GRACE * 2


class Pauses(Check):
    name = "pauses"
    fine = "Nobody has paused a session."

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        return [
            self.finding(
                uuid,
                Severity.WARNING,
                "An operator has paused the session by an annotation of its ScaledObject.",
                meaning="It is neither woken nor put to sleep; wakes wait.",
                next_step=f"When the work on it is done: {session.workload.paused}.",
            )
            for uuid, session in (await survey.sessions()).items()
            if session.workload.paused
        ]


class OverdueSleeps(Check):
    """Sessions that run on although nobody uses them: KEDA should have put them to sleep."""

    name = "sleeps"
    fine = "Every session that is not in use sleeps, or is about to."

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        return [
            self.finding(
                uuid,
                Severity.ERROR,
                f"The session should have slept by {due:%Y-%m-%d %H:%M:%S} UTC, and its pod still runs.",
                meaning="It costs as if somebody used it.",
                next_step=f"`user-pods sleep {uuid}` sends it to sleep. If there are several, look at KEDA's log.",
            )
            for uuid, session in (await survey.sessions()).items()
            if (due := _due(session)) is not None and due < survey.now
        ]


def _due(session: Session) -> datetime | None:
    """When a session that nobody uses should be asleep; None while it is in use or cannot sleep."""
    workload = session.workload
    if workload.paused or workload.replicas == 0 or session.record.queue.is_wanted or workload.last_active is None:
        return None
    times = workload.idle_times or session.idle_times
    return workload.last_active + times.cooldown + 2 * times.poll + _GRACE


class UnreadableObjects(Check):
    name = "unreadable"
    fine = "Every object of a session can be read."

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        return [
            self.finding(
                uuid,
                Severity.ERROR,
                f"The session's objects cannot be read: {session.workload.read_error}.",
                meaning="It is left alone: neither woken nor put to sleep.",
                next_step="Correct the field that is named, or remove the object; a create then completes the session.",
            )
            for uuid, session in (await survey.sessions()).items()
            if session.workload.read_error
        ]
