"""Pods that do not start, and sessions that an operator has paused."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.survey import Survey
from service.domain.session import Session

_GRACE = timedelta(minutes=1)
"""For a KEDA that is busy, and for clocks that differ a little."""


class Pods(Check):
    name = "pods"
    fine = "Every pod that should run does, or is about to."

    def __init__(self, *, namespace: str) -> None:
        self._namespace = namespace

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        found = []
        for uuid, session in (await survey.sessions()).items():
            workload = session.workload
            why = workload.failure or workload.warning
            if why is None or workload.read_error or workload.ready >= workload.replicas:
                continue
            found.append(
                self.finding(
                    uuid,
                    Severity.ERROR if workload.failure else Severity.WARNING,
                    f"The pod does not get ready: {why}.",
                    meaning="Its user waits." if not workload.final else "Its user waits in vain.",
                    next_step=f"`kubectl -n {self._namespace} describe pods -l uuid={uuid}`;"
                    " docs/troubleshooting.md explains the usual reasons.",
                )
            )
        return found


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
