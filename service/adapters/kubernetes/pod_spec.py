"""What a pod's spec asks for: CPU and memory, and nodes. Unreadable parts count as absent; only estimates use it."""

import functools
from collections.abc import Iterator

from kubernetes.utils.quantity import parse_quantity

from service.adapters.kubernetes.fields import Json, as_dict, as_dicts, text
from service.domain.placement import Placement, Requirement, Toleration
from service.domain.workload import Requests

GIB = 2**30
_MOST = 1e18
"""No pod requests more, and no node has more."""


def requests(pod: Json) -> Requests | None:
    """Of all containers of the pod. None for what is no quantity."""
    given = [as_dict(as_dict(each.get("resources")).get("requests")) for each in as_dicts(pod.get("containers"))]
    try:
        cpu, memory = (sum(quantity(str(each.get(name, "0"))) for each in given) for name in ("cpu", "memory"))
    except ValueError:
        return None
    found = Requests(cpu=cpu, memory=memory / GIB)
    return _shared_requests.setdefault(found, found)


def placement(pod: Json) -> Placement:
    """By node selector, required node affinity and tolerations."""
    affinity = as_dict(as_dict(as_dict(pod.get("affinity")).get("nodeAffinity")))
    required = as_dict(affinity.get("requiredDuringSchedulingIgnoredDuringExecution")).get("nodeSelectorTerms")
    selector = tuple(
        Requirement(key, "In", (value,))
        for key, value in sorted(as_dict(pod.get("nodeSelector")).items())
        if isinstance(value, str)
    )
    terms = [tuple(_requirements(term)) for term in as_dicts(required)]
    found = Placement(
        tolerations=tuple(_toleration(each) for each in as_dicts(pod.get("tolerations"))),
        # A term without requirements matches no node.
        terms=tuple((*selector, *term) for term in terms if term) if required else (selector,),
    )
    return _shared_placements.setdefault(found, found)


@functools.lru_cache(maxsize=1000)
def quantity(given: str) -> float:
    """Raises ValueError."""
    number = float(parse_quantity(given))  # type: ignore[no-untyped-call]
    if not 0 <= number < _MOST:
        raise ValueError(given)
    return number


def _requirements(term: Json) -> Iterator[Requirement]:
    for each in as_dicts(term.get("matchExpressions")):
        values = each.get("values")
        yield Requirement(
            text(each.get("key")) or "",
            text(each.get("operator")) or "",
            tuple(value for value in values if isinstance(value, str)) if isinstance(values, list) else (),
        )


def _toleration(given: Json) -> Toleration:
    exists = given.get("operator") == "Exists"
    return Toleration(
        text(given.get("key")) or "",
        None if exists else text(given.get("value")) or "",
        text(given.get("effect")) or "",
    )


_shared_requests: dict[Requests, Requests] = {}
_shared_placements: dict[Placement, Placement] = {}
"""The few distinct values, shared by all sessions to save memory."""
