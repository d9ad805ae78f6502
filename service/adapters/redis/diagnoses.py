"""The Diagnoses port on Redis.

user-pods:diagnosis   hash   what the last diagnosis of any replica has found, as JSON, and since when one looks
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter
from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from service.adapters.redis.command_runner import CommandRunner
from service.domain.diagnosis.finding import Diagnosis
from service.domain.diagnosis.ports import KeptDiagnoses
from service.domain.errors import RedisKeyInvalid

_KEY = "user-pods:diagnosis"
_KEPT = timedelta(days=7)
_READER = TypeAdapter(Diagnosis)

# KEYS hash; ARGV seconds to keep it, the field that is written, its value, and a field to drop, or the same one. A key
# of another type is not ours and is replaced.
_WRITE = """
local type = redis.call('TYPE', KEYS[1]).ok
if type ~= 'hash' and type ~= 'none' then redis.call('DEL', KEYS[1]) end
redis.call('HDEL', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""


class RedisDiagnoses:
    """See `service.domain.diagnosis.ports.Diagnoses`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._run = CommandRunner.shared(redis).run
        self._script = redis.register_script(_WRITE)

    async def read(self) -> KeptDiagnoses:
        # As bytes: what is not UTF-8 is no diagnosis, and no error.
        command = self._redis.execute_command("HMGET", _KEY, "last", "looking", **{NEVER_DECODE: []})
        try:
            last, looking = await self._run(command)
        except RedisKeyInvalid:
            return KeptDiagnoses()
        return KeptDiagnoses(last=_diagnosis(last), looking_since=_time(looking))

    async def begin(self, at: datetime) -> None:
        await self._write("looking", repr(at.timestamp()), dropped="looking")

    async def keep(self, diagnosis: Diagnosis) -> None:
        text = json.dumps(asdict(diagnosis), default=datetime.isoformat, separators=(",", ":"))
        await self._write("last", text, dropped="looking")

    async def _write(self, field: str, value: str, *, dropped: str) -> None:
        seconds = int(_KEPT.total_seconds())
        await self._run(self._script(keys=[_KEY], args=[seconds, field, value, dropped]))


def _diagnosis(stored: bytes | None) -> Diagnosis | None:
    try:
        found = _READER.validate_json(stored or b"")
        # Of a time without a zone, or one that no calendar has in UTC, nothing could be said.
        return Diagnosis(found.at.astimezone(UTC), found.findings) if found.at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _time(stored: bytes | None) -> datetime | None:
    try:
        return datetime.fromtimestamp(float(stored), UTC) if stored else None
    except (ValueError, OverflowError, OSError):
        return None
