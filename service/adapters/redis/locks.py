"""Session locks in Redis: which replica may run helm for a session.

user-pods:work:<uuid>   string  the holder, with an expiry that the holder extends every second
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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


class RedisLocks:
    """See `service.domain.ports.Store.lock`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._run = CommandRunner.shared(redis).run
        self._acquire = redis.register_script(_ACQUIRE)
        self._extend = redis.register_script(_EXTEND)

    @asynccontextmanager
    async def held(self, uuid: SessionId) -> AsyncIterator["RedisLock"]:
        lock = RedisLock(self, f"user-pods:work:{uuid}", f"{_HOLDER_PREFIX}{secrets.token_hex(8)}")
        times = [int(seconds * 1000) for seconds in (EXPIRY, DOUBT_AFTER, DOUBT_GRACE)]
        if not await self._run(self._acquire(keys=[lock.key], args=[lock.holder, *times, _HOLDER_PREFIX])):
            raise SessionBusy(retry_after=1)
        renewal = asyncio.create_task(self._renew(lock), name=f"renew lock of {uuid}")
        try:
            yield lock
        finally:
            renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewal
            # If Redis is unavailable now, the lock expires.
            with contextlib.suppress(RedisUnavailable):
                await self.extend(lock.key, lock.holder, 0)

    async def _renew(self, lock: "RedisLock") -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            with contextlib.suppress(RedisUnavailable):
                if not await self.extend(lock.key, lock.holder, EXPIRY):
                    return  # the lock is lost, and `confirm` raises

    async def extend(self, key: str, holder: str, seconds: float) -> bool:
        """Let the lock expire in that many seconds; 0 releases it. Returns False when another process holds it."""
        return bool(await self._run(self._extend(keys=[key], args=[holder, int(seconds * 1000)])))


class RedisLock:
    """See `service.domain.ports.SessionLock`."""

    def __init__(self, locks: RedisLocks, key: str, holder: str) -> None:
        self._locks = locks
        self.key = key
        self.holder = holder

    async def confirm(self) -> None:
        if not await self._locks.extend(self.key, self.holder, EXPIRY):
            raise SessionBusy("another process has taken over the work on this session", retry_after=1)
