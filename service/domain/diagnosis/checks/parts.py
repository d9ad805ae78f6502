"""The parts that /health names, and what it remarks on."""

from collections.abc import Sequence

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.survey import Survey
from service.domain.health import Health

_STEPS = {
    "redis": '`redis-cli -u "$REDIS_URL" PING` tries the service\'s address.',
    "kubernetes": "`kubectl get --raw /readyz` tries the API server. The service's log says what it has refused.",
    "keda": "`kubectl -n keda get pods,lease` shows whether KEDA's operator runs.",
    "helm": "The service's log has helm's output; `HELM` names the program, `CHART_VALUES` the values.",
}
_CHECKED = frozenset({"sessions"})
"""Remarks that only count what another check finds one by one."""


class Parts(Check):
    name = "parts"
    fine = "Redis, the Kubernetes API, KEDA, helm and all tasks of this process work."

    def __init__(self, health: Health) -> None:
        self._health = health

    async def findings(self, _survey: Survey) -> Sequence[Finding]:
        verdict = await self._health.verdict()
        failing = [
            self.finding(
                part,
                Severity.ERROR,
                f"{part} does not work: {wrong}.",
                meaning="What needs it fails, or waits; the rest goes on.",
                next_step=_STEPS.get(part, "The service's log says since when, and what it has tried."),
            )
            for part, wrong in verdict.parts.items()
            if wrong
        ]
        remarks = [
            self.finding(
                part,
                Severity.WARNING,
                f"{part}: {remark}.",
                meaning="It works, but not fully.",
                next_step="The service's log says since when, and what it has tried.",
            )
            for part, remark in verdict.remarks.items()
            if part not in _CHECKED
        ]
        return failing + remarks
