"""Whether KEDA fits, works with the sessions' ScaledObjects and has cleaned up. That it lives is a part of /health."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from service.domain.cluster_facts import HOW_TO_GRANT, ClusterFacts
from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.survey import Survey
from service.domain.names import SessionId, autoscaler_name
from service.domain.ports import WorkloadCache

OLDEST = (2, 12)
"""The first version that knows the annotation by which sleepers are parked."""
TESTED = (2, 21)
_NAMED = 5
"""Objects of a group that are named."""


class Keda(Check):
    name = "keda"
    fine = "KEDA works with every ScaledObject that it polls."

    def __init__(self, cache: WorkloadCache, facts: ClusterFacts, *, namespace: str, keda_namespace: str) -> None:
        self._cache = cache
        self._facts = facts
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
                next_step=f"`kubectl -n {self._namespace} describe scaledobject {names[0]}` says more."
                " Mostly it is Redis: its address, password or NetworkPolicy, as KEDA in its own namespace sees them.",
            )
            for reason, names in by_reason.items()
        ]
        return [*found, await self._version()]

    async def _version(self) -> Finding:
        keda = await self._facts.keda()
        if keda is None:
            grant = HOW_TO_GRANT if self._keda_namespace else "`keda.namespace` tells the service where it is"
            return self._unseen("The service has no right to see KEDA's version.", f"; {grant}")
        if keda.version is None:
            return self._unseen(f"No Deployment keda-operator in {self._keda_namespace} tells KEDA's version.")
        found = tuple(map(int, keda.version.split(".")[:2]))
        tested = f"{_text(TESTED)}, with which the service is tested"
        if found < OLDEST:
            return self.finding(
                "installed",
                Severity.WARNING,
                f"KEDA {keda.version} does not know the annotation `autoscaling.keda.sh/paused`, by which the service"
                f" parks sleeping sessions: it came with {_text(OLDEST)}.",
                meaning="KEDA polls every session that sleeps, with a connection to Redis and an HPA for each.",
                next_step=f"Upgrade KEDA to {tested}.",
            )
        order = "is older than" if found < TESTED else "is newer than" if found > TESTED else "is"
        return self.finding("installed", Severity.OK, f"KEDA {keda.version} {order} {tested}.", meaning="")

    def _unseen(self, what: str, more: str = "") -> Finding:
        return self.finding(
            "version",
            Severity.OK,
            what,
            meaning=f"The service is tested with KEDA {_text(TESTED)}.",
            # KEDA may have another name, or run beside the cluster.
            next_step=f"`kubectl get deployments -A -o wide | grep -i keda` shows its image, if it is there{more}.",
        )


class Autoscalers(Check):
    """HPAs that KEDA should have deleted when their sessions were parked."""

    name = "autoscalers"
    fine = "No session that sleeps has an HPA."

    def __init__(self, cache: WorkloadCache, facts: ClusterFacts, *, namespace: str, second_look: float = 5.0) -> None:
        """`second_look`: seconds after which an HPA must still be there. KEDA may be about to delete it."""
        self._cache = cache
        self._facts = facts
        self._namespace = namespace
        self._second_look = second_look

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        left = await self._left()
        if left:
            await asyncio.sleep(self._second_look)
            again = await self._left()
            left = None if again is None else [uuid for uuid in left if uuid in again]
        if left is None:
            return [self._unseen()]
        return [self._of(left)] if left else []

    async def _left(self) -> Sequence[SessionId] | None:
        """Sessions that sleep, parked, and have one; None if the service must not see HPAs."""
        there = await self._facts.autoscalers()
        if not there:
            return there if there is None else []
        names = frozenset(there)
        workloads = (self._cache.workload(uuid) for uuid in self._cache.uuids())
        return sorted(
            each.uuid for each in workloads if each.parked and not each.replicas and autoscaler_name(each.uuid) in names
        )

    def _of(self, left: Sequence[SessionId]) -> Finding:
        names = [autoscaler_name(uuid) for uuid in left]
        shown = ", ".join(names[:_NAMED]) + (", and others" if names[_NAMED:] else "")
        return self.finding(
            f"horizontalpodautoscaler/{names[0]}",
            Severity.WARNING,
            f"KEDA has left {len(names)} {'HPA' if len(names) == 1 else 'HPAs'} of sessions that sleep: {shown}.",
            meaning="Kubernetes asks KEDA's metrics server about each of them every few seconds, for nothing.",
            next_step=f"`kubectl -n {self._namespace} delete hpa {names[0]}` removes one; KEDA makes another when its"
            " session wakes up. If they come back, look at KEDA's log.",
        )

    def _unseen(self) -> Finding:
        return self.finding(
            "hpas",
            Severity.OK,
            "The service has no right to see HPAs.",
            meaning="KEDA may have left some of sessions that sleep.",
            next_step=f"`kubectl -n {self._namespace} get hpa` should list none of them; {HOW_TO_GRANT}.",
        )


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
