"""The Tickets in Redis.

user-pods:ticket:<digest>  string  the session that the ticket lets in to, for as long as it is good
user-pods:gateway-secret   string  what passes are sealed with, in hexadecimal, shared by all replicas
"""

from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis_calls import Calls
from service.domain.names import SessionId

_SECRET = "user-pods:gateway-secret"  # noqa: S105 - the name of a key


class RedisTickets:
    """See `service.domain.ports.Tickets`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._call = Calls.of(redis).call

    async def put(self, digest: str, uuid: SessionId, life: timedelta) -> None:
        async with self._call():
            await self._redis.set(_key(digest), uuid, px=int(life.total_seconds() * 1000))

    async def take(self, digest: str) -> SessionId | None:
        async with self._call():
            uuid = await self._redis.getdel(_key(digest))
        return SessionId(uuid) if uuid else None

    async def secret(self, candidate: bytes) -> bytes:
        async with self._call(), self._redis.pipeline(transaction=True) as pipe:
            found = await pipe.set(_SECRET, candidate.hex(), nx=True).get(_SECRET).execute()
        return bytes.fromhex(found[1])


def _key(digest: str) -> str:
    return f"user-pods:ticket:{digest}"
