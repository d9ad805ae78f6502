"""The SignOuts in memory: all replicas share one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from service.domain.names import SessionId


@dataclass
class MemorySignOuts:
    """See `service.domain.ports.SignOuts`."""

    listeners: list[Callable[[SessionId, int], None]] = field(default_factory=list)

    async def publish(self, uuid: SessionId, since: int) -> None:
        for listener in [*self.listeners]:
            listener(uuid, since)

    def subscribe(self, listener: Callable[[SessionId, int], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)
