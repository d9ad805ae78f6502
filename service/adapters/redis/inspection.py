"""The RedisInspection port of the diagnosis. It needs no right that the service does not have otherwise."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from service.adapters.redis.command_runner import CommandRunner, error_type
from service.adapters.redis.queues import EVENTS, flags_with_ours
from service.adapters.redis.store import IDS, INDEX_COMPLETE, history_key, progress_key
from service.domain.diagnosis.ports import KeyFacts, RedisConfiguration
from service.domain.errors import NotificationsRefused, RedisDenied
from service.domain.history import LIMIT
from service.domain.names import EXAMPLE_ID, SessionId, is_session_id, queue_key, session_key

QUEUE_LIMIT = 100
"""Tokens of a queue that nobody minds. The service keeps three; others push too, and may not cut."""
_SCANNED = 1000
_KEY = "user-pods:ping"
_TICKETS, _COMPANIONS = "user-pods:tickets:", "user-pods:companions:"
_PREFIXES = (queue_key(SessionId("")), history_key(SessionId("")), progress_key(SessionId("")), _TICKETS, _COMPANIONS)
_TRIALS: Sequence[tuple[str, Sequence[Any]]] = (
    ("write (@write)", ("SET", _KEY, "1", "PX", "1000")),
    ("read (@read)", ("GET", _KEY)),
    ("run scripts (+eval, +evalsha)", ("EVAL", "return 1", "0")),
    ("tell the time (+time)", ("TIME",)),
    ("publish to the channels user-pods:* (@pubsub)", ("PUBLISH", "user-pods:ping", "")),
    ("use keys session:*", ("EXISTS", session_key(EXAMPLE_ID))),
    ("use keys queue:*", ("EXISTS", queue_key(EXAMPLE_ID))),
)
"""What the service needs to do, and a command that shows whether it may."""

# KEYS session ids whole, then the keys; ARGV uuid. Returns whether the id has neither a record nor a claim.
_DROP = """
if redis.call('EXISTS', KEYS[3]) == 0 then return 0 end
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
for at = 4, #KEYS do redis.call('DEL', KEYS[at]) end
return 1
"""

# KEYS queue history; ARGV tokens, entries
_TRIM = """
if redis.call('TYPE', KEYS[1]).ok == 'list' then redis.call('LTRIM', KEYS[1], -ARGV[1], -1) end
if redis.call('TYPE', KEYS[2]).ok == 'list' then redis.call('LTRIM', KEYS[2], 0, ARGV[2] - 1) end
return 1
"""


class RedisInspector:
    """See `service.domain.diagnosis.ports.RedisInspection`."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        runner = CommandRunner.shared(redis)
        self._run, self._call = runner.run, runner.call
        self._drop = redis.register_script(_DROP)
        self._trim = redis.register_script(_TRIM)

    async def configuration(self) -> RedisConfiguration:
        try:
            found = {name: await self._setting(name) for name in (EVENTS, "maxmemory-policy", "maxmemory")}
            saves = (await self._setting("save"), await self._setting("appendonly"))
        except RedisDenied:
            return RedisConfiguration()
        limit = found["maxmemory"] or ""
        return RedisConfiguration(
            notifications=found[EVENTS],
            policy=found["maxmemory-policy"] or None,
            memory_limit=int(limit) if limit.isascii() and limit.isdigit() else None,
            persistent=None if None in saves else bool(saves[0]) or saves[1] == "yes",
        )

    async def refused(self) -> Sequence[str]:
        return [what for what, command in _TRIALS if await self._is_refused(command)]

    async def clock(self) -> datetime:
        seconds, microseconds = await self._run(self._redis.time())
        return datetime.fromtimestamp(seconds + microseconds / 1e6, UTC)

    async def keys(self) -> Mapping[SessionId, KeyFacts]:
        found: dict[SessionId, KeyFacts] = {}
        async for batch in self._batches():
            for (key, uuid), (left, length) in zip(batch, await self._measured(batch), strict=True):
                facts = KeyFacts() if uuid not in found else found[uuid]
                if left == -1:
                    facts.lasting.add(key)
                if isinstance(length, int) and length > _limit(key):
                    facts.lengths[key] = length
                if facts.lasting or facts.lengths:
                    found[uuid] = facts
            await asyncio.sleep(0)
        return found

    async def drop_orphans(self, uuid: SessionId) -> bool:
        keys = [session_key(uuid), IDS, INDEX_COMPLETE, *(prefix + uuid for prefix in _PREFIXES)]
        return bool(await self._run(self._drop(keys=keys, args=[uuid])))

    async def trim(self, uuid: SessionId) -> None:
        await self._run(self._trim(keys=[queue_key(uuid), history_key(uuid)], args=[QUEUE_LIMIT, LIMIT]))

    async def enable_notifications(self) -> None:
        try:
            flags = await self._setting(EVENTS)
            async with self._call():
                await self._redis.config_set(EVENTS, flags_with_ours(flags or ""))
        except RedisDenied as error:
            raise NotificationsRefused from error

    async def _setting(self, name: str) -> str | None:
        """The value; None where the server does not know the setting. Raises RedisDenied where it says nothing."""
        try:
            async with self._call():
                found: Mapping[str, str] = await self._redis.config_get(name)
        except RedisDenied:
            raise
        except Exception as error:
            if isinstance(error.__cause__, ResponseError):
                raise RedisDenied from error  # a provider that has no CONFIG
            raise
        return found.get(name)

    async def _is_refused(self, command: Sequence[Any]) -> bool:
        try:
            async with self._call():
                try:
                    await self._redis.execute_command(*command)
                except RedisError as error:
                    if isinstance(error, NoPermissionError) or error_type(error) is RedisDenied:
                        return True
                    raise
        except RedisDenied:
            return True
        return False

    async def _batches(self) -> AsyncIterator[Sequence[tuple[str, SessionId]]]:
        """Keys of sessions beside their records, each after its id."""
        cursor = 0
        while True:
            cursor, keys = await self._run(self._redis.scan(cursor, count=_SCANNED))
            batch = [(key, uuid) for key in keys if (uuid := _uuid(key)) is not None]
            if batch:
                yield batch
            if not cursor:
                return

    async def _measured(self, batch: Sequence[tuple[str, SessionId]]) -> Sequence[tuple[int, Any]]:
        """The milliseconds that each key has left, and its length if it is a list that has a limit."""
        async with self._call(), self._redis.pipeline(transaction=False) as pipe:
            for key, _ in batch:
                pipe.pttl(key)
                pipe.llen(key)
            replies = await pipe.execute(raise_on_error=False)
        return list(zip(replies[::2], replies[1::2], strict=True))


def _uuid(key: str) -> SessionId | None:
    prefix = next((each for each in _PREFIXES if key.startswith(each)), None)
    rest = key.removeprefix(prefix) if prefix is not None else ""
    return SessionId(rest) if is_session_id(rest) else None


def _limit(key: str) -> float:
    if key.startswith(queue_key(SessionId(""))):
        return QUEUE_LIMIT
    return LIMIT if key.startswith(history_key(SessionId(""))) else float("inf")
