"""The Store on Redis (6.2 or newer, one primary): every change of more than one key is one Lua script.

session:<uuid>          hash   user_id, status, created_at, last_activity, keep_data (times in seconds since 1970)
queue:<uuid>            list   wake tokens; KEDA counts them; its expiry is the lease
user-pods:users         hash   user_id -> uuid, the owners
user-pods:ids           zset   all ids, score 0, so that pages go in their order
user-pods:whole         string present while the index is whole
user-pods:work:<uuid>   string the work lease's holder
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.domain.errors import (
    IdTaken,
    IndexIncomplete,
    RedisUnavailable,
    SessionBusy,
    SessionDeleting,
    SessionNotFound,
)
from service.domain.names import SessionId, queue_key, session_key
from service.domain.session import Record, RecordStatus

USERS = "user-pods:users"
IDS = "user-pods:ids"
WHOLE = "user-pods:whole"
QUEUE_LIMIT = 3
"""Tokens kept in a queue: one would do, more show an operator that wakes arrive."""
WORK_LEASE = timedelta(seconds=15)
"""A crashed holder's lease lasts at most this long; a living one renews it three times as often."""

# KEYS users ids session whole; ARGV user candidate
_CLAIM = """
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if mine then return mine end
if redis.call('ZSCORE', KEYS[2], ARGV[2]) and redis.call('HGET', KEYS[3], 'user_id') ~= ARGV[1] then return false end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
return ARGV[2]
"""

# KEYS users ids session; ARGV user uuid
_DISCLAIM = """
if redis.call('EXISTS', KEYS[3]) == 1 or redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
return redis.call('ZREM', KEYS[2], ARGV[2])
"""

# KEYS users ids session queue; ARGV uuid
_FORGET = """
local user = redis.call('HGET', KEYS[3], 'user_id')
redis.call('DEL', KEYS[3], KEYS[4])
redis.call('ZREM', KEYS[2], ARGV[1])
if user and redis.call('HGET', KEYS[1], user) == ARGV[1] then redis.call('HDEL', KEYS[1], user) end
return 1
"""

# KEYS session queue; ARGV lease-milliseconds limit now; returns the queue's length, -1 unknown, -2 deleting
_WAKE = """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return -1 end
if status == 'deleting' then return -2 end
redis.call('RPUSH', KEYS[2], ARGV[3])
redis.call('LTRIM', KEYS[2], -ARGV[2], -1)
redis.call('PEXPIRE', KEYS[2], ARGV[1])
redis.call('HSET', KEYS[1], 'last_activity', ARGV[3])
return redis.call('LLEN', KEYS[2])
"""

# KEYS session; ARGV keep_data
_DELETING = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'status', 'deleting', 'keep_data', ARGV[1])
return 1
"""

# KEYS lease; ARGV holder milliseconds (0: give it back)
_KEEP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise RedisUnavailable from error


class RedisStore:
    """See `service.domain.ports.Store`. `lease` is how long one wake keeps the queue non-empty."""

    def __init__(self, redis: "Redis[str] | Redis", *, lease: timedelta) -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._lease = lease
        script = redis.register_script
        self._claim = script(_CLAIM)
        self._disclaim = script(_DISCLAIM)
        self._forget = script(_FORGET)
        self._wake = script(_WAKE)
        self._deleting = script(_DELETING)
        self._keep = script(_KEEP)

    async def owner(self, user_id: str) -> SessionId | None:
        async with _translated(), self._redis.pipeline(transaction=False) as pipe:
            uuid, whole = await pipe.hget(USERS, user_id).exists(WHOLE).execute()
        if uuid is None and not whole:
            raise IndexIncomplete
        return SessionId(uuid) if uuid else None

    async def claim(self, user_id: str, candidate: SessionId) -> SessionId:
        async with _translated():
            uuid = await self._claim(keys=[USERS, IDS, session_key(candidate)], args=[user_id, candidate])
        if uuid is None:
            raise IdTaken(candidate)
        return SessionId(uuid)

    async def disclaim(self, user_id: str, uuid: SessionId) -> None:
        async with _translated():
            await self._disclaim(keys=[USERS, IDS, session_key(uuid)], args=[user_id, uuid])

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        found = []
        async with _translated():
            async for user_id, uuid in self._redis.hscan_iter(USERS, count=1000):
                if not await self._redis.exists(session_key(uuid)):
                    found.append((SessionId(uuid), user_id))
        return found

    async def save(self, record: Record) -> None:
        fields = {
            "user_id": record.user_id,
            "status": record.status.value,
            "created_at": record.created_at.timestamp(),
            "keep_data": int(record.keep_data),
        }
        if record.last_activity:
            fields["last_activity"] = record.last_activity.timestamp()
        async with _translated(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hsetnx(USERS, record.user_id, record.uuid).zadd(IDS, {record.uuid: 0})
            await pipe.hset(session_key(record.uuid), mapping=fields).execute()

    async def record(self, uuid: SessionId) -> Record:
        async with _translated(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(session_key(uuid)).llen(queue_key(uuid))
            fields, length, whole = await pipe.exists(WHOLE).execute()
        if not fields:
            raise SessionNotFound if whole else IndexIncomplete
        return _record(uuid, fields, length)

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        if not uuids:
            return []
        async with _translated(), self._redis.pipeline(transaction=False) as pipe:
            for uuid in uuids:
                pipe.hgetall(session_key(uuid)).llen(queue_key(uuid))
            answers = await pipe.execute()
        pairs = zip(uuids, answers[::2], answers[1::2], strict=True)
        return [_record(uuid, fields, length) for uuid, fields, length in pairs if fields]

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        async with _translated():
            low = f"({after}" if after else "-"
            return [SessionId(uuid) for uuid in await self._redis.zrangebylex(IDS, low, "+", 0, limit)]

    async def deleting(self, uuid: SessionId, *, keep_data: bool) -> None:
        async with _translated():
            if not await self._deleting(keys=[session_key(uuid)], args=[int(keep_data)]):
                raise SessionNotFound

    async def forget(self, uuid: SessionId) -> None:
        async with _translated():
            await self._forget(keys=[USERS, IDS, session_key(uuid), queue_key(uuid)], args=[uuid])

    async def wake(self, uuid: SessionId) -> int:
        milliseconds = int(self._lease.total_seconds() * 1000)
        async with _translated():
            length = await self._wake(
                keys=[session_key(uuid), queue_key(uuid)], args=[milliseconds, QUEUE_LIMIT, time.time()]
            )
        if length == -1:
            raise SessionNotFound
        if length == -2:
            raise SessionDeleting
        return int(length)

    async def hush(self, uuid: SessionId) -> None:
        async with _translated():
            await self._redis.delete(queue_key(uuid))

    async def whole(self) -> bool:
        async with _translated():
            return bool(await self._redis.exists(WHOLE))

    async def mark_whole(self) -> None:
        async with _translated():
            await self._redis.set(WHOLE, "1")

    @asynccontextmanager
    async def working(self, uuid: SessionId) -> AsyncIterator[None]:
        key, holder = f"user-pods:work:{uuid}", secrets.token_hex(8)
        milliseconds = int(WORK_LEASE.total_seconds() * 1000)
        async with _translated():
            if not await self._redis.set(key, holder, nx=True, px=milliseconds):
                raise SessionBusy(retry_after=1)
        renewal = asyncio.create_task(self._renew(key, holder, milliseconds))
        try:
            yield
        finally:
            renewal.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewal
            # A Redis that is away now lets the lease run out by itself.
            with contextlib.suppress(RedisUnavailable):
                async with _translated():
                    await self._keep(keys=[key], args=[holder, 0])

    async def _renew(self, key: str, holder: str, milliseconds: int) -> None:
        while True:
            await asyncio.sleep(WORK_LEASE.total_seconds() / 3)
            with contextlib.suppress(RedisUnavailable):
                async with _translated():
                    await self._keep(keys=[key], args=[holder, milliseconds])

    async def ping(self) -> None:
        async with _translated():
            # A write, so that a replica or a full Redis counts as the failure that it is.
            await self._redis.set("user-pods:ping", "1", px=1000)


def _record(uuid: SessionId, fields: dict[str, str], length: int) -> Record:
    return Record(
        uuid,
        fields.get("user_id", ""),
        RecordStatus(fields.get("status", "created")),
        created_at=_time(fields.get("created_at")) or datetime.fromtimestamp(0, UTC),
        last_activity=_time(fields.get("last_activity")),
        keep_data=fields.get("keep_data", "1") == "1",
        queue_length=length,
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromtimestamp(float(text), UTC) if text else None
