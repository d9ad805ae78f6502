"""The Store port on Redis (6.2 or newer, one primary). Every change of more than one key is one Lua script.

session:<uuid>          hash   user_id, status, created_at, written_at, released_at, keep_data, expired (times in
                               seconds since 1970), and the activity that `queues` writes
user-pods:users         hash   user_id -> uuid, the owners
user-pods:ids           zset   all ids, score 0, so that pages are in the order of the ids
user-pods:whole         string present while the index is complete
user-pods:unfinished    hash   uuid -> when its create or delete began; for a create, the user_id and what it wants (see
                               `wishes`) follow, each after a space
user-pods:progress:<uuid>      the last wake, see `progress`
user-pods:history:<uuid>       the session's past, see `history`
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis import records
from service.adapters.redis.batch_loader import BatchLoader
from service.adapters.redis.command_runner import CommandRunner
from service.adapters.redis.locks import RedisLock
from service.adapters.redis.unreadable_keys import Part
from service.adapters.redis.wishes import from_text, to_text
from service.domain.errors import (
    IdTaken,
    IndexIncomplete,
    RedisKeyInvalid,
    SessionInUse,
    SessionNotFound,
    SessionUnreadable,
)
from service.domain.expiry import Expired, ExpiryWarning
from service.domain.names import SessionId, is_session_id, is_user_id, queue_key, session_key
from service.domain.ports import SessionLock
from service.domain.record import Record
from service.domain.wanted import NOTHING_WANTED, Wanted

USERS = "user-pods:users"
IDS = "user-pods:ids"
INDEX_COMPLETE = "user-pods:whole"
PENDING = "user-pods:pending"
PROGRESS = "user-pods:progress"
"""The channel that carries the id of a session whose progress has changed, and the prefix of its key."""
UNFINISHED = "user-pods:unfinished"
EXPIRY = "user-pods:expiry"
"""When sessions were last checked for expiry (`last`), and since when that has had no gap (`since`)."""
_TYPES = {USERS: "hash", IDS: "zset", INDEX_COMPLETE: "string", PENDING: "zset", UNFINISHED: "hash"}
"""The types of the keys that all sessions depend on."""
_BATCH_SIZE = 100
"""Records per script call: Redis does nothing else while a script runs."""
NOW = """
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])
"""
"""Lua: the time by Redis' own clock, because the clocks of replicas may differ or jump."""

# KEYS users ids session unfinished; ARGV user candidate wanted
_CLAIM = f"""{NOW}
local mine = redis.call('HGET', KEYS[1], ARGV[1])
if mine then return mine end
if redis.call('ZSCORE', KEYS[2], ARGV[2]) and redis.pcall('HGET', KEYS[3], 'user_id') ~= ARGV[1] then return false end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
redis.call('HSET', KEYS[4], ARGV[2], now .. ' ' .. ARGV[1] .. ARGV[3])
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
  -- The record cannot say whose it is. Find the owner's entry: left behind, it would bring the session back.
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

# KEYS session unfinished queue pending; ARGV keep_data uuid, and for one that has expired: warning idle_since ('' if
# that does not matter) reason. Returns 1, 0 when there is no such session, and -1 when it has not expired any more.
_MARK_DELETING = f"""{NOW}
local type = redis.call('TYPE', KEYS[1]).ok
if type == 'none' then return 0 end
if ARGV[3] ~= '' then
  if type ~= 'hash' or redis.call('HGET', KEYS[1], 'status') ~= 'created' then return -1 end
  if redis.call('HGET', KEYS[1], 'deletion_warning') ~= ARGV[3] then return -1 end
  local spared = tonumber(redis.call('HGET', KEYS[1], 'spared_until') or '')
  if spared and spared > tonumber(now) then return -1 end
end
if ARGV[4] ~= '' then
  if redis.call('EXISTS', KEYS[3]) == 1 or redis.call('ZSCORE', KEYS[4], ARGV[2]) then return -1 end
  for _, name in ipairs({{'last_activity', 'last_output', 'kept_until'}}) do
    local at = tonumber(redis.call('HGET', KEYS[1], name) or '')
    if at and at > tonumber(ARGV[4]) then return -1 end
  end
end
if type ~= 'hash' then redis.call('DEL', KEYS[1]) end
if redis.call('HGET', KEYS[1], 'status') ~= 'deleting' then redis.call('HSET', KEYS[1], 'deleting_since', now) end
redis.call('HSET', KEYS[1], 'status', 'deleting', 'keep_data', ARGV[1])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'expired', ARGV[5]) end
redis.call('HSET', KEYS[2], ARGV[2], now)
return 1
"""

# KEYS session; ARGV warning ('' for none)
_NOTE_WARNING = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
if ARGV[1] == '' then return redis.call('HDEL', KEYS[1], 'deletion_warning') end
return redis.call('HSET', KEYS[1], 'deletion_warning', ARGV[1])
"""

# KEYS expiry; ARGV gap-seconds, a time that a round was noted at ('' for none)
_NOTE_ROUND = f"""{NOW}
local since, last = unpack(redis.call('HMGET', KEYS[1], 'since', 'last'))
since, last = tonumber(since or ''), tonumber(last or '')
local passed = last and now - last
local lost = ARGV[2] ~= '' and not (last and last >= tonumber(ARGV[2]))
if lost or not (since and passed and passed >= 0 and passed <= tonumber(ARGV[1])) then
  since = now
  redis.call('HSET', KEYS[1], 'since', now)
end
redis.call('HSET', KEYS[1], 'last', now)
return {{string.format('%.6f', since), now}}
"""

# KEYS session; ARGV released_at ('' for none)
_NOTE_RELEASED = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return false end
if ARGV[1] == '' then redis.call('HDEL', KEYS[1], 'released_at') return '' end
redis.call('HSETNX', KEYS[1], 'released_at', ARGV[1])
return redis.call('HGET', KEYS[1], 'released_at')
"""

# KEYS unfinished; ARGV seconds limit; returns uuid and user ('' for a delete) of those whose lock nobody holds
_UNFINISHED = f"""{NOW}
local found, entries = {{}}, redis.call('HGETALL', KEYS[1])
for at = 1, #entries, 2 do
  if #found >= tonumber(ARGV[2]) then break end
  local since, user = string.match(entries[at + 1], '^([%d.]+) ?(%S*)')
  local old = now - (tonumber(since or '') or 0) >= tonumber(ARGV[1])
  if old and redis.call('EXISTS', 'user-pods:work:' .. entries[at]) == 0 then
    found[#found + 1] = {{entries[at], user or ''}}
  end
end
return found
"""

# KEYS users ids session unfinished; ARGV user uuid, then fields and values
_SAVE = """
redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
if redis.call('TYPE', KEYS[3]).ok ~= 'hash' then redis.call('DEL', KEYS[3]) end
redis.call('HDEL', KEYS[3], 'released_at', 'deleting_since', 'expired')
redis.call('HDEL', KEYS[4], ARGV[2])
return redis.call('HSET', KEYS[3], unpack(ARGV, 3))
"""

TRY_READ = """
local function try_read(command, key)
  local reply = redis.pcall(command, key)
  if type(reply) ~= 'table' or not reply.err then return reply, '' end
  if not string.find(reply.err, 'WRONGTYPE', 1, true) then error(reply.err) end
  return nil, redis.call('TYPE', key).ok
end
"""
"""Lua: the reply to a command and '', or nil and the key's type when that is wrong. One bad key fails no batch."""

# KEYS pending whole; ARGV uuids. Returns for each its hash, the type of a record that is not a hash, the queue's
# length, its milliseconds to live, pending since, and the type of a queue that is not a list; last, whether the index
# is complete. A pipeline of the same reads would cost the client sixteen times as much as this script.
_READ = f"""{TRY_READ}
local found = {{}}
for number, uuid in ipairs(ARGV) do
  local queue = 'queue:' .. uuid
  local length, no_list = try_read('LLEN', queue)
  local fields, no_hash = try_read('HGETALL', 'session:' .. uuid)
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
        runner = CommandRunner.shared(redis)
        self._call, self._run, self._unreadable = runner.call, runner.run, runner.unreadable
        script = redis.register_script
        self._claim = script(_CLAIM)
        self._release_claim = script(_RELEASE_CLAIM)
        self._forget = script(_FORGET)
        self._mark_deleting = script(_MARK_DELETING)
        self._note_warning = script(_NOTE_WARNING)
        self._note_round = script(_NOTE_ROUND)
        self._note_released = script(_NOTE_RELEASED)
        self._unfinished = script(_UNFINISHED)
        self._read = script(_READ)
        self._save = script(_SAVE)
        self._rows = BatchLoader(self._read_rows, batch_size=_BATCH_SIZE)

    @property
    def unreadable(self) -> int:
        return len(self._unreadable)

    def remark(self) -> str | None:
        """A remark for /health about unreadable sessions. It names none, because /health needs no key."""
        if not len(self._unreadable):
            return None
        return (
            f"{len(self._unreadable)} session(s) have keys in Redis that cannot be read, and cannot wake;"
            " `GET /sessions?phase=failed` shows which, and what repairs them"
        )

    async def owner(self, user_id: str) -> SessionId | None:
        async with self._call(), self._redis.pipeline(transaction=False) as pipe:
            uuid, complete = await pipe.hget(USERS, user_id).exists(INDEX_COMPLETE).execute()
        if uuid is None and not complete:
            raise IndexIncomplete
        return _owner_id(uuid) if uuid else None

    async def claim(self, user_id: str, candidate: SessionId, wanted: Wanted = NOTHING_WANTED) -> SessionId:
        keys, wishes = [USERS, IDS, session_key(candidate), UNFINISHED], to_text(wanted)
        uuid = await self._run(self._claim(keys=keys, args=[user_id, candidate, f" {wishes}" if wishes else ""]))
        if uuid is None:
            raise IdTaken(candidate)
        return _owner_id(uuid)

    async def wanted(self, uuid: SessionId) -> Wanted | None:
        entry = await self._run(self._redis.hget(UNFINISHED, uuid))
        _since, user, wishes = f"{entry or ''}  ".split(" ", 2)
        return from_text(wishes.rstrip()) if user else None

    async def release_claim(self, user_id: str, uuid: SessionId) -> None:
        await self._run(self._release_claim(keys=[USERS, IDS, session_key(uuid), UNFINISHED], args=[user_id, uuid]))

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        found, cursor = [], 0
        while True:
            cursor, owners = await self._run(self._redis.hscan(USERS, cursor, count=500))
            # Skip whatever others may have written.
            ours = [(SessionId(u), user) for user, u in owners.items() if is_session_id(u) and is_user_id(user)]
            async with self._call(), self._redis.pipeline(transaction=False) as pipe:
                for uuid, _ in ours:
                    pipe.exists(session_key(uuid))
                present = await pipe.execute()
            found += [claim for claim, exists in zip(ours, present, strict=True) if not exists]
            if not cursor:
                return found

    async def unfinished(self, age: timedelta, limit: int) -> Sequence[tuple[SessionId, str | None]]:
        rows = await self._run(self._unfinished(keys=[UNFINISHED], args=[age.total_seconds(), limit]))
        return [(SessionId(u), user if is_user_id(user) else None) for u, user in rows if is_session_id(u)]

    async def mark_finished(self, uuid: SessionId) -> None:
        await self._run(self._redis.hdel(UNFINISHED, uuid))

    async def save(self, record: Record) -> None:
        times = {
            "created_at": record.created_at,
            "written_at": record.written_at,
            "last_activity": record.last_activity,
        }
        fields: dict[str, str | float] = {name: moment.timestamp() for name, moment in times.items() if moment}
        fields |= {"user_id": record.user_id, "status": record.status.value, "keep_data": int(record.keep_data)}
        if record.activity_source:
            fields["activity_source"] = record.activity_source
        keys = [USERS, IDS, session_key(record.uuid), UNFINISHED]
        pairs = [part for pair in fields.items() for part in pair]
        await self._run(self._save(keys=keys, args=[record.user_id, record.uuid, *pairs]))

    async def record(self, uuid: SessionId) -> Record:
        async with self._call():  # one timeout for both: a read in progress may have to end first
            row, complete = await self._rows.load(uuid)
        found = self._parse([uuid], [row])
        if not found:
            raise SessionNotFound if complete else IndexIncomplete
        return found[0]

    def _parse(self, uuids: Sequence[SessionId], rows: Sequence[Any]) -> Sequence[Record]:
        """Parse the rows of those that have a record, and note read errors."""
        found = [
            records.record(uuid, dict(zip(flat[::2], flat[1::2], strict=True)), no_hash, records.queue(uuid, *queue))
            for uuid, (flat, no_hash, *queue) in zip(uuids, rows, strict=True)
            if flat or no_hash
        ]
        self._unreadable.update(Part.RECORD, uuids, {r.uuid: r.read_error for r in found if r.read_error})
        self._unreadable.update(Part.QUEUE, uuids, {r.uuid: r.queue.read_error for r in found if r.queue.read_error})
        return found

    async def _read_rows(self, uuids: Sequence[SessionId]) -> Sequence[tuple[Any, bool]]:
        """For each the row that `_READ` returns, and whether the index is complete."""
        *rows, complete = await self._run(self._read(keys=[PENDING, INDEX_COMPLETE], args=uuids))
        return [(row, bool(complete)) for row in rows]

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        if not uuids:
            return []
        rows = await self._read_rows(uuids)
        return self._parse(uuids, [row for row, _ in rows])

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        found: list[SessionId] = []
        last = after or None
        while len(found) < limit:
            low = "-" if last is None else f"({last}"
            members = await self._run(self._redis.zrangebylex(IDS, low, "+", 0, limit))
            # A member whose score is not 0, which others must have set, breaks the order of all.
            later = [member for member in members if last is None or member > last]
            found += [SessionId(member) for member in later if is_session_id(member)]
            if len(members) < limit or not later:
                break
            last = max(later)
        return found[:limit]

    async def mark_deleting(self, uuid: SessionId, *, keep_data: bool, expired: Expired | None = None) -> None:
        keys = [session_key(uuid), UNFINISHED, queue_key(uuid), PENDING]
        warning = records.warning_text(expired.warning) if expired else ""
        since = f"{expired.idle_since.timestamp():.6f}" if expired and expired.idle_since else ""
        reason = expired.warning.reason if expired else ""
        marked = await self._run(self._mark_deleting(keys=keys, args=[int(keep_data), uuid, warning, since, reason]))
        if not marked:
            raise SessionNotFound
        if marked < 0:
            raise SessionInUse

    async def note_warning(self, uuid: SessionId, warning: ExpiryWarning | None) -> None:
        text = records.warning_text(warning) if warning else ""
        await self._run(self._note_warning(keys=[session_key(uuid)], args=[text]))

    async def note_round(self, gap: timedelta, known: datetime | None = None) -> tuple[datetime, datetime]:
        noted = f"{known.timestamp():.6f}" if known else ""
        since, now = await self._run(self._note_round(keys=[EXPIRY], args=[gap.total_seconds(), noted]))
        return datetime.fromtimestamp(float(since), UTC), datetime.fromtimestamp(float(now), UTC)

    async def note_released(self, uuid: SessionId, at: datetime | None) -> datetime | None:
        since = await self._run(self._note_released(keys=[session_key(uuid)], args=[at.timestamp() if at else ""]))
        if since is None:
            raise SessionNotFound
        return records.moment(since)

    async def forget(self, uuid: SessionId) -> None:
        keys = [USERS, IDS, session_key(uuid), queue_key(uuid), PENDING, progress_key(uuid), UNFINISHED]
        await self._run(self._forget(keys=[*keys, history_key(uuid)], args=[uuid, PROGRESS]))
        self._unreadable.forget(uuid)

    async def index_complete(self) -> bool:
        return bool(await self._run(self._redis.exists(INDEX_COMPLETE)))

    async def mark_index_complete(self) -> None:
        await self._run(self._redis.set(INDEX_COMPLETE, "1"))

    def lock(self, uuid: SessionId) -> AbstractAsyncContextManager[SessionLock]:
        return RedisLock(self._redis, uuid)

    async def ping(self) -> None:
        async with self._call(), self._redis.pipeline(transaction=False) as pipe:
            # Write something: a read would succeed on a replica and in a full Redis.
            await self._redis.set("user-pods:ping", "1", px=1000)
            for key in _TYPES:
                pipe.type(key)
            types = await pipe.execute()
        if wrong := [key for key, found in zip(_TYPES, types, strict=True) if found not in (_TYPES[key], "none")]:
            raise RedisKeyInvalid(f"{', '.join(wrong)}: {RedisKeyInvalid.message}")


def progress_key(uuid: SessionId) -> str:
    return f"{PROGRESS}:{uuid}"


def history_key(uuid: SessionId) -> str:
    return f"user-pods:history:{uuid}"


def _owner_id(uuid: str) -> SessionId:
    if not is_session_id(uuid):
        raise SessionUnreadable(
            f"the user's entry in {USERS} in Redis is not a session id; `redis-cli HDEL {USERS}` with the user's name"
            " removes it, and a create then finds or makes the session"
        )
    return SessionId(uuid)
