"""Which nodes a pod may run on, as far as its own spec and the nodes' labels and taints say. Rules: Kubernetes'."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taint:
    """One that keeps pods away: `NoSchedule` or `NoExecute`."""

    key: str
    value: str
    effect: str


@dataclass(frozen=True, slots=True)
class Toleration:
    """An empty key or effect stands for all of them. `value`: None for any."""

    key: str
    value: str | None
    effect: str

    def covers(self, taint: Taint) -> bool:
        return (
            self.key in ("", taint.key)
            and self.effect in ("", taint.effect)
            and (self.value is None or self.value == taint.value)
        )


@dataclass(frozen=True, slots=True)
class Requirement:
    """Of a node's label."""

    key: str
    operator: str
    """`In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`. No node meets another one."""
    values: tuple[str, ...] = ()

    def holds(self, labels: Mapping[str, str]) -> bool:
        found = labels.get(self.key)
        match self.operator:
            case "In":
                return found in self.values
            case "NotIn":
                return found not in self.values
            case "Exists":
                return found is not None
            case "DoesNotExist":
                return found is None
            case "Gt" | "Lt":
                return self._compares(found)
            case _:
                return False

    def _compares(self, found: str | None) -> bool:
        try:
            limit, number = int(self.values[0]), int(found or "")
        except (IndexError, ValueError):
            return False
        return number > limit if self.operator == "Gt" else number < limit


@dataclass(frozen=True, slots=True)
class Placement:
    """What a pod's spec asks of its node."""

    tolerations: tuple[Toleration, ...] = ()
    terms: tuple[tuple[Requirement, ...], ...] = ((),)
    """All requirements of one of these must hold."""

    def accepts(self, labels: Mapping[str, str], taints: Iterable[Taint]) -> bool:
        tolerated = all(any(each.covers(taint) for each in self.tolerations) for taint in taints)
        return tolerated and any(all(each.holds(labels) for each in term) for term in self.terms)


ANYWHERE = Placement()
