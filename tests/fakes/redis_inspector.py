"""The RedisInspection in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from service.domain.diagnosis.ports import KeyFacts, RedisConfiguration
from service.domain.names import SessionId
from tests.fakes.queues import MemoryQueues


@dataclass
class MemoryRedisInspector:
    """See `service.domain.diagnosis.ports.RedisInspection`: a server that is set up well, until a test changes it."""

    queues: MemoryQueues = field(default_factory=MemoryQueues)
    settings: RedisConfiguration = field(
        default_factory=lambda: RedisConfiguration(
            notifications="El", policy="noeviction", memory_limit=0, persistent=True
        )
    )
    denied: list[str] = field(default_factory=list)
    ahead: timedelta = timedelta(0)
    kept: dict[SessionId, KeyFacts] = field(default_factory=dict)

    async def configuration(self) -> RedisConfiguration:
        return self.settings

    async def refused(self) -> Sequence[str]:
        return self.denied

    async def clock(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def keys(self) -> Mapping[SessionId, KeyFacts]:
        return self.kept

    async def drop_orphans(self, uuid: SessionId) -> bool:
        if uuid in self.queues.sessions or not self.queues.index_is_complete:
            return False
        self.kept.pop(uuid, None)
        return True

    async def trim(self, uuid: SessionId) -> None:
        if uuid in self.kept:
            self.kept[uuid].lengths.clear()

    async def enable_notifications(self) -> None:
        self.settings = replace(self.settings, notifications="El")
