"""The History in Redis: one list per session with up to `history.LIMIT` entries, newest first.

user-pods:history:<uuid>   list   of each entry its deduplication key, a space, and the rest as JSON

A list takes a third less memory than a stream, which matters with many sessions.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from service.adapters.redis.command_runner import CommandRunner
from service.adapters.redis.store import history_key
from service.domain.errors import RedisKeyInvalid
from service.domain.history import LIMIT, POD_UID_LENGTH, dedup_key
from service.domain.journal import REASON_LIMIT, Failed, HistoryEvent, Ready, Slept, Woken
from service.domain.names import SessionId, session_key
from service.domain.sleep_cause import SleepReason

log = logging.getLogger(__name__)

# KEYS history session; ARGV deduplication key, entry, limit. Returns 1 when the entry is new. A key of another type is
# not ours and is deleted.
_APPEND = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
local type = redis.call('TYPE', KEYS[1]).ok
if type ~= 'list' and type ~= 'none' then redis.call('DEL', KEYS[1]) end
local prefix = ARGV[1] .. ' '
for _, kept in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if string.sub(kept, 1, #prefix) == prefix then return 0 end
end
redis.call('LPUSH', KEYS[1], prefix .. ARGV[2])
redis.call('LTRIM', KEYS[1], 0, ARGV[3] - 1)
return 1
"""


class RedisHistory:
    """See `service.domain.ports.History`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._call = CommandRunner.shared(redis).call
        self._append = redis.register_script(_APPEND)

    async def append(self, event: HistoryEvent) -> bool:
        if event.uuid is None:
            return False
        keys = [history_key(event.uuid), session_key(event.uuid)]
        async with self._call():
            return bool(await self._append(keys=keys, args=[dedup_key(event), _serialize(event), LIMIT]))

    async def events(self, uuid: SessionId) -> Sequence[HistoryEvent]:
        found = [_parse(uuid, entry) for entry in await self._entries(uuid)]
        readable = [event for event in found if event is not None]
        if len(readable) < len(found):
            log.warning("some entries of a history cannot be read", extra={"uuid": uuid})
        return readable

    async def _entries(self, uuid: SessionId) -> Sequence[bytes]:
        """As bytes: an entry that is not UTF-8 must not hide the others."""
        try:
            async with self._call():
                entries = await self._redis.execute_command("LRANGE", history_key(uuid), 0, -1, **{NEVER_DECODE: []})
        except RedisKeyInvalid:
            log.warning("a history has a key of another type, which the next entry replaces", extra={"uuid": uuid})
            return []
        return list(entries)


_NAMES: Mapping[str, type[HistoryEvent]] = {"woken": Woken, "ready": Ready, "slept": Slept, "failed": Failed}


def _serialize(event: HistoryEvent) -> str:
    """Compact JSON, since each session has dozens of entries."""
    name = next(name for name, kind in _NAMES.items() if isinstance(event, kind))
    fields: dict[str, Any] = {"event": name, "at": _seconds(event.at), "request": event.request}
    pod = event.pod[:POD_UID_LENGTH] if not isinstance(event, Woken) and event.pod else None
    match event:
        case Woken():
            fields |= {"by": event.by}
        case Ready():
            fields |= {"seconds": _short(event.seconds), "pod": pod}
        case Slept():
            since = event.idle_since and _seconds(event.idle_since)
            fields |= {"why": event.why.value, "since": since, "seconds": _short(event.seconds), "pod": pod}
        case Failed():
            fields |= {"doing": event.doing, "reason": event.reason[:REASON_LIMIT], "pod": pod}
            fields |= {"seconds": _short(event.seconds)}
    return json.dumps({name: value for name, value in fields.items() if value is not None}, separators=(",", ":"))


def _parse(uuid: SessionId, entry: bytes) -> HistoryEvent | None:
    """The event; None when the service cannot have written the entry."""
    try:
        fields = json.loads(entry.partition(b" ")[2].decode())
        at, request = _moment(fields["at"]), _text(fields.get("request")) or "-"
        return _event(fields, {"uuid": uuid, "user": None, "at": at, "request": request})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
        return None


def _event(fields: Mapping[str, Any], common: Mapping[str, Any]) -> HistoryEvent:
    name = fields["event"]
    if name == "woken":
        return Woken(**common, by=str(fields["by"]))
    seconds, pod = _number(fields.get("seconds")), _text(fields.get("pod"))
    if name == "ready":
        return Ready(**common, seconds=seconds, pod=str(fields["pod"]))
    if name == "slept":
        since = _moment(fields["since"]) if "since" in fields else None
        return Slept(**common, why=SleepReason(fields["why"]), idle_since=since, seconds=seconds, pod=pod)
    if name == "failed":
        doing, reason = str(fields["doing"]), str(fields["reason"])
        return Failed(**common, doing=doing, reason=reason, seconds=seconds, pod=pod)
    raise ValueError(name)


def _seconds(moment: datetime) -> float:
    return round(moment.timestamp(), 3)


def _short(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
