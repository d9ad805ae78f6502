"""The SigningKeys in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.domain.signing_key import SigningKey, StoredKeys


@dataclass
class MemorySigningKeys:
    """See `service.domain.ports.SigningKeys`: replicas of one service share an instance."""

    keys: Sequence[SigningKey] = ()
    version: int = 0
    reads: int = 0

    async def read(self) -> StoredKeys:
        self.reads += 1
        return StoredKeys(self.keys, str(self.version) if self.version else None)

    async def replace(self, keys: Sequence[SigningKey], version: str | None) -> bool:
        if version != (str(self.version) if self.version else None):
            return False
        self.keys, self.version = tuple(keys), self.version + 1
        return True
