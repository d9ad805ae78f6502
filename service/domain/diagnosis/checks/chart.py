"""The chart of the users' releases, with the values that are configured."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.survey import Survey
from service.domain.names import CONTAINER
from service.domain.rollout import OUTDATED
from service.domain.upgrading import ReleaseUpgrades
from service.domain.workload import Workload

_PASSWORDS = frozenset({"PASSWORD", "HASHED_PASSWORD"})
_EDITOR = "code-server"


class SignInOfImage(Check):
    """Whether the image asks for a password of its own, behind the gateway that has let its user in."""

    name = "sign-in"
    fine = "As far as its values say, the image of the workspaces asks for no password of its own."

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        asking = (str(each.get("image")) for each in _workspaces(_all(await survey.rendered())) if _asks(each))
        return [
            self.finding(
                image,
                Severity.WARNING,
                "The image of the workspaces shows a password page of its own.",
                meaning="Users whom the gateway has let in are asked for a password that they do not know.",
                next_step="Set `codeServer.auth: none` in the values, and no PASSWORD in `env`, unless pods can be"
                " reached past the gateway.",
            )
            for image in dict.fromkeys(asking)
        ]


class Versions(Check):
    name = "charts"
    fine = "Every session has the chart and the chart values that new ones get."

    def __init__(self, upgrades: ReleaseUpgrades) -> None:
        self._upgrades = upgrades

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        """One for each other version: after an upgrade of the service, that is all sessions at once."""
        current = next((found for each in _all(await survey.rendered()) if (found := _version(each))), None)
        workloads = [session.workload for session in (await survey.sessions()).values()]
        others = Counter(workload.chart for workload in workloads)
        return [*self._other_charts(others, current), *self._other_values(workloads, current)]

    def _other_charts(self, others: Mapping[str | None, int], current: str | None) -> Sequence[Finding]:
        return [
            self.finding(
                chart,
                Severity.WARNING,
                f"{number} sessions were installed by {chart}; the service has {current}.",
                meaning="They lack what has changed since, mends of security among it.",
                next_step="`user-pods upgrade --all` does it while they sleep.",
            )
            for chart, number in others.items()
            if chart is not None and current is not None and chart != current
        ]

    def _other_values(self, workloads: Iterable[Workload], current: str | None) -> Sequence[Finding]:
        """By the measure of an upgrade of all sessions, beyond those that have another version of the chart."""
        number = sum(
            self._upgrades.standing(workload) in OUTDATED and (current is None or workload.chart in (None, current))
            for workload in workloads
        )
        if not number:
            return []
        return [
            self.finding(
                "revision",
                Severity.WARNING,
                f"{number} {'session was' if number == 1 else 'sessions were'} installed with another revision of"
                " chart and chart values than new ones get.",
                meaning="They lack what has changed since, in the image or the values, mends of security among it.",
                next_step="`user-pods upgrade --all` does it while they sleep.",
            )
        ]


def _all(rendered: Mapping[str | None, Sequence[Mapping[str, Any]]]) -> Iterator[Mapping[str, Any]]:
    """The objects of all profiles."""
    return chain.from_iterable(rendered.values())


def _version(item: Mapping[str, Any]) -> str | None:
    """Chart and version of a Deployment."""
    if item.get("kind") != "Deployment":
        return None
    return dict(item.get("metadata", {}).get("labels") or {}).get("helm.sh/chart")


def _workspaces(objects: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The containers of the users' program."""
    for each in objects:
        if each.get("kind") == "Deployment":
            pod = each["spec"]["template"]["spec"]
            yield from (container for container in pod["containers"] if container.get("name") == CONTAINER)


def _asks(container: Mapping[str, Any]) -> bool:
    words = " ".join(map(str, [*container.get("command", ()), *container.get("args", ())])).replace("=", " ")
    if "--auth none" in words:
        return False
    names = {each.get("name") for each in container.get("env", ())}
    return "--auth password" in words or bool(names & _PASSWORDS) or _is_editor_alone(container)


def _is_editor_alone(container: Mapping[str, Any]) -> bool:
    """Whether it is code-server with nothing said, which makes up a password."""
    repository = str(container.get("image", "")).partition("@")[0].rpartition("/")[2]
    return repository.partition(":")[0] == _EDITOR and not container.get("args") and not container.get("command")
