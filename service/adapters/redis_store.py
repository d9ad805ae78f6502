"""The Store on Redis (6.2 or newer, one primary): every change of more than one key is one Lua script.

session:<uuid>          hash   user_id, status, created_at, written_at, released_at, keep_data (times in seconds since
                               1970), and what `redis_queue` notes of activity
user-pods:users         hash   user_id -> uuid, the owners
user-pods:ids           zset   all ids, score 0, so that pages go in their order
user-pods:whole         string present while the index is whole
user-pods:work:<uuid>   string the work lease's holder
user-pods:progress:<uuid>      what `redis_progress` notes of the last wake
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from service.adapters.gathering import Gathering
from service.adapters.redis_calls import Calls
from service.domain.errors import (
    IdTaken,
    IndexIncomplete,
    RedisKeyInvalid,
    RedisUnavailable,
    SessionBusy,
    SessionNotFound,
)
from service.domain.names import SessionId, queue_key, session_key
from service.domain.session import Pulse, Record, RecordStatus, SleepAsked

USERS = "user-pods:users"
IDS = "user-pods:ids"
WHOLE = "user-pods:whole"
PENDING = "user-pods:pending"
PROGRESS = "user-pods:progress"
"""Channel on which the id of a session is told when its progress has changed, and the beginning of its key."""
_TYPES = {USERS: "hash", IDS: "zset", WHOLE: "string", PENDING: "zset"}
"""The keys that all sessions depend on."""
_AT_ONCE = 100
"""Records read by one script: Redis does nothing else meanwhile."""
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

# KEYS users ids session queue pending progress; ARGV uuid channel
_FORGET = """
local user = redis.call('HGET', KEYS[3], 'user_id')
redis.call('DEL', KEYS[3], KEYS[4], KEYS[6])
redis.call('PUBLISH', ARGV[2], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if user and redis.call('HGET', KEYS[1], user) == ARGV[1] then redis.call('HDEL', KEYS[1], user) end
return 1
"""

# KEYS session; ARGV keep_data
_DELETING = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'status', 'deleting', 'keep_data', ARGV[1])
return 1
"""

# KEYS session; ARGV released_at ('' for none)
_RELEASED = """
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
if ARGV[1] == '' then redis.call('HDEL', KEYS[1], 'released_at') return '' end
redis.call('HSETNX', KEYS[1], 'released_at', ARGV[1])
return redis.call('HGET', KEYS[1], 'released_at')
"""

# KEYS lease; ARGV holder milliseconds (0: give it back)
_KEEP = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] == '0' then return redis.call('DEL', KEYS[1]) end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""

# KEYS pending whole; ARGV uuids; returns for each its hash, the queue's length and milliseconds to live, pending since,
# and last whether the index is whole. One script: a pipeline of the same reads costs the client sixteen times as much.
_READ = """
local found = {}
for number, uuid in ipairs(ARGV) do
  local queue = 'queue:' .. uuid
  local length, left, since = redis.call('LLEN', queue), redis.call('PTTL', queue), redis.call('ZSCORE', KEYS[1], uuid)
  found[number] = {redis.call('HGETALL', 'session:' .. uuid), length, left, since}
end
found[#found + 1] = redis.call('EXISTS', KEYS[2])
return found
"""


class RedisStore:
    """See `service.domain.ports.Store`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._call = Calls.of(redis).call
        script = redis.register_script
        self._claim = script(_CLAIM)
        self._disclaim = script(_DISCLAIM)
        self._forget = script(_FORGET)
        self._deleting = script(_DELETING)
        self._released = script(_RELEASED)
        self._keep = script(_KEEP)
        self._read = script(_READ)
        self._rows = Gathering(self._read_rows, most=_AT_ONCE)

    async def owner(self, user_id: str) -> SessionId | None:
        async with self._call(), self._redis.pipeline(transaction=False) as pipe:
            uuid, whole = await pipe.hget(USERS, user_id).exists(WHOLE).execute()
        if uuid is None and not whole:
            raise IndexIncomplete
        return SessionId(uuid) if uuid else None

    async def claim(self, user_id: str, candidate: SessionId) -> SessionId:
        async with self._call():
            uuid = await self._claim(keys=[USERS, IDS, session_key(candidate)], args=[user_id, candidate])
        if uuid is None:
            raise IdTaken(candidate)
        return SessionId(uuid)

    async def disclaim(self, user_id: str, uuid: SessionId) -> None:
        async with self._call():
            await self._disclaim(keys=[USERS, IDS, session_key(uuid)], args=[user_id, uuid])

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        found = []
        async with self._call():
            async for user_id, uuid in self._redis.hscan_iter(USERS, count=1000):
                if not await self._redis.exists(session_key(uuid)):
                    found.append((SessionId(uuid), user_id))
        return found

    async def save(self, record: Record) -> None:
        fields: dict[str, str | float] = {
            "user_id": record.user_id,
            "status": record.status.value,
            "created_at": record.created_at.timestamp(),
            "keep_data": int(record.keep_data),
        }
        for name, moment in (("written_at", record.written_at), ("last_activity", record.last_activity)):
            if moment:
                fields[name] = moment.timestamp()
        if record.activity_source:
            fields["activity_source"] = record.activity_source
        async with self._call(), self._redis.pipeline(transaction=True) as pipe:
            pipe.hsetnx(USERS, record.user_id, record.uuid).zadd(IDS, {record.uuid: 0})
            pipe.hdel(session_key(record.uuid), "released_at")
            await pipe.hset(session_key(record.uuid), mapping=fields).execute()

    async def record(self, uuid: SessionId) -> Record:
        async with self._call():  # a read that is under way may have to end first: both within one deadline
            row, whole = await self._rows.one(uuid)
        if not row[0]:
            raise SessionNotFound if whole else IndexIncomplete
        return _record(uuid, *row)

    async def _read_rows(self, uuids: Sequence[SessionId]) -> Sequence[tuple[Any, bool]]:
        """For each what `_READ` tells, and whether the index is whole."""
        async with self._call():
            *rows, whole = await self._read(keys=[PENDING, WHOLE], args=uuids)
        return [(row, bool(whole)) for row in rows]

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        if not uuids:
            return []
        rows = await self._read_rows(uuids)
        return [_record(uuid, *row) for uuid, (row, _) in zip(uuids, rows, strict=True) if row[0]]

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        async with self._call():
            low = f"({after}" if after else "-"
            return [SessionId(uuid) for uuid in await self._redis.zrangebylex(IDS, low, "+", 0, limit)]

    async def deleting(self, uuid: SessionId, *, keep_data: bool) -> None:
        async with self._call():
            if not await self._deleting(keys=[session_key(uuid)], args=[int(keep_data)]):
                raise SessionNotFound

    async def released(self, uuid: SessionId, at: datetime | None) -> datetime | None:
        async with self._call():
            since = await self._released(keys=[session_key(uuid)], args=[at.timestamp() if at else ""])
        if since is None:
            raise SessionNotFound
        return _time(since)

    async def forget(self, uuid: SessionId) -> None:
        async with self._call():
            keys = [USERS, IDS, session_key(uuid), queue_key(uuid), PENDING, progress_key(uuid)]
            await self._forget(keys=keys, args=[uuid, PROGRESS])

    async def whole(self) -> bool:
        async with self._call():
            return bool(await self._redis.exists(WHOLE))

    async def mark_whole(self) -> None:
        async with self._call():
            await self._redis.set(WHOLE, "1")

    @asynccontextmanager
    async def working(self, uuid: SessionId) -> AsyncIterator[None]:
        key, holder = f"user-pods:work:{uuid}", secrets.token_hex(8)
        milliseconds = int(WORK_LEASE.total_seconds() * 1000)
        async with self._call():
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
                async with self._call():
                    await self._keep(keys=[key], args=[holder, 0])

    async def _renew(self, key: str, holder: str, milliseconds: int) -> None:
        while True:
            await asyncio.sleep(WORK_LEASE.total_seconds() / 3)
            with contextlib.suppress(RedisUnavailable):
                async with self._call():
                    await self._keep(keys=[key], args=[holder, milliseconds])

    async def ping(self) -> None:
        async with self._call():
            # A write, so that a replica or a full Redis counts as the failure that it is.
            await self._redis.set("user-pods:ping", "1", px=1000)
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in _TYPES:
                    pipe.type(key)
                types = await pipe.execute()
        if wrong := [key for key, found in zip(_TYPES, types, strict=True) if found not in (_TYPES[key], "none")]:
            raise RedisKeyInvalid(f"{', '.join(wrong)}: {RedisKeyInvalid.message}")


def progress_key(uuid: SessionId) -> str:
    return f"{PROGRESS}:{uuid}"


def _record(uuid: SessionId, flat: Sequence[str], length: int, left: int, since: str | None) -> Record:
    """From a hash as names and values in turn, and what else `_READ` tells."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    return Record(
        uuid,
        fields.get("user_id", ""),
        RecordStatus(fields.get("status", "created")),
        created_at=_time(fields.get("created_at")) or datetime.fromtimestamp(0, UTC),
        written_at=_time(fields.get("written_at")),
        last_activity=_time(fields.get("last_activity")),
        activity_source=fields.get("activity_source"),
        kept_until=_time(fields.get("kept_until")),
        sleep_asked=_sleep_asked(fields),
        released_at=_time(fields.get("released_at")),
        keep_data=fields.get("keep_data", "1") == "1",
        pulse=pulse(length, left, since),
    )


def _sleep_asked(fields: Mapping[str, str]) -> SleepAsked | None:
    at = _time(fields.get("sleep_asked_at"))
    return SleepAsked(at, fields.get("sleep_asked_in")) if at else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromtimestamp(float(text), UTC) if text else None


def pulse(length: int, left: int, since: str | float | None) -> Pulse:
    """From a queue's length, its milliseconds to live (-1 without an expiry), and the pending wake's score."""
    until = datetime.now(UTC) + timedelta(milliseconds=left) if length and left >= 0 else None
    pending = datetime.fromtimestamp(float(since), UTC) if since not in (None, "") else None
    return Pulse(length, until, pending)
