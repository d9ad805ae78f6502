"""Facts beyond the sessions' own objects, for diagnosis and capacity, which operators may let the service see."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from service.domain.placement import Taint

HOW_TO_GRANT: Final = "`rbac.clusterFacts: true` in the values of the service's chart gives it the right"


@dataclass(frozen=True, slots=True)
class StorageClass:
    name: str
    default: bool
    """Claims that name no class get this one."""


@dataclass(frozen=True, slots=True)
class KedaOperator:
    version: str | None
    """For example `2.21.0`; None if its Deployment is not found, or tells none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """`cpu` (CPUs), `memory` (GiB) and `pods`: what it has for pods, the system's own share left out."""

    name: str
    cpu: float
    memory: float
    pods: int
    usable: bool = True
    """It is ready, and nobody has cordoned it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()


class ClusterFacts(Protocol):
    """Every method returns None if the service has no right to see this, and raises ClusterUnavailable."""

    async def keda(self) -> KedaOperator | None: ...

    async def storage_classes(self) -> Collection[StorageClass] | None: ...

    async def autoscalers(self) -> Collection[str] | None:
        """The names of the HorizontalPodAutoscalers in the users' namespace that nobody has deleted."""

    async def nodes(self) -> Collection[Node] | None: ...
