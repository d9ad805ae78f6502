"""Session locks in Redis: which replica may run helm for a session.

user-pods:work:<uuid>   string  the holder, with an expiry that the holder extends every second
"""

import asyncio
import contextlib
import secrets
from typing import Self

from redis.asyncio import Redis

from service.adapters.redis.command_runner import CommandRunner
from service.domain.errors import RedisUnavailable, SessionBusy
from service.domain.names import SessionId

EXPIRY = 15.0
"""Seconds after which a lock that is not renewed expires. No holder loses its lock in a shorter Redis outage."""
RENEWAL = 1.0
"""Seconds between two renewals."""
DOUBT_AFTER = 3.0
"""Seconds without a renewal after which another replica that wants the lock suspects that its holder is dead."""
DOUBT_GRACE = 2.0
"""Seconds that a suspected holder has to renew the lock; a live one does so within `RENEWAL`."""
_HOLDER_PREFIX = "renewed:"
"""A holder without this prefix is of a version that renews less often, and is not suspected."""

# KEYS lock; ARGV holder expiry doubt-after doubt-grace prefix (times in milliseconds). Returns 1 when the lock was
# acquired. A lock whose holder is suspected, or that would never expire, is not taken but shortened. So a live holder
# can renew it in time, also after an outage of Redis in which nobody could.
_ACQUIRE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
local holder, left = redis.pcall('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
local life, stale, grace = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ours = type(holder) == 'string' and string.sub(holder, 1, #ARGV[5]) == ARGV[5]
local doubted = ours and left > grace and left <= life - stale
if doubted or left < 0 or left > life then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 0
"""

# KEYS lock; ARGV holder milliseconds (0: release). Returns 0 when another process holds it.
_EXTEND = """
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


class RedisLock:
    """See `service.domain.ports.SessionLock`. Holds the lock within a context, once."""

    def __init__(self, redis: "Redis[str] | Redis", uuid: SessionId) -> None:  # type: ignore[type-arg]
        self._run = CommandRunner.shared(redis).run
        self._acquire, self._extend = redis.register_script(_ACQUIRE), redis.register_script(_EXTEND)
        self._key, self._holder = f"user-pods:work:{uuid}", f"{_HOLDER_PREFIX}{secrets.token_hex(8)}"

    async def __aenter__(self) -> Self:
        times = [int(seconds * 1000) for seconds in (EXPIRY, DOUBT_AFTER, DOUBT_GRACE)]
        if not await self._run(self._acquire(keys=[self._key], args=[self._holder, *times, _HOLDER_PREFIX])):
            raise SessionBusy(retry_after=1)
        self._renewal = asyncio.create_task(self._renew(), name=f"renew {self._key}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._renewal.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._renewal
        # If Redis is unavailable now, the lock expires.
        with contextlib.suppress(RedisUnavailable):
            await self._expire_in(0)

    async def confirm(self) -> None:
        if not await self._expire_in(EXPIRY):
            raise SessionBusy("another process has taken over the work on this session", retry_after=1)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            with contextlib.suppress(RedisUnavailable):
                if not await self._expire_in(EXPIRY):
                    return  # the lock is lost, and `confirm` raises

    async def _expire_in(self, seconds: float) -> bool:
        """Let the lock expire in that many seconds; 0 releases it. Returns False when another process holds it."""
        return bool(await self._run(self._extend(keys=[self._key], args=[self._holder, int(seconds * 1000)])))
