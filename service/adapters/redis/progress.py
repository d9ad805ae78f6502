"""The Progress in Redis: one stream per session with its last wake. The ids of the stream are those of the events.

user-pods:progress:<uuid>   stream   stage, reason, final; begins with `accepted`, and is replaced by the next wake
user-pods:progress          channel  ids of sessions with new events; one subscription per replica for all followers
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis.command_runner import CommandRunner
from service.adapters.redis.store import PROGRESS, progress_key
from service.adapters.redis.subscription import Subscription
from service.domain.errors import RedisKeyInvalid, RedisUnavailable
from service.domain.names import SessionId
from service.domain.progress import Event, ProgressUpdate, Stage

EXPIRY = timedelta(hours=1)
"""How long a wake can be read after its last event."""
_LIMIT = 64
"""Events of one wake, warnings included: a pod that fails for hours must not fill Redis."""
_PAUSE = 1.0
"""Seconds between two subscriptions; followers are notified once in between."""

# KEYS progress; ARGV uuid channel seconds-to-live limit, then stage, reason, final ('1' or '') of each update.
# Several replicas may write the same update, so known ones are skipped. Returns 1 when a wake accepted an update.
_WRITE = """
local seen, count, fresh = {}, 0, false
-- Written once: each stage, each warning, and a failure once more when it has become final.
local function key(stage, reason, final)
  if stage == 'warning' then return 'warning ' .. reason end
  return final == '1' and stage .. ' finally' or stage
end
local function take(stage, reason, final)
  if stage ~= 'warning' then seen[stage] = true end
  seen[key(stage, reason, final)] = true
  count = count + 1
end
local entries = redis.pcall('XRANGE', KEYS[1], '-', '+')
if entries.err then
  -- A value of another type is not ours; a wake must not lack its progress because of it.
  if not string.find(entries.err, 'WRONGTYPE', 1, true) then error(entries.err) end
  redis.call('DEL', KEYS[1])
  entries = {}
end
for _, entry in ipairs(entries) do take(entry[2][2], entry[2][4] or '', entry[2][6] or '') end
local accepted = 0
for at = 5, #ARGV, 3 do
  local stage, reason, final = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  if stage == 'accepted' and (seen.ready or seen.asleep or seen.failed) then
    redis.call('DEL', KEYS[1])
    seen, count = {}, 0
  end
  if (seen.accepted or stage == 'accepted') and not seen.ready and not seen.asleep then
    accepted = 1
    local known = seen[key(stage, reason, final)]
    if not known and (stage ~= 'warning' or count < tonumber(ARGV[4])) then
      redis.call('XADD', KEYS[1], '*', 'stage', stage, 'reason', reason, 'final', final)
      take(stage, reason, final)
      fresh = true
    end
  end
end
if fresh then
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  redis.call('PUBLISH', ARGV[2], ARGV[1])
end
return accepted
"""


class RedisProgress:
    """See `service.domain.ports.Progress`. Followers are notified while `run` runs."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._run = CommandRunner.shared(redis).run
        self._subscription = Subscription(redis, PROGRESS)
        self._script = redis.register_script(_WRITE)
        self._flags: defaultdict[SessionId, set[asyncio.Event]] = defaultdict(set)

    async def write(self, uuid: SessionId, *updates: ProgressUpdate) -> bool:
        args: list[Any] = [uuid, PROGRESS, int(EXPIRY.total_seconds()), _LIMIT]
        for each in updates:
            args += [each.stage.value, each.reason or "", "1" if each.final else ""]
        return bool(await self._run(self._script(keys=[progress_key(uuid)], args=args)))

    async def events(self, uuid: SessionId) -> Sequence[Event]:
        try:
            entries = await self._run(self._redis.xrange(progress_key(uuid)))
        except RedisKeyInvalid:
            return []  # a value of another type, which the next update replaces
        events = [_event(id_, fields, entries[0][0]) for id_, fields in entries]
        return [event for event in events if event is not None]

    async def notify(self, uuid: SessionId) -> None:
        await self._run(self._redis.publish(PROGRESS, uuid))

    @contextmanager
    def following(self, uuid: SessionId) -> Iterator[asyncio.Event]:
        flag = asyncio.Event()
        self._flags[uuid].add(flag)
        try:
            yield flag
        finally:
            self._flags[uuid].discard(flag)
            if not self._flags[uuid]:
                del self._flags[uuid]

    async def run(self) -> None:
        """Notify followers until cancelled."""
        while True:
            with contextlib.suppress(RedisUnavailable):
                async for uuid in self._subscription.messages():
                    # None begins a subscription: messages may have been missed.
                    self._notify(self._flags if uuid is None else [SessionId(uuid)])
            self._notify(self._flags)
            await asyncio.sleep(_PAUSE)

    def _notify(self, uuids: Iterable[SessionId]) -> None:
        for uuid in uuids:
            for flag in self._flags.get(uuid, ()):
                flag.set()


def _event(id_: str, fields: dict[str, str], first: str) -> Event | None:
    """None for an entry that the service cannot have written."""
    try:
        at, reason = _time(id_), fields["reason"]
        reason.encode()
        stage, final = Stage(fields["stage"]), fields.get("final") == "1"
        return Event(id_, stage, at, at - _time(first), reason or None, final)
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def _time(id_: str) -> datetime:
    """When the entry was written: the ids of a stream begin with Redis' time in milliseconds."""
    return datetime.fromtimestamp(int(id_.partition("-")[0]) / 1000, UTC)
