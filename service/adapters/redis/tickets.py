"""The Tickets port on Redis.

user-pods:tickets:<uuid>   zset     digests of the session's open tickets, each with the end of its life, in ms
user-pods:used:<digest>    string   something else that works once, and was used

A digest opens nothing: a ticket has to carry a valid seal, and the sealing key is not in Redis.
"""

from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis.command_runner import CommandRunner
from service.adapters.redis.expiring_sets import ExpiringSets
from service.domain.names import SessionId
from service.domain.ports import TICKETS

_FORMER_SECRET = "user-pods:gateway-secret"  # noqa: S105 - the name of a key


class RedisTickets:
    """See `service.domain.ports.Tickets`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._run = CommandRunner.shared(redis).run
        self._open = ExpiringSets(redis, "user-pods:tickets", TICKETS)

    async def put(self, digest: str, uuid: SessionId, life: timedelta) -> None:
        await self._open.put(uuid, digest, life)

    async def take(self, digest: str, uuid: SessionId) -> bool:
        return await self._open.take(uuid, digest)

    async def use_once(self, digest: str, life: timedelta) -> bool:
        px = max(1, int(life.total_seconds() * 1000))
        return bool(await self._run(self._redis.set(f"user-pods:used:{digest}", "", nx=True, px=px)))

    async def drop_secret(self) -> None:
        await self._run(self._redis.delete(_FORMER_SECRET))
