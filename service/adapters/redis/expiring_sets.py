"""Sets of names whose members each expire on their own: a zset per session, with the end of each life in ms."""

from datetime import timedelta

from redis.asyncio import Redis

from service.adapters.redis.command_runner import CommandRunner
from service.domain.names import SessionId

# By Redis' own clock, because the clocks of replicas may differ.
_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

# KEYS set; ARGV member milliseconds most
_PUT = f"""{_NOW}
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then redis.call('DEL', KEYS[1]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -ARGV[3] - 1)
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
"""

# KEYS set; ARGV member; returns 1 when it lives
_HAS = f"""{_NOW}
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return 0 end
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
return ends and tonumber(ends) > now and 1 or 0
"""

# KEYS set; returns 1 when any member lives
_ANY = f"""{_NOW}
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return 0 end
return redis.call('ZCOUNT', KEYS[1], '(' .. now, '+inf') > 0 and 1 or 0
"""

# As _HAS, and removes it
_TAKE = f"""{_NOW}
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then return 0 end
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return ends and tonumber(ends) > now and 1 or 0
"""


class ExpiringSets:
    """The sets at `<prefix>:<uuid>`, each of the `most` members that live longest."""

    def __init__(self, redis: "Redis[str] | Redis", prefix: str, most: int) -> None:  # type: ignore[type-arg]
        self._run = CommandRunner.shared(redis).run
        self._prefix = prefix
        self._most = most
        self._put = redis.register_script(_PUT)
        self._has = redis.register_script(_HAS)
        self._any = redis.register_script(_ANY)
        self._take = redis.register_script(_TAKE)

    async def put(self, uuid: SessionId, member: str, life: timedelta) -> None:
        """Add a member, or let it live anew."""
        milliseconds = int(life.total_seconds() * 1000)
        await self._run(self._put(keys=[self._key(uuid)], args=[member, milliseconds, self._most]))

    async def has(self, uuid: SessionId, member: str) -> bool:
        return bool(await self._run(self._has(keys=[self._key(uuid)], args=[member])))

    async def is_empty(self, uuid: SessionId) -> bool:
        return not await self._run(self._any(keys=[self._key(uuid)]))

    async def take(self, uuid: SessionId, member: str) -> bool:
        """Remove a member; whether it lived."""
        return bool(await self._run(self._take(keys=[self._key(uuid)], args=[member])))

    def _key(self, uuid: SessionId) -> str:
        return f"{self._prefix}:{uuid}"
