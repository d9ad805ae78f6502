"""Work leases in Redis: who of the replicas may run helm for a session.

user-pods:work:<uuid>   string  the holder, with an expiry that it renews every second
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis

from service.adapters.redis.calls import Calls
from service.domain.errors import RedisUnavailable, SessionBusy
from service.domain.names import SessionId

LIFE = 15.0
"""Seconds that a lease lasts without being renewed: a Redis that is away for less takes it from nobody."""
RENEWAL = 1.0
STALE = 3.0
"""Seconds without a renewal after which its holder is doubted by whoever waits."""
GRACE = 2.0
"""Seconds that a doubted holder has to renew it; a living one does within `RENEWAL`."""
_OURS = "renewed:"
"""Begins a holder's name: one of a version that renews less often is not doubted."""

# KEYS lease; ARGV holder life stale grace prefix (times in milliseconds); whether the lease was taken. A lease whose
# holder is doubted is not taken but shortened, and one that could never end is too: a wait finds out which of the
# holders lives, also after an absence of Redis in which nobody could renew.
_TAKE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
local holder, left = redis.pcall('GET', KEYS[1]), redis.call('PTTL', KEYS[1])
local life, stale, grace = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local ours = type(holder) == 'string' and string.sub(holder, 1, #ARGV[5]) == ARGV[5]
local doubted = ours and left > grace and left <= life - stale
if doubted or left < 0 or left > life then redis.call('PEXPIRE', KEYS[1], ARGV[4]) end
return 0
"""

# KEYS lease; ARGV holder milliseconds (0: give it back); whether it was held
_KEEP = """
if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


class RedisLocks:
    """See `Store.working`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._call = Calls.of(redis).call
        self._take = redis.register_script(_TAKE)
        self._keep = redis.register_script(_KEEP)

    @asynccontextmanager
    async def held(self, uuid: SessionId) -> AsyncIterator["RedisLock"]:
        lease = RedisLock(self, f"user-pods:work:{uuid}", f"{_OURS}{secrets.token_hex(8)}")
        if not await self.take(lease.key, lease.holder):
            raise SessionBusy(retry_after=1)
        renewal = asyncio.create_task(self._renew(lease))
        try:
            yield lease
        finally:
            renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewal
            # A Redis that is away now lets the lease run out by itself.
            with contextlib.suppress(RedisUnavailable):
                await self.keep(lease.key, lease.holder, 0)

    async def _renew(self, lease: "RedisLock") -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            with contextlib.suppress(RedisUnavailable):
                if not await self.keep(lease.key, lease.holder, LIFE):
                    return  # `confirm` tells whoever works under it

    async def take(self, key: str, holder: str) -> bool:
        times = [int(seconds * 1000) for seconds in (LIFE, STALE, GRACE)]
        async with self._call():
            return bool(await self._take(keys=[key], args=[holder, *times, _OURS]))

    async def keep(self, key: str, holder: str, seconds: float) -> bool:
        async with self._call():
            return bool(await self._keep(keys=[key], args=[holder, int(seconds * 1000)]))


class RedisLock:
    """See `service.domain.ports.SessionLock`."""

    def __init__(self, leases: RedisLocks, key: str, holder: str) -> None:
        self._leases = leases
        self.key = key
        self.holder = holder

    async def confirm(self) -> None:
        if not await self._leases.keep(self.key, self.holder, LIFE):
            raise SessionBusy("another process has taken over the work on this session", retry_after=1)
