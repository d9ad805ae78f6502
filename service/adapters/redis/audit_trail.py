"""The AuditTrail port on Redis.

user-pods:audit   stream   the last entries of all sessions, each as JSON; the ids of the stream are the cursors
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter
from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from service.adapters.redis.command_runner import CommandRunner
from service.domain.audit import AuditEntry
from service.domain.errors import InvalidCursor, RedisKeyInvalid

_KEY = "user-pods:audit"
_CURSOR = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
_READER = TypeAdapter(AuditEntry)

# KEYS stream; ARGV entry, how many are kept. A key of another type is not ours and is deleted.
_APPEND = """
local type = redis.call('TYPE', KEYS[1]).ok
if type ~= 'stream' and type ~= 'none' then redis.call('DEL', KEYS[1]) end
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'entry', ARGV[1])
"""


class RedisAuditTrail:
    """See `service.domain.audit.AuditTrail`. About `kept` entries are kept."""

    def __init__(self, redis: "Redis[str] | Redis", *, kept: int) -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._run = CommandRunner.shared(redis).run
        self._append = redis.register_script(_APPEND)
        self._kept = kept

    async def append(self, entry: AuditEntry) -> None:
        stored = {name: value for name, value in asdict(entry).items() if value not in (None, 0)}
        text = json.dumps({**stored, "at": entry.at.isoformat(timespec="milliseconds")}, separators=(",", ":"))
        await self._run(self._append(keys=[_KEY], args=[text, self._kept]))

    async def before(self, cursor: str | None, limit: int) -> Sequence[tuple[str, AuditEntry | None]]:
        if cursor is not None and not _is_cursor(cursor):
            raise InvalidCursor
        end = "+" if cursor is None else f"({cursor}"
        # As bytes: an entry that is not UTF-8 must not hide the others.
        command = self._redis.execute_command("XREVRANGE", _KEY, end, "-", "COUNT", limit, **{NEVER_DECODE: []})
        try:
            entries = await self._run(command)
        except RedisKeyInvalid:
            return []  # a key of another type, which the next entry replaces
        return [(_text(place), _parse(fields)) for place, fields in entries]


def _is_cursor(text: str) -> bool:
    return _CURSOR.fullmatch(text) is not None and all(int(part) < 2**64 for part in text.split("-"))


def _text(place: bytes | str) -> str:
    return place.decode() if isinstance(place, bytes) else place


def _parse(fields: Mapping[Any, Any]) -> AuditEntry | None:
    try:
        return _READER.validate_json(fields[b"entry"] if b"entry" in fields else fields["entry"])
    except (ValueError, KeyError, TypeError):
        return None
