"""The ClusterFacts in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.domain.cluster_facts import KedaOperator, Node, StorageClass


@dataclass
class MemoryClusterFacts:
    """See `service.domain.cluster_facts.ClusterFacts`."""

    allowed: bool = False
    version: str | None = "2.21.0"
    """Of KEDA."""
    classes: list[StorageClass] = field(default_factory=lambda: [StorageClass("standard", default=True)])
    scalers: list[str] = field(default_factory=list)
    """The names of HorizontalPodAutoscalers."""
    machines: list[Node] = field(default_factory=list)
    """The nodes."""

    async def keda(self) -> KedaOperator | None:
        return KedaOperator(self.version) if self.allowed else None

    async def storage_classes(self) -> Sequence[StorageClass] | None:
        return list(self.classes) if self.allowed else None

    async def autoscalers(self) -> Sequence[str] | None:
        return list(self.scalers) if self.allowed else None

    async def nodes(self) -> Sequence[Node] | None:
        return list(self.machines) if self.allowed else None
