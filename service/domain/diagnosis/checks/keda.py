"""Whether KEDA works with the sessions' ScaledObjects. That it lives at all is a part of /health."""

from collections import defaultdict
from collections.abc import Sequence

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.survey import Survey
from service.domain.ports import WorkloadCache


class ScaledObjects(Check):
    name = "keda"
    fine = "KEDA works with every ScaledObject that it polls."

    def __init__(self, cache: WorkloadCache, *, namespace: str, keda_namespace: str) -> None:
        self._cache = cache
        self._namespace = namespace
        self._keda_namespace = keda_namespace

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        """One for each reason: whatever is wrong with one is mostly wrong with all of them."""
        by_reason: dict[str, list[str]] = defaultdict(list)
        for each in await survey.objects():
            if each.not_ready and each.uuid is not None and self._cache.workload(each.uuid).polled:
                by_reason[each.not_ready].append(each.name)
        found = [
            self.finding(
                names[0],
                Severity.ERROR,
                f"KEDA cannot work with {len(names)} ScaledObjects, {names[0]} for one: {reason}.",
                meaning="They are not put to sleep, and a push by another program does not wake them.",
                next_step=f"`kubectl -n {self._namespace} describe scaledobject {names[0]}` says more;"
                " docs/troubleshooting.md, 'KEDA cannot read the queue', has the causes.",
            )
            for reason, names in by_reason.items()
        ]
        return [*found, self._version()]

    def _version(self) -> Finding:
        return self.finding(
            "version",
            Severity.OK,
            "The service has no right to see KEDA's version.",
            meaning="The service is tested with KEDA 2.21.",
            next_step=f"`kubectl -n {self._keda_namespace or 'keda'} get deployment keda-operator -o"
            " jsonpath='{..image}'` shows it.",
        )
