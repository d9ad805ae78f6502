"""The Companions port on Redis.

user-pods:companions:<uuid>   zset   names of browsers, each with the time until which it counts as measured, in ms
"""

from redis.asyncio import Redis

from service.adapters.redis.command_runner import CommandRunner
from service.domain.names import SessionId
from service.domain.ports import COMPANION_SEEN, COMPANIONS

# By Redis' own clock, because the clocks of replicas may differ.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# KEYS companions; ARGV browser milliseconds most
_SEEN = f"""{_NOW}
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[3] - 1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

# KEYS companions; ARGV browser; returns 1 when it is connected
_IS_SEEN = f"""{_NOW}
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return 0 end
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
return ends and tonumber(ends) > now and 1 or 0
"""


class RedisCompanions:
    """See `service.domain.ports.Companions`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._run = CommandRunner.shared(redis).run
        self._seen = redis.register_script(_SEEN)
        self._is_seen = redis.register_script(_IS_SEEN)

    async def seen(self, uuid: SessionId, browser: str) -> None:
        milliseconds = int(COMPANION_SEEN.total_seconds() * 1000)
        await self._run(self._seen(keys=[_key(uuid)], args=[browser, milliseconds, COMPANIONS]))

    async def is_seen(self, uuid: SessionId, browser: str) -> bool:
        return bool(await self._run(self._is_seen(keys=[_key(uuid)], args=[browser])))


def _key(uuid: SessionId) -> str:
    return f"user-pods:companions:{uuid}"
