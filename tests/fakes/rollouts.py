"""The Rollouts in memory."""

from dataclasses import dataclass

from service.domain.rollout import Rollout


@dataclass
class MemoryRollouts:
    """See `service.domain.ports.Rollouts`."""

    stored: Rollout | None = None

    async def read(self) -> Rollout | None:
        return self.stored

    async def replace(self, rollout: Rollout, version: int) -> bool:
        if (self.stored.version if self.stored is not None else 0) != version:
            return False
        self.stored = rollout
        return True
