"""The Inventory in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from service.domain.diagnosis.ports import ObjectFacts
from service.domain.names import SessionId


@dataclass
class MemoryInventory:
    """See `service.domain.diagnosis.ports.Inventory`: `found` is what there is."""

    found: list[ObjectFacts] = field(default_factory=list)

    async def objects(self) -> Sequence[ObjectFacts]:
        return list(self.found)

    async def revisions(self, uuid: SessionId) -> Sequence[ObjectFacts]:
        return [each for each in self.found if each.uuid == uuid and each.revision is not None]

    async def delete_revision(self, uuid: SessionId, revision: int) -> None:
        self.found = [each for each in self.found if (each.uuid, each.revision) != (uuid, revision)]
