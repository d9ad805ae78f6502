"""The MeasuredWakes port on Redis.

user-pods:wakes   list   the last measured wakes of all sessions, newest first, each as JSON
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from service.adapters.redis.command_runner import CommandRunner
from service.domain.errors import RedisKeyInvalid
from service.domain.progress import Stage
from service.domain.wake_times import KEPT, MeasuredWake

_KEY = "user-pods:wakes"
_BATCH = 500
_LONGEST = 86_400.0
"""Seconds. No wake takes longer."""
_STAGES = {stage.value: stage for stage in Stage}

# KEYS list; ARGV wake, how many are kept. A key of another type is not ours and is deleted.
_APPEND = """
local type = redis.call('TYPE', KEYS[1]).ok
if type ~= 'list' and type ~= 'none' then redis.call('DEL', KEYS[1]) end
redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1)
return 1
"""


class RedisMeasuredWakes:
    """See `service.domain.wake_times.MeasuredWakes`."""

    def __init__(self, redis: "Redis[str] | Redis", *, kept: int = KEPT) -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._run = CommandRunner.shared(redis).run
        self._append = redis.register_script(_APPEND)
        self._kept = kept

    async def append(self, wake: MeasuredWake) -> None:
        stored = {"at": round(wake.at.timestamp(), 3), "pod": wake.pod}
        stages = {stage.value: round(seconds, 3) for stage, seconds in wake.stages.items()}
        await self._run(
            self._append(keys=[_KEY], args=[json.dumps({**stored, **stages}, separators=(",", ":")), self._kept])
        )

    async def last(self) -> Sequence[MeasuredWake]:
        # As bytes: an entry that is not UTF-8 must not hide the others.
        command = self._redis.execute_command("LRANGE", _KEY, 0, self._kept - 1, **{NEVER_DECODE: []})
        try:
            entries = await self._run(command)
        except RedisKeyInvalid:
            return []  # a key of another type, which the next wake replaces
        found: list[MeasuredWake] = []
        for start in range(0, len(entries), _BATCH):
            found += filter(None, map(_parse, entries[start : start + _BATCH]))
            await asyncio.sleep(0)  # other tasks run meanwhile
        return found


def _parse(entry: bytes) -> MeasuredWake | None:
    """The wake; None when the service cannot have written the entry."""
    try:
        stored = json.loads(entry)
        stages = {_STAGES[name]: float(seconds) for name, seconds in stored.items() if name in _STAGES}
        if not all(0 <= seconds <= _LONGEST for seconds in stages.values()):
            return None
        return MeasuredWake(at=datetime.fromtimestamp(stored["at"], UTC), pod=str(stored["pod"]), stages=stages)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, OSError, RecursionError):
        return None
