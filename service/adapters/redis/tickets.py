"""The Tickets port on Redis.

user-pods:tickets:<uuid>   zset     digests of the session's open tickets, each with the end of its life, in ms
user-pods:used:<digest>    string   something else that works once, and was used

A digest opens nothing: a ticket has to carry a valid seal, and the sealing key is not in Redis.
"""

from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis.command_runner import CommandRunner
from service.domain.names import SessionId
from service.domain.ports import TICKETS

_FORMER_SECRET = "user-pods:gateway-secret"  # noqa: S105 - the name of a key

# By Redis' own clock, because the clocks of replicas may differ.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# KEYS tickets; ARGV digest milliseconds most
_PUT = f"""{_NOW}
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[3] - 1)
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""

# KEYS tickets; ARGV digest; returns 1 when it was open
_TAKE = f"""{_NOW}
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return 0 end
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return ends and tonumber(ends) > now and 1 or 0
"""


class RedisTickets:
    """See `service.domain.ports.Tickets`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._run = CommandRunner.shared(redis).run
        self._put = redis.register_script(_PUT)
        self._take = redis.register_script(_TAKE)

    async def put(self, digest: str, uuid: SessionId, life: timedelta) -> None:
        await self._run(self._put(keys=[_key(uuid)], args=[digest, int(life.total_seconds() * 1000), TICKETS]))

    async def take(self, digest: str, uuid: SessionId) -> bool:
        return bool(await self._run(self._take(keys=[_key(uuid)], args=[digest])))

    async def use_once(self, digest: str, life: timedelta) -> bool:
        px = max(1, int(life.total_seconds() * 1000))
        return bool(await self._run(self._redis.set(f"user-pods:used:{digest}", "", nx=True, px=px)))

    async def drop_secret(self) -> None:
        await self._run(self._redis.delete(_FORMER_SECRET))


def _key(uuid: SessionId) -> str:
    return f"user-pods:tickets:{uuid}"
