"""The Store on Redis (6.2 or newer, one primary): every change of more than one key is one Lua script.

session:<uuid>          hash   user_id, status, created_at, written_at, released_at, keep_data (times in seconds since
                               1970), and what `redis_queue` notes of activity
user-pods:users         hash   user_id -> uuid, the owners
user-pods:ids           zset   all ids, score 0, so that pages go in their order
user-pods:whole         string present while the index is whole
user-pods:unfinished    hash   uuid -> when its create or delete began, and for a create a space and the user_id
user-pods:progress:<uuid>      what `redis_progress` notes of the last wake
user-pods:history:<uuid>       what `redis_history` keeps of the session's past
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis import records as redis_record
from service.adapters.redis.batch_loader import BatchLoader
from service.adapters.redis.calls import Calls
from service.adapters.redis.locks import RedisLocks
from service.adapters.redis.unreadable_keys import Part
from service.domain.errors import (
    IdTaken,
    IndexIncomplete,
    RedisKeyInvalid,
    SessionNotFound,
    SessionUnreadable,
)
from service.domain.names import SessionId, is_session_id, is_user_id, queue_key, session_key
from service.domain.ports import SessionLock
from service.domain.session import Record

USERS = "user-pods:users"
IDS = "user-pods:ids"
INDEX_COMPLETE = "user-pods:whole"
PENDING = "user-pods:pending"
PROGRESS = "user-pods:progress"
"""Channel on which the id of a session is told when its progress has changed, and the beginning of its key."""
UNFINISHED = "user-pods:unfinished"
_TYPES = {USERS: "hash", IDS: "zset", INDEX_COMPLETE: "string", PENDING: "zset", UNFINISHED: "hash"}
"""The keys that all sessions depend on."""
_AT_ONCE = 100
"""Records read by one script: Redis does nothing else meanwhile."""
NOW = """
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
"""
"""Lua: Redis' own clock is the one that counts: those of the replicas may differ, or jump."""

# KEYS users ids session unfinished; ARGV user candidate
_CLAIM = f"""{NOW}
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if mine then return mine end
if redis.call('ZSCORE', KEYS[2], ARGV[2]) and redis.pcall('HGET', KEYS[3], 'user_id') ~= ARGV[1] then return false end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
redis.call('HSET', KEYS[4], ARGV[2], now .. ' ' .. ARGV[1])
return ARGV[2]
"""

# KEYS users ids session unfinished; ARGV user uuid
_RELEASE_CLAIM = """
if redis.call('EXISTS', KEYS[3]) == 1 or redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[4], ARGV[2])
return redis.call('ZREM', KEYS[2], ARGV[2])
"""

# KEYS users ids session queue pending progress unfinished history; ARGV uuid channel
_FORGET = """
local user = redis.pcall('HGET', KEYS[3], 'user_id')
if type(user) ~= 'string' and redis.call('ZSCORE', KEYS[2], ARGV[1]) then
  -- The record cannot tell whose it is; the owner's entry must not bring the session back to life.
  local owners = redis.call('HGETALL', KEYS[1])
  for at = 2, #owners, 2 do if owners[at] == ARGV[1] then user = owners[at - 1] end end
end
redis.call('DEL', KEYS[3], KEYS[4], KEYS[6], KEYS[8])
redis.call('PUBLISH', ARGV[2], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[7], ARGV[1])
if type(user) == 'string' and redis.call('HGET', KEYS[1], user) == ARGV[1] then redis.call('HDEL', KEYS[1], user) end
return 1
"""

# KEYS session unfinished; ARGV keep_data uuid
_MARK_DELETING = f"""{NOW}
local type = redis.call('TYPE', KEYS[1]).ok
if type == 'none' then return 0 end
if type ~= 'hash' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'status', 'deleting', 'keep_data', ARGV[1])
redis.call('HSET', KEYS[2], ARGV[2], now)
return 1
"""

# KEYS session; ARGV released_at ('' for none)
_NOTE_RELEASED = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return false end
if ARGV[1] == '' then redis.call('HDEL', KEYS[1], 'released_at') return '' end
redis.call('HSETNX', KEYS[1], 'released_at', ARGV[1])
return redis.call('HGET', KEYS[1], 'released_at')
"""

# KEYS unfinished; ARGV seconds limit; returns uuid and user ('' for a delete) of those that nobody is at work on
_UNFINISHED = f"""{NOW}
local found, entries = {{}}, redis.call('HGETALL', KEYS[1])
for at = 1, #entries, 2 do
  if #found >= tonumber(ARGV[2]) then break end
  local since, user = string.match(entries[at + 1], '^([%d.]+) ?(.*)$')
  local old = now - (tonumber(since or '') or 0) >= tonumber(ARGV[1])
  if old and redis.call('EXISTS', 'user-pods:work:' .. entries[at]) == 0 then
    found[#found + 1] = {{entries[at], user or ''}}
  end
end
return found
"""

# KEYS any; returns for each whether it is there
_EXIST = """
local found = {}
for number, key in ipairs(KEYS) do found[number] = redis.call('EXISTS', key) end
return found
"""

# KEYS users ids session unfinished; ARGV user uuid, then fields and values
_SAVE = """
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
if redis.call('TYPE', KEYS[3]).ok ~= 'hash' then redis.call('DEL', KEYS[3]) end
redis.call('HDEL', KEYS[3], 'released_at')
redis.call('HDEL', KEYS[4], ARGV[2])
return redis.call('HSET', KEYS[3], unpack(ARGV, 3))
"""

TRIED = """
local function tried(command, key)
  local reply = redis.pcall(command, key)
  if type(reply) ~= 'table' or not reply.err then return reply, '' end
  if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply.err) end
  return nil, redis.call('TYPE', key).ok
end
"""
"""Lua: the reply to a command, and '' or the type of a key that has the wrong one: of one session, not of its batch."""

# KEYS pending whole; ARGV uuids; returns for each its hash, the queue's length and milliseconds to live, pending since,
# and the types of queue and record where they are wrong; last whether the index is whole. One script: a pipeline of the
# same reads costs the client sixteen times as much.
_READ = f"""{TRIED}
local found = {{}}
for number, uuid in ipairs(ARGV) do
  local queue = 'queue:' .. uuid
  local length, no_list = tried('LLEN', queue)
  local fields, no_hash = tried('HGETALL', 'session:' .. uuid)
  local left, since = redis.call('PTTL', queue), redis.call('ZSCORE', KEYS[1], uuid)
  found[number] = {{fields or {{}}, no_hash, length or 0, left, since, no_list}}
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
        self._release_claim = script(_RELEASE_CLAIM)
        self._forget = script(_FORGET)
        self._mark_deleting = script(_MARK_DELETING)
        self._note_released = script(_NOTE_RELEASED)
        self._unfinished = script(_UNFINISHED)
        self._read = script(_READ)
        self._exist = script(_EXIST)
        self._save = script(_SAVE)
        self._rows = BatchLoader(self._read_rows, most=_AT_ONCE)
        self._faults = Calls.of(redis).faults
        self._leases = RedisLocks(redis)

    @property
    def unreadable(self) -> int:
        return len(self._faults)

    def remark(self) -> str | None:
        """What /health should tell although nothing fails. No names: whoever asks it needs no key."""
        if not len(self._faults):
            return None
        return (
            f"{len(self._faults)} session(s) have keys in Redis that cannot be read, and cannot wake;"
            " `GET /sessions?phase=failed` tells which, and what repairs them"
        )

    async def owner(self, user_id: str) -> SessionId | None:
        async with self._call(), self._redis.pipeline(transaction=False) as pipe:
            uuid, whole = await pipe.hget(USERS, user_id).exists(INDEX_COMPLETE).execute()
        if uuid is None and not whole:
            raise IndexIncomplete
        return _owned(uuid) if uuid else None

    async def claim(self, user_id: str, candidate: SessionId) -> SessionId:
        async with self._call():
            uuid = await self._claim(keys=[USERS, IDS, session_key(candidate), UNFINISHED], args=[user_id, candidate])
        if uuid is None:
            raise IdTaken(candidate)
        return _owned(uuid)

    async def release_claim(self, user_id: str, uuid: SessionId) -> None:
        async with self._call():
            await self._release_claim(keys=[USERS, IDS, session_key(uuid), UNFINISHED], args=[user_id, uuid])

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        found, cursor = [], 0
        while True:
            async with self._call():
                cursor, owners = await self._redis.hscan(USERS, cursor, count=500)
            # Others may have written anything: it is nobody's claim.
            ours = [(SessionId(u), user) for user, u in owners.items() if is_session_id(u) and is_user_id(user)]
            if ours:
                async with self._call():
                    there = await self._exist(keys=[session_key(uuid) for uuid, _ in ours])
                found += [claim for claim, exists in zip(ours, there, strict=True) if not exists]
            if not cursor:
                return found

    async def unfinished(self, age: timedelta, limit: int) -> Sequence[tuple[SessionId, str | None]]:
        async with self._call():
            rows = await self._unfinished(keys=[UNFINISHED], args=[age.total_seconds(), limit])
        return [(SessionId(u), user if is_user_id(user) else None) for u, user in rows if is_session_id(u)]

    async def mark_finished(self, uuid: SessionId) -> None:
        async with self._call():
            await self._redis.hdel(UNFINISHED, uuid)

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
        keys = [USERS, IDS, session_key(record.uuid), UNFINISHED]
        async with self._call():
            pairs = [part for pair in fields.items() for part in pair]
            await self._save(keys=keys, args=[record.user_id, record.uuid, *pairs])

    async def record(self, uuid: SessionId) -> Record:
        async with self._call():  # a read that is under way may have to end first: both within one deadline
            row, whole = await self._rows.one(uuid)
        found = self._records([uuid], [row])
        if not found:
            raise SessionNotFound if whole else IndexIncomplete
        return found[0]

    def _records(self, uuids: Sequence[SessionId], rows: Sequence[Any]) -> Sequence[Record]:
        """The records of those that have one."""
        records = [
            redis_record.record(uuid, redis_record.fields(flat), no_hash, redis_record.queue(uuid, *queue))
            for uuid, (flat, no_hash, *queue) in zip(uuids, rows, strict=True)
            if flat or no_hash
        ]
        self._faults.looked(Part.RECORD, uuids, {r.uuid: r.read_error for r in records if r.read_error})
        self._faults.looked(Part.QUEUE, uuids, {r.uuid: r.queue.read_error for r in records if r.queue.read_error})
        return records

    async def _read_rows(self, uuids: Sequence[SessionId]) -> Sequence[tuple[Any, bool]]:
        """For each what `_READ` tells, and whether the index is whole."""
        async with self._call():
            *rows, whole = await self._read(keys=[PENDING, INDEX_COMPLETE], args=uuids)
        return [(row, bool(whole)) for row in rows]

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        if not uuids:
            return []
        rows = await self._read_rows(uuids)
        return self._records(uuids, [row for row, _ in rows])

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        found: list[SessionId] = []
        last = after or None
        while len(found) < limit:
            low = "-" if last is None else f"({last}"
            async with self._call():
                members = await self._redis.zrangebylex(IDS, low, "+", 0, limit)
            # A member with a score of its own, which others must have given it, breaks the order of all.
            later = [member for member in members if last is None or member > last]
            found += [SessionId(member) for member in later if is_session_id(member)]
            if len(members) < limit or not later:
                break
            last = max(later)
        return found[:limit]

    async def mark_deleting(self, uuid: SessionId, *, keep_data: bool) -> None:
        async with self._call():
            if not await self._mark_deleting(keys=[session_key(uuid), UNFINISHED], args=[int(keep_data), uuid]):
                raise SessionNotFound

    async def note_released(self, uuid: SessionId, at: datetime | None) -> datetime | None:
        async with self._call():
            since = await self._note_released(keys=[session_key(uuid)], args=[at.timestamp() if at else ""])
        if since is None:
            raise SessionNotFound
        return redis_record.moment(since)

    async def forget(self, uuid: SessionId) -> None:
        async with self._call():
            keys = [USERS, IDS, session_key(uuid), queue_key(uuid), PENDING, progress_key(uuid), UNFINISHED]
            keys += [history_key(uuid)]
            await self._forget(keys=keys, args=[uuid, PROGRESS])
        self._faults.gone(uuid)

    async def index_complete(self) -> bool:
        async with self._call():
            return bool(await self._redis.exists(INDEX_COMPLETE))

    async def mark_index_complete(self) -> None:
        async with self._call():
            await self._redis.set(INDEX_COMPLETE, "1")

    def lock(self, uuid: SessionId) -> AbstractAsyncContextManager[SessionLock]:
        return self._leases.held(uuid)

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


def history_key(uuid: SessionId) -> str:
    return f"user-pods:history:{uuid}"


def _owned(uuid: str) -> SessionId:
    if not is_session_id(uuid):
        raise SessionUnreadable(
            f"the user's entry in {USERS} in Redis is no id of a session; `redis-cli HDEL {USERS}` with the user's name"
            " removes it, and a create then finds or makes the session"
        )
    return SessionId(uuid)
