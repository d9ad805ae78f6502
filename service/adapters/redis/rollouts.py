"""The Rollouts port on Redis.

user-pods:rollout   hash   the last rollout as JSON, and its version, which every change compares
"""

import json
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter
from redis.asyncio import Redis
from redis.client import NEVER_DECODE

from service.adapters.redis.command_runner import CommandRunner
from service.domain.errors import RedisKeyInvalid
from service.domain.rollout import Rollout

_KEY = "user-pods:rollout"
_READER = TypeAdapter(Rollout)

# KEYS hash; ARGV the version that is expected, the new one, the rollout, and with version 0 the text that is expected:
# none, or one that cannot be read. A key of another type is not ours and is replaced.
_REPLACE = """
local type = redis.call('TYPE', KEYS[1]).ok
if type ~= 'hash' and type ~= 'none' then redis.call('DEL', KEYS[1]) end
if ARGV[1] == '0' then
  if (redis.call('HGET', KEYS[1], 'rollout') or '') ~= ARGV[4] then return 0 end
elseif redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'rollout', ARGV[3])
return 1
"""


class RedisRollouts:
    """See `service.domain.ports.Rollouts`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._run = CommandRunner.shared(redis).run
        self._replace = redis.register_script(_REPLACE)

    async def read(self) -> Rollout | None:
        return _parse(await self._stored())

    async def replace(self, rollout: Rollout, version: int) -> bool:
        stored = await self._stored() if version == 0 else b""
        if version == 0 and _parse(stored) is not None:
            return False
        text = json.dumps(asdict(rollout), default=_plain, separators=(",", ":"))
        return bool(await self._run(self._replace(keys=[_KEY], args=[version, rollout.version, text, stored])))

    async def _stored(self) -> bytes:
        """As bytes, empty for none: what is not UTF-8 is no rollout, and no error."""
        command = self._redis.execute_command("HGET", _KEY, "rollout", **{NEVER_DECODE: []})
        try:
            stored = await self._run(command)
        except RedisKeyInvalid:
            return b""
        return stored.encode() if isinstance(stored, str) else stored or b""


def _plain(value: Any) -> str:
    return str(value.isoformat())


def _parse(stored: bytes) -> Rollout | None:
    try:
        return _READER.validate_json(stored)
    except ValueError:
        return None
