"""Whether NetworkPolicies keep users' pods apart, and whether the cluster's network enforces them."""

from collections.abc import Mapping, Sequence
from typing import Any

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.ports import PortProbe, Reply
from service.domain.diagnosis.survey import Survey
from service.domain.phase import Phase
from service.domain.rollout import Standing
from service.domain.session import Session
from service.domain.upgrading import ReleaseUpgrades

Objects = Sequence[Mapping[str, Any]]
_CLOSED = 9
"""A port that no policy here opens and at which no workspace listens: that of the discard protocol."""
_WHAT_STOPS = {Reply.NONE: "got no answer", Reply.REJECTED: "was rejected on the way"}
_UNCLEAR = {
    Reply.ACCEPTED: "accepts connections as well. Either a proxy such as a service mesh's accepts all of them, or a"
    " program of the user listens there",
    Reply.REFUSED: "refuses connections, and this system's kernel does not say whether the pod or a firewall does",
    Reply.UNREACHABLE: "cannot be tried: this process's own system refuses the connection",
}


class NetworkPolicies(Check):
    name = "network-policies"
    fine = "NetworkPolicies keep users' pods apart, as far as the configured values say."

    def __init__(self, probe: PortProbe, upgrades: ReleaseUpgrades, *, shared: bool, in_cluster: bool) -> None:
        """`shared`: policies of the namespace admit only the gateway, at the workspace's port, to every pod.

        `in_cluster`: whether this process runs in a pod, for which policies count.
        """
        self._probe = probe
        self._upgrades = upgrades
        self._shared = shared
        self._in_cluster = in_cluster

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        rendered = await survey.rendered()
        without = [
            "chart" if profile is None else f"profile {profile}"
            for profile, objects in rendered.items()
            if not self._shared and not _policies(objects)
        ]
        return [
            self.finding(
                subject,
                Severity.WARNING,
                "The configured values leave out the NetworkPolicy that keeps users' pods apart.",
                meaning="Every user can open every other awake workspace of that kind.",
                next_step="Set `networkPolicy.isolateUsers: true` in the values of every session.",
            )
            for subject in without
        ] or [await self._enforcement(survey, rendered)]

    async def _enforcement(self, survey: Survey, rendered: Mapping[str | None, Objects]) -> Finding:
        if not self._in_cluster:
            return self._unseen("the service runs outside of the cluster, where policies do not apply to it")
        closed = frozenset(profile for profile, objects in rendered.items() if self._closes(objects))
        if not closed:
            return self._unseen("the policies admit the service at every port, so it has nothing to try")
        awake = [each for each in (await survey.sessions()).values() if self._can_tell(each, closed)]
        if not awake:
            return self._unseen("no workspace is awake that could be tried")
        return await self._try(min(awake, key=_age))

    async def _try(self, session: Session) -> Finding:
        """One pod is enough. It hears of a connection at most, which counts as nobody's activity."""
        uuid, pod = session.record.uuid, session.workload.pod
        address, port = (pod.address or "", pod.port or 0) if pod is not None else ("", 0)
        if await self._probe.reply(address, port) is not Reply.ACCEPTED:
            return self._unseen(f"the pod of {uuid} does not answer this process at its own port, {port}")
        reply = await self._probe.reply(address, _CLOSED)
        if reply is Reply.RESET:
            return self.finding(
                "enforcement",
                Severity.ERROR,
                f"The cluster's network does not enforce NetworkPolicies: the pod of {uuid} answers the service at port"
                f" {_CLOSED}, which they do not open.",
                meaning="Every user can open every other awake workspace, with a shell and all files.",
                next_step="Admit only users who trust each other, until the network enforces policies,"
                " as Calico and Cilium do.",
            )
        if reply in _UNCLEAR:
            return self._unseen(f"port {_CLOSED} of the pod of {uuid} {_UNCLEAR[reply]}")
        # A pod that has gone meanwhile is silent, too.
        if await self._probe.reply(address, port) is not Reply.ACCEPTED:
            return self._unseen(f"the pod of {uuid} went away while it was tried")
        return self.finding(
            "enforced",
            Severity.OK,
            f"The cluster's network enforces NetworkPolicies: the pod of {uuid} answers the service at its own port,"
            f" and a connection to its port {_CLOSED}, which they do not open, {_WHAT_STOPS[reply]}.",
            meaning="",
        )

    def _closes(self, objects: Objects) -> bool:
        """Whether nothing opens the port to the service. Policies add up: one of them is enough to open it."""
        policies = _policies(objects)
        return (self._shared or bool(policies)) and not any(map(_opens, policies))

    def _can_tell(self, session: Session, closed: frozenset[str | None]) -> bool:
        """Whether it is awake, with today's policies: an older release may have others."""
        workload, pod = session.workload, session.workload.pod
        return (
            session.phase is Phase.READY
            and pod is not None
            and pod.ready
            and pod.address is not None
            and pod.port not in (None, _CLOSED)
            and workload.assignment.profile in closed
            and self._upgrades.standing(workload) is Standing.UPGRADED
        )

    def _unseen(self, why: str) -> Finding:
        return self.finding(
            "enforcement",
            Severity.OK,
            f"Whether the cluster's network enforces NetworkPolicies cannot be seen from here: {why}.",
            meaning="Some networks ignore them, without a word.",
            next_step="Try it once per cluster: in one workspace, `curl -m 5` to the address of another one's pod must"
            " fail.",
        )


def _policies(objects: Objects) -> Sequence[Mapping[str, Any]]:
    return [each for each in objects if each.get("kind") == "NetworkPolicy"]


def _opens(policy: Mapping[str, Any]) -> bool:
    """Whether the policy may admit somebody at the port that should be closed. A name means the workspace's port."""
    spec = policy.get("spec") or {}
    rules = spec.get("ingress") or []
    ports = [rule.get("ports") or [{}] for rule in rules]
    return "Ingress" not in spec.get("policyTypes", ["Ingress"]) or any(
        not isinstance(each.get("port"), str) for of_one in ports for each in of_one
    )


def _age(session: Session) -> float:
    """When the pod was made; the network has had the most time for the oldest."""
    pod = session.workload.pod
    return pod.created_at.timestamp() if pod is not None and pod.created_at is not None else float("inf")
