"""Whether the cluster can make the volumes that sessions ask for."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from service.domain.cluster_facts import HOW_TO_GRANT, ClusterFacts
from service.domain.diagnosis.check import Check
from service.domain.diagnosis.finding import Finding, Severity
from service.domain.diagnosis.ports import ObjectFacts
from service.domain.diagnosis.survey import Survey

_CLAIM = "persistentvolumeclaim"


class StorageClasses(Check):
    """Storage classes that claims or the values of new sessions name, and that there are not.

    A claim without a class, where none is the default, is found by `UnboundClaims`.
    """

    name = "storage-classes"
    fine = "Every storage class that claims or values name exists."

    def __init__(self, facts: ClusterFacts, *, namespace: str) -> None:
        self._facts = facts
        self._namespace = namespace

    async def findings(self, survey: Survey) -> Sequence[Finding]:
        classes = await self._facts.storage_classes()
        if classes is None:
            return [self._unseen()]
        names = sorted(each.name for each in classes)
        values = _asked_for(await survey.rendered())
        claims = [each for each in await survey.objects() if each.kind == _CLAIM and each.storage_class]
        missing = {name for name in (*values, *(each.storage_class for each in claims if each.unbound)) if name}
        found = [self._missing(name, values.get(name, ()), claims, names) for name in sorted(missing - {*names})]
        if None in values and not any(each.default for each in classes):
            found.append(self._no_default(values[None], names))
        return found

    def _missing(
        self, name: str, values: Sequence[str], claims: Collection[ObjectFacts], names: Sequence[str]
    ) -> Finding:
        states = Counter(each.unbound for each in claims if each.storage_class == name)
        waiting, bound = states[True], states[False]
        who = [*values, *([f"{waiting} {'claim' if waiting == 1 else 'claims'} without a volume"] if waiting else [])]
        # Volumes that somebody makes by hand may name a class that does not exist, and claims get them.
        severity = Severity.WARNING if bound and not waiting else Severity.ERROR
        step = f"Create it, or name another one in `persistence.storageClassName`. {_there_are(names)}"
        if waiting:
            first = min(each.label for each in claims if each.storage_class == name and each.unbound)
            step += (
                " A claim that exists keeps its class, so delete it while it is empty:"
                f" `kubectl -n {self._namespace} delete {first}`."
            )
        return self.finding(
            f"storageclass/{name}",
            severity,
            f"The storage class {name} does not exist. It is named by {', '.join(who)}.",
            meaning="Unless somebody makes volumes by hand, such a session gets none, and its pod does not start.",
            next_step=step,
        )

    def _no_default(self, values: Sequence[str], names: Sequence[str]) -> Finding:
        return self.finding(
            "default",
            Severity.ERROR,
            f"No storage class is the default, and {' and '.join(values)} {'name' if values[1:] else 'names'} none.",
            meaning="New sessions get no volume, and their pods do not start.",
            next_step="Set `persistence.storageClassName` in the values of every session, or make a class the default:"
            " `kubectl annotate storageclass NAME storageclass.kubernetes.io/is-default-class=true`."
            f" {_there_are(names)}",
        )

    def _unseen(self) -> Finding:
        return self.finding(
            "classes",
            Severity.OK,
            "The service has no right to see storage classes.",
            meaning="Those that the values of new sessions name may not exist.",
            next_step=f"`kubectl get storageclass` shows them; {HOW_TO_GRANT}.",
        )


def _there_are(names: Sequence[str]) -> str:
    return f"There are: {', '.join(names)}." if names else "There are none."


def _asked_for(rendered: Mapping[str | None, Sequence[Mapping[str, Any]]]) -> Mapping[str | None, Sequence[str]]:
    """Which values name each class; None: the default one. An empty name asks for a volume that is made by hand."""
    found: dict[str | None, list[str]] = defaultdict(list)
    for profile, objects in rendered.items():
        for name in dict.fromkeys(_classes(objects)):
            found[name].append("the chart values" if profile is None else f"the profile {profile}")
    return found


def _classes(objects: Sequence[Mapping[str, Any]]) -> Iterator[str | None]:
    for each in objects:
        if each.get("kind") == "PersistentVolumeClaim":
            spec = each.get("spec") or {}
            name = spec.get("storageClassName")
            if name != "":
                yield None if name is None else str(name)
