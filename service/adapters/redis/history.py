"""The History on Redis: of every session one list, as long as `history.LIMIT`, the newest first.

user-pods:history:<uuid>   list   of each entry its mark, which tells it from others, a space, and the rest as JSON

A list, since a stream of the same takes half as much memory again, and there may be one for each of many sessions.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from service.adapters.redis.calls import Calls
from service.adapters.redis.store import history_key
from service.domain.errors import RedisKeyInvalid
from service.domain.history import LIMIT, POD, mark
from service.domain.journal import REASON_LIMIT, Failed, HistoryEvent, Ready, Slept, Woken
from service.domain.names import SessionId, session_key
from service.domain.sleep import SleepReason

log = logging.getLogger(__name__)

# KEYS history session; ARGV mark entry limit; returns 1 when the entry is new. A key of another type is nobody's.
_APPEND = """
if redis.call('EXISTS', KEYS[2]) == 0 then return 0 end
local type = redis.call('TYPE', KEYS[1]).ok
if type ~= 'list' and type ~= 'none' then redis.call('DEL', KEYS[1]) end
local mark = ARGV[1] .. ' '
for _, kept in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
  if string.sub(kept, 1, #mark) == mark then return 0 end
end
redis.call('LPUSH', KEYS[1], mark .. ARGV[2])
redis.call('LTRIM', KEYS[1], 0, ARGV[3] - 1)
return 1
"""


class RedisHistory:
    """See `service.domain.ports.History`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._call = Calls.of(redis).call
        self._append = redis.register_script(_APPEND)

    async def append(self, event: HistoryEvent) -> bool:
        if event.uuid is None:
            return False
        keys = [history_key(event.uuid), session_key(event.uuid)]
        async with self._call():
            return bool(await self._append(keys=keys, args=[mark(event), _written(event), LIMIT]))

    async def events(self, uuid: SessionId) -> Sequence[HistoryEvent]:
        found = [_read(uuid, entry) for entry in await self._entries(uuid)]
        readable = [event for event in found if event is not None]
        if len(readable) < len(found):
            log.warning("a history is not readable as a whole", extra={"uuid": uuid})
        return readable

    async def _entries(self, uuid: SessionId) -> Sequence[bytes]:
        """As bytes: one that is no UTF-8 must not hide the others."""
        try:
            async with self._call():
                entries = await self._redis.execute_command("LRANGE", history_key(uuid), 0, -1, **{NEVER_DECODE: []})
        except RedisKeyInvalid:
            log.warning("a history is not readable: its key has another type; it begins anew", extra={"uuid": uuid})
            return []
        return list(entries)


_NAMES: Mapping[str, type[HistoryEvent]] = {"woken": Woken, "ready": Ready, "slept": Slept, "failed": Failed}


def _written(event: HistoryEvent) -> str:
    """JSON without what is not needed: there are dozens of these for each session."""
    name = next(name for name, kind in _NAMES.items() if isinstance(event, kind))
    fields: dict[str, Any] = {"event": name, "at": _seconds(event.at), "request": event.request}
    pod = event.pod[:POD] if not isinstance(event, Woken) and event.pod else None
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


def _read(uuid: SessionId, entry: bytes) -> HistoryEvent | None:
    """The event; None for what nobody of ours has written."""
    try:
        fields = json.loads(entry.partition(b" ")[2].decode())
        common: dict[str, Any] = {
            "uuid": uuid,
            "user": None,
            "at": _moment(fields["at"]),
            "request": _text(fields.get("request")) or "-",
        }
        return _READERS[fields["event"]](common, fields)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
        return None


_READERS: Mapping[str, Callable[[dict[str, Any], dict[str, Any]], HistoryEvent]] = {
    "woken": lambda common, fields: Woken(**common, by=str(fields["by"])),
    "ready": lambda common, fields: Ready(**common, seconds=_number(fields.get("seconds")), pod=str(fields["pod"])),
    "slept": lambda common, fields: Slept(
        **common,
        why=SleepReason(fields["why"]),
        idle_since=_moment(fields["since"]) if "since" in fields else None,
        seconds=_number(fields.get("seconds")),
        pod=_text(fields.get("pod")),
    ),
    "failed": lambda common, fields: Failed(
        **common,
        doing=str(fields["doing"]),
        reason=str(fields["reason"]),
        seconds=_number(fields.get("seconds")),
        pod=_text(fields.get("pod")),
    ),
}


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
