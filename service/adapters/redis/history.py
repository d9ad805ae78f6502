"""The History in Redis: one list per session with up to `history.LIMIT` entries, newest first.

user-pods:history:<uuid>   list   of each entry its deduplication key, a space, and the rest as JSON

A list takes a third less memory than a stream, which matters with many sessions.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from service.adapters.redis.command_runner import CommandRunner
from service.adapters.redis.store import history_key
from service.domain.errors import RedisKeyInvalid
from service.domain.history import LIMIT, POD_UID_LENGTH, dedup_key
from service.domain.journal import (
    REASON_LIMIT,
    ExpiryAnnounced,
    Failed,
    HistoryEvent,
    Ready,
    Revoked,
    Slept,
    Upgraded,
    Woken,
)
from service.domain.names import SessionId, session_key

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
        self._run = CommandRunner.shared(redis).run
        self._append = redis.register_script(_APPEND)

    async def append(self, event: HistoryEvent) -> bool:
        if event.uuid is None:
            return False
        keys = [history_key(event.uuid), session_key(event.uuid)]
        return bool(await self._run(self._append(keys=keys, args=[dedup_key(event), _serialize(event), LIMIT])))

    async def events(self, uuid: SessionId) -> Sequence[HistoryEvent]:
        key, entries = history_key(uuid), []
        try:
            # As bytes: an entry that is not UTF-8 must not hide the others.
            entries = await self._run(self._redis.execute_command("LRANGE", key, 0, -1, **{NEVER_DECODE: []}))
        except RedisKeyInvalid:
            log.warning("a history has a key of another type, which the next entry replaces", extra={"uuid": uuid})
        found = [_parse(uuid, entry) for entry in entries]
        readable = [event for event in found if event is not None]
        if len(readable) < len(found):
            log.warning("some entries of a history cannot be read", extra={"uuid": uuid})
        return readable


_KINDS: Mapping[str, type[HistoryEvent]] = {
    "woken": Woken, "ready": Ready, "slept": Slept, "failed": Failed, "revoked": Revoked,
    "upgraded": Upgraded,
    "expires": ExpiryAnnounced,
}  # fmt: skip
_READERS: Mapping[str, TypeAdapter[HistoryEvent]] = {name: TypeAdapter(kind) for name, kind in _KINDS.items()}
_NOT_STORED = ("uuid", "user")
_STORED_AS = {"idle_since": "since"}
_LONGEST = {"pod": POD_UID_LENGTH, "reason": REASON_LIMIT}


def _serialize(event: HistoryEvent) -> str:
    """Compact JSON, since each session has dozens of entries."""
    stored: dict[str, Any] = {"event": next(name for name, kind in _KINDS.items() if isinstance(event, kind))}
    for name, value in ((field.name, getattr(event, field.name)) for field in fields(event)):
        if value is not None and name not in _NOT_STORED:
            longest = _LONGEST.get(name)
            stored[_STORED_AS.get(name, name)] = value[:longest] if longest else _plain(value)
    return json.dumps(stored, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        value = value.timestamp()
    return round(value, 3) if isinstance(value, float) else value


def _parse(uuid: SessionId, entry: bytes) -> HistoryEvent | None:
    """The event; None when the service cannot have written the entry."""
    try:
        stored = json.loads(entry.partition(b" ")[2].decode())
        times = {"at": _moment(stored["at"]), "idle_since": _moment(stored["since"]) if "since" in stored else None}
        given = {"request": "-", "seconds": None, **stored, **times, "uuid": uuid, "user": None}
        return _READERS[stored["event"]].validate_python(given)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
        return None


def _moment(seconds: Any) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
