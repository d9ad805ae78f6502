"""The Companions port on Redis.

user-pods:companions:<uuid>   zset   names of browsers, each with the time until which it counts as measured, in ms
"""

from redis.asyncio import Redis

from service.adapters.redis.expiring_sets import ExpiringSets
from service.domain.names import SessionId
from service.domain.ports import COMPANION_SEEN, COMPANIONS


class RedisCompanions:
    """See `service.domain.ports.Companions`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._browsers = ExpiringSets(redis, "user-pods:companions", COMPANIONS)

    async def seen(self, uuid: SessionId, browser: str) -> None:
        await self._browsers.put(uuid, browser, COMPANION_SEEN)

    async def is_seen(self, uuid: SessionId, browser: str) -> bool:
        return await self._browsers.has(uuid, browser)

    async def any_seen(self, uuid: SessionId) -> bool:
        return not await self._browsers.is_empty(uuid)
