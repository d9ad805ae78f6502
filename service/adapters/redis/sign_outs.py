"""The SignOuts port on Redis.

user-pods:sign-outs          channel   <session>:<when its user had signed in>
user-pods:sign-outs:recent   list      the latest of these messages, for replicas that were not subscribed
"""

import asyncio
import contextlib
import re
from collections.abc import Callable
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis.command_runner import CommandRunner
from service.adapters.redis.subscription import Subscription
from service.domain.errors import RedisUnavailable
from service.domain.names import SESSION_ID_PATTERN, SessionId

_CHANNEL = "user-pods:sign-outs"
_RECENT = "user-pods:sign-outs:recent"
_MOST_RECENT = 1000
_RECENT_SECONDS = 3600
"""After the last sign-out. A replica that hears nothing for so long has lost more than this."""
_MESSAGE = re.compile(rf"({SESSION_ID_PATTERN}):([0-9]{{1,11}})", re.ASCII)
_PAUSE = 1.0
"""Seconds between two subscriptions."""


class RedisSignOuts:
    """See `service.domain.ports.SignOuts`. Listeners hear while `run` runs."""

    def __init__(self, redis: "Redis[str] | Redis") -> None:  # type: ignore[type-arg]
        self._redis: Any = redis
        self._run = CommandRunner.shared(redis).run
        self._subscription = Subscription(redis, _CHANNEL)
        self._listeners: list[Callable[[SessionId, int], None]] = []

    async def publish(self, uuid: SessionId, since: int) -> None:
        message = f"{uuid}:{since}"
        pipe = self._redis.pipeline(transaction=True)
        pipe.lpush(_RECENT, message).ltrim(_RECENT, 0, _MOST_RECENT - 1).expire(_RECENT, _RECENT_SECONDS)
        await self._run(pipe.publish(_CHANNEL, message).execute())

    def subscribe(self, listener: Callable[[SessionId, int], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            with contextlib.suppress(RedisUnavailable):
                async for message in self._subscription.messages():
                    for each in await self._recent() if message is None else [message]:
                        self._tell(each)
            await asyncio.sleep(_PAUSE)

    async def _recent(self) -> list[str]:
        """What may have been missed. To hear of a sign-out twice does no harm."""
        recent: list[str] = await self._run(self._redis.lrange(_RECENT, 0, -1))
        return recent

    def _tell(self, message: str) -> None:
        """Anything else in the channel is ignored."""
        if (found := _MESSAGE.fullmatch(message)) is not None:
            for listener in [*self._listeners]:
                listener(SessionId(found[1]), int(found[2]))
