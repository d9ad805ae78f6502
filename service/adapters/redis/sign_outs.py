"""The SignOuts port on Redis.

user-pods:sign-outs   channel   <session>:<when its user had signed in>
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
        await self._run(self._redis.publish(_CHANNEL, f"{uuid}:{since}"))

    def subscribe(self, listener: Callable[[SessionId, int], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            with contextlib.suppress(RedisUnavailable):
                async for message in self._subscription.messages():
                    self._tell(message or "")
            await asyncio.sleep(_PAUSE)

    def _tell(self, message: str) -> None:
        """Anything else in the channel is ignored."""
        if (found := _MESSAGE.fullmatch(message)) is not None:
            for listener in [*self._listeners]:
                listener(SessionId(found[1]), int(found[2]))
