"""The Queues port on Redis. Each wake queue is a list with an expiry; KEDA counts it and nobody consumes it.

queue:<uuid>        list   wake tokens (the time of each push); its expiry is the lease
user-pods:pending   zset   uuid -> the oldest push whose wake is still pending, in seconds since 1970
session:<uuid>      hash   last_activity, activity_source, last_output, kept_until, pushed_at, sleep_asked_at,
                           sleep_asked_in, sleep_asked_by, sleep_due_at, renewed_until: written here, read with the
                           record
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from service.adapters.redis import records, unreadable_keys
from service.adapters.redis.command_runner import CommandRunner
from service.adapters.redis.store import INDEX_COMPLETE, NOW, PENDING, TRY_READ
from service.adapters.redis.subscription import Subscription
from service.adapters.redis.unreadable_keys import Part
from service.domain.errors import (
    IndexIncomplete,
    NotificationsRefused,
    SessionDeleting,
    SessionNotFound,
    SessionUnreadable,
)
from service.domain.names import SessionId, is_session_id, queue_key, session_key
from service.domain.queue_state import PushResult, QueueState

QUEUE_LIMIT = 3
"""Tokens kept in a queue. One would be enough; more show an operator that wakes arrive."""
_BATCH = 500

# KEYS session queue pending whole; ARGV uuid lease-milliseconds limit source kept-until seconds-ago, 1 if it wakes
# Returns the queue's length (-1: no such session, -2: deleting, -3: unknown, since the index is incomplete), and 1 when
# no other push was pending. Or the type of a queue that is not a list, and ''. Or '', and the type of an unreadable
# record.
_PUSH = f"""{NOW}
local status = redis.pcall('HGET', KEYS[1], 'status')
if type(status) == 'table' then return {{'', redis.call('TYPE', KEYS[1]).ok}} end
if not status then
  if redis.call('EXISTS', KEYS[1]) == 1 then return {{'', 'hash'}} end
  return {{redis.call('EXISTS', KEYS[4]) == 1 and -1 or -3, 0}}
end
if status == 'deleting' then return {{-2, 0}} end
if status ~= 'created' and status ~= 'released' then return {{'', 'hash'}} end
local pushed = redis.pcall('RPUSH', KEYS[2], now)
if type(pushed) == 'table' then
  if string.find(pushed.err, 'WRONGTYPE', 1, true) then return {{redis.call('TYPE', KEYS[2]).ok, ''}} end
  error(pushed.err)
end
redis.call('LTRIM', KEYS[2], -ARGV[3], -1)
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
if ARGV[5] ~= '' then
  local kept = tonumber(redis.call('HGET', KEYS[1], 'kept_until') or '')
  if not kept or not (kept >= tonumber(ARGV[5])) then redis.call('HSET', KEYS[1], 'kept_until', ARGV[5]) end
else
  local last = redis.call('HGET', KEYS[1], 'last_activity')
  local at = ARGV[6] == '0' and now or string.format('%.6f', now - ARGV[6])
  -- An unreadable time is replaced.
  if not (tonumber(last or '') and tonumber(last) > tonumber(at) and tonumber(last) <= tonumber(now)) then
    redis.call('HSET', KEYS[1], 'last_activity', at, 'activity_source', ARGV[4])
  end
end
if ARGV[7] == '1' then redis.call('HDEL', KEYS[1], 'sleep_due_at') end
redis.call('HSET', KEYS[1], 'pushed_at', now)
local first = redis.call('ZADD', KEYS[3], 'NX', now, ARGV[1])
return {{redis.call('LLEN', KEYS[2]), first}}
"""

# KEYS session; ARGV until. Returns the latest such time, -1 without a session, -2 while it is being deleted.
_SPARE = """
local status = redis.pcall('HGET', KEYS[1], 'status')
if type(status) == 'table' then return {'', redis.call('TYPE', KEYS[1]).ok} end
if not status then return -1 end
if status == 'deleting' then return -2 end
if ARGV[1] == '' then
  redis.call('HDEL', KEYS[1], 'spared_until')
  return ''
end
local spared = tonumber(redis.call('HGET', KEYS[1], 'spared_until') or '')
if not spared or not (spared >= tonumber(ARGV[1])) then redis.call('HSET', KEYS[1], 'spared_until', ARGV[1]) end
redis.call('HDEL', KEYS[1], 'deletion_warning')
return redis.call('HGET', KEYS[1], 'spared_until')
"""

# KEYS session queue pending; ARGV uuid lease-milliseconds milliseconds-after-the-last-activity limit
# Returns 1 when it has filled the queue, and 0 otherwise.
_BACKGROUND = f"""{NOW}
if redis.pcall('HGET', KEYS[1], 'status') ~= 'created' then return 0 end
redis.call('HSET', KEYS[1], 'last_output', now)
local most = tonumber(ARGV[3])
if most <= 0 then return 0 end
local last = tonumber(redis.call('HGET', KEYS[1], 'last_activity') or '')
if not last then
  redis.call('HSET', KEYS[1], 'last_activity', now, 'activity_source', 'background')
  last = tonumber(now)
end
local asked = tonumber(redis.call('HGET', KEYS[1], 'sleep_asked_at') or '')
local lease = math.floor(math.min(tonumber(ARGV[2]), (last - now) * 1000 + most))
if lease <= 0 or (asked and asked > last) then return 0 end
if type(redis.pcall('RPUSH', KEYS[2], now)) == 'table' then return 0 end
redis.call('LTRIM', KEYS[2], -ARGV[4], -1)
if redis.call('PTTL', KEYS[2]) < lease then redis.call('PEXPIRE', KEYS[2], lease) end
redis.call('HSET', KEYS[1], 'pushed_at', now)
redis.call('ZADD', KEYS[3], 'NX', now, ARGV[1])
return 1
"""

# KEYS session queue; ARGV lease-milliseconds
_END_EXTENSION = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.pcall('HDEL', KEYS[1], 'kept_until')
if redis.call('PTTL', KEYS[2]) > tonumber(ARGV[1]) then redis.call('PEXPIRE', KEYS[2], ARGV[1]) end
return 1
"""

# KEYS session queue pending; ARGV uuid lease-milliseconds
_RENEW = f"""{NOW}
local kind = redis.call('TYPE', KEYS[2]).ok
if kind ~= 'list' and kind ~= 'none' then return 0 end
if redis.call('LLEN', KEYS[2]) == 0 then redis.call('RPUSH', KEYS[2], now) end
if redis.call('PTTL', KEYS[2]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
-- Of a wake through the service, and not of a push by another program, which notes no activity.
local since, last = redis.call('ZSCORE', KEYS[3], ARGV[1]), redis.pcall('HGET', KEYS[1], 'last_activity')
last = type(last) == 'string' and tonumber(last)
if since and last and last >= tonumber(since) then
  redis.pcall('HSET', KEYS[1], 'renewed_until', string.format('%.6f', now + ARGV[2] / 1000))
end
return redis.call('ZADD', KEYS[3], 'NX', now, ARGV[1])
"""

# KEYS pending; ARGV seconds limit; returns uuids, the oldest first
_PENDING = f"""{NOW}
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])
"""

# KEYS session pending; ARGV uuid seen
_SETTLE = """
local since = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not since or tonumber(since) >= tonumber(ARGV[2]) then return 0 end
local pushed = redis.pcall('HGET', KEYS[1], 'pushed_at')
local at = type(pushed) == 'string' and tonumber(pushed)
if at and at >= tonumber(ARGV[2]) then return redis.call('ZADD', KEYS[2], pushed, ARGV[1]) end
return redis.call('ZREM', KEYS[2], ARGV[1])
"""

# KEYS session; ARGV seconds. Returns when the session is going to sleep; '' if it cannot be noted.
_ANNOUNCE = f"""{NOW}
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return '' end
local due, new = redis.call('HGET', KEYS[1], 'sleep_due_at'), string.format('%.6f', now + ARGV[1])
local at = tonumber(due or '')
if at and at > tonumber(now) and at <= tonumber(new) then return due end
return type(redis.pcall('HSET', KEYS[1], 'sleep_due_at', new)) == 'table' and '' or new
"""

# KEYS session queue pending; ARGV uuid, id of the request for sleep ('' for none), the announced time ('' for none),
# who asks
# Returns 0 and does nothing if the announcement was taken back. A record that is lost takes nothing back.
_CLEAR = f"""{NOW}
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local due = redis.call('HGET', KEYS[1], 'sleep_due_at')
  if ARGV[3] ~= '' and tonumber(due or '') ~= tonumber(ARGV[3]) then return 0 end
  redis.call('HDEL', KEYS[1], 'kept_until', 'pushed_at', 'sleep_due_at', 'renewed_until')
  -- In a full Redis nobody can be told later who asked; the sleep itself takes no room.
  if ARGV[2] ~= '' then
    redis.pcall('HSET', KEYS[1], 'sleep_asked_at', now, 'sleep_asked_in', ARGV[2], 'sleep_asked_by', ARGV[4])
  end
end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('DEL', KEYS[2])
return 1
"""

# KEYS pending; ARGV uuids. Returns uuid, length, milliseconds to live, pending since, and the type of a queue that is
# not a list, for each session that is not idle.
_READ = f"""{TRY_READ}
local found = {{}}
for _, uuid in ipairs(ARGV) do
  local queue = 'queue:' .. uuid
  local length, no_list = try_read('LLEN', queue)
  local since = redis.call('ZSCORE', KEYS[1], uuid)
  if length ~= 0 or since then
    found[#found + 1] = {{uuid, length or 0, redis.call('PTTL', queue), since or '', no_list}}
  end
end
return found
"""


class RedisQueues:
    """See `service.domain.ports.Queues`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        runner = CommandRunner.shared(redis)
        self._run, self._unreadable = runner.run, runner.unreadable
        script = redis.register_script
        self._push = script(_PUSH)
        self._background = script(_BACKGROUND)
        self._end_extension = script(_END_EXTENSION)
        self._spare = script(_SPARE)
        self._renew = script(_RENEW)
        self._pending = script(_PENDING)
        self._settle = script(_SETTLE)
        self._announce = script(_ANNOUNCE)
        self._clear = script(_CLEAR)
        self._read_queues = script(_READ)

    async def wake(self, uuid: SessionId, lease: timedelta) -> PushResult:
        return await self._push_token(uuid, lease, "wake", wakes=True)

    async def heartbeat(self, uuid: SessionId, source: str, lease: timedelta, ago: timedelta = timedelta(0)) -> int:
        return (await self._push_token(uuid, lease, source, ago=ago)).length

    async def keep_awake(self, uuid: SessionId, until: datetime, lease: timedelta) -> datetime:
        await self._push_token(uuid, lease, "", until, wakes=True)
        kept = await self._run(self._redis.hget(session_key(uuid), "kept_until"))
        return records.moment(kept) or until

    async def background(self, uuid: SessionId, lease: timedelta, limit: timedelta) -> bool:
        keys = [session_key(uuid), queue_key(uuid), PENDING]
        args: list[str | int] = [uuid, _milliseconds(lease), _milliseconds(limit), QUEUE_LIMIT]
        return bool(await self._run(self._background(keys=keys, args=args)))

    async def spare(self, uuid: SessionId, until: datetime) -> datetime:
        return records.moment(await self._spare_until(uuid, until.timestamp())) or until

    async def end_sparing(self, uuid: SessionId) -> None:
        await self._spare_until(uuid, "")

    async def _spare_until(self, uuid: SessionId, until: float | str) -> str:
        found = await self._run(self._spare(keys=[session_key(uuid)], args=[until]))
        if isinstance(found, list):
            raise _unreadable(uuid, *found)
        if isinstance(found, int):
            raise {-1: SessionNotFound, -2: SessionDeleting}[found]
        return str(found)

    async def end_extension(self, uuid: SessionId, lease: timedelta) -> None:
        keys = [session_key(uuid), queue_key(uuid)]
        if not await self._run(self._end_extension(keys=keys, args=[_milliseconds(lease)])):
            raise SessionNotFound

    async def _push_token(
        self,
        uuid: SessionId,
        lease: timedelta,
        source: str,
        until: datetime | None = None,
        ago: timedelta = timedelta(0),
        *,
        wakes: bool = False,
    ) -> PushResult:
        keys = [session_key(uuid), queue_key(uuid), PENDING, INDEX_COMPLETE]
        kept, before = until.timestamp() if until else "", max(0, round(ago.total_seconds(), 3)) or 0
        args: list[str | float] = [uuid, _milliseconds(lease), QUEUE_LIMIT, source, kept, before, int(wakes)]
        length, first = await self._run(self._push(keys=keys, args=args))
        if isinstance(length, str):
            raise _unreadable(uuid, length, first)
        if length < 0:
            raise {-1: SessionNotFound, -2: SessionDeleting, -3: IndexIncomplete}[length]
        return PushResult(length, bool(first))

    async def announce_sleep(self, uuid: SessionId, within: timedelta) -> datetime | None:
        due = await self._run(self._announce(keys=[session_key(uuid)], args=[within.total_seconds()]))
        return records.moment(due)

    async def clear(
        self, uuid: SessionId, *, asked: str | None = None, by: str = "", announced: datetime | None = None
    ) -> bool:
        due = f"{announced.timestamp():.6f}" if announced else ""
        keys = [session_key(uuid), queue_key(uuid), PENDING]
        return bool(await self._run(self._clear(keys=keys, args=[uuid, asked or "", due, by])))

    async def read(self, uuids: Sequence[SessionId]) -> Mapping[SessionId, QueueState]:
        found: dict[SessionId, QueueState] = dict.fromkeys(uuids, _IDLE)
        for start in range(0, len(uuids), _BATCH):
            batch, errors = uuids[start : start + _BATCH], {}
            rows = await self._run(self._read_queues(keys=[PENDING], args=batch))
            for text, *row in rows:
                uuid = SessionId(text)
                found[uuid] = queue = records.queue(uuid, *row)
                if queue.read_error:
                    errors[uuid] = queue.read_error
            self._unreadable.update(Part.QUEUE, batch, errors)
        return found

    async def pending(self, age: timedelta, limit: int) -> Sequence[SessionId]:
        uuids = await self._run(self._pending(keys=[PENDING], args=[age.total_seconds(), limit]))
        return [SessionId(uuid) for uuid in uuids if is_session_id(uuid)]

    async def renew(self, uuid: SessionId, lease: timedelta) -> None:
        await self._run(
            self._renew(keys=[session_key(uuid), queue_key(uuid), PENDING], args=[uuid, _milliseconds(lease)])
        )

    async def settle(self, uuid: SessionId, seen: datetime) -> None:
        await self._run(self._settle(keys=[session_key(uuid), PENDING], args=[uuid, seen.timestamp()]))

    async def pushes(self) -> AsyncIterator[SessionId | None]:
        prefix, database = queue_key(SessionId("")), self._redis.connection_pool.connection_kwargs.get("db") or 0
        channels = [f"__keyevent@{database}__:{command}" for command in ("rpush", "lpush")]
        pushed = Subscription(self._redis, *channels, prepare=_enable_notifications).messages()
        async with contextlib.aclosing(pushed):
            async for key in pushed:
                if key is None:
                    yield None
                elif key.startswith(prefix) and is_session_id(uuid := key.removeprefix(prefix)):
                    yield SessionId(uuid)


async def _enable_notifications(connection: Any) -> None:
    """Add the missing keyspace notifications to those of the connection's server.

    They may be off after a restart of the server, or when it has become the primary.
    """
    try:
        await connection.send_command("CONFIG", "GET", EVENTS)
        reply = await connection.read_response()
        flags = (reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True)))[EVENTS]
        if flags_with_ours(flags) == flags:
            return
        await connection.send_command("CONFIG", "SET", EVENTS, flags_with_ours(flags))
        await connection.read_response()
    except (NoPermissionError, ResponseError, KeyError) as error:
        raise NotificationsRefused from error


def flags_with_ours(flags: str) -> str:
    """The flags of keyspace notifications, with those of pushes to lists if they are missing."""
    given = set(flags)
    return flags if "E" in given and given & {"l", "A"} else "".join(sorted(given | {"E", "l"}))


EVENTS = "notify-keyspace-events"
"""Redis' setting."""
_IDLE = QueueState()


def _unreadable(uuid: SessionId, queue: str, record: str) -> SessionUnreadable:
    """The error for a queue that is not a list, or for a record; one of the two types is ''."""
    if queue:
        return SessionUnreadable(unreadable_keys.queue_error(uuid, queue))
    problem = "has no known status" if record == "hash" else f"is a {record}, not a hash"
    return SessionUnreadable(unreadable_keys.record_error(uuid, problem))


def _milliseconds(time_: timedelta) -> int:
    return int(time_.total_seconds() * 1000)
