"""Messages of channels in Redis, over one connection that is known to live."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis.calls import Calls
from service.domain.errors import RedisUnavailable

QUIET = 15.0
"""Seconds without a message after which the connection is tried: a half-open one must be noticed within a minute."""
_PATIENCE = 30.0
"""Seconds that it gets to answer at most, however long a call may take."""


class Subscription:
    """The messages of some channels. `prepare` gets the connection before it subscribes, for what the server needs."""

    def __init__(
        self,
        redis: "Redis[str] | Redis",  # type: ignore[type-arg]
        *channels: str,
        prepare: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self._redis: Any = redis
        self._calls = Calls.of(redis)
        self._channels = channels
        self._prepare = prepare

    async def messages(self) -> AsyncGenerator[str | None, None]:
        """The data of each message; None for each channel whenever listening to it begins, for messages may be missed.

        Raises RedisUnavailable when the connection is lost and cannot be made again at once.
        """
        while True:
            async with contextlib.aclosing(self._connected()) as connected:
                async for data in connected:
                    yield data

    async def _connected(self) -> AsyncGenerator[str | None, None]:
        """The same until the connection is made anew, be it by the client itself: it needs preparing again."""
        begun, tried, left = 0, False, self._calls.left
        async with self._subscribed() as pubsub:
            while left == self._calls.left:
                message = await self._next(pubsub, min(self._calls.deadline, _PATIENCE) if tried else QUIET)
                if message is None:
                    if tried:
                        return  # half-open
                    await self._ping(pubsub)
                    tried = True
                    continue
                tried = False
                if message["type"] == "subscribe":
                    begun += 1
                    if begun > len(self._channels):
                        return
                    yield None
                elif message["type"] == "message":
                    yield message["data"]

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[Any]:
        pubsub = self._redis.pubsub()
        try:
            async with self._calls.call():
                await pubsub.connect()
                if self._prepare is not None:
                    # Over this very connection: another one of the pool may lead to another server.
                    await self._prepare(pubsub.connection)
                await pubsub.subscribe(*self._channels)
            yield pubsub
        finally:
            with contextlib.suppress(RedisUnavailable):
                async with self._calls.call():
                    await pubsub.aclose()

    async def _next(self, pubsub: Any, seconds: float) -> Any:
        """The next message, or the answer to a ping; None when there was neither in time."""
        async with self._calls.call(wait=seconds):
            return await pubsub.get_message(timeout=seconds)

    async def _ping(self, pubsub: Any) -> None:
        """Ask for an answer over this very connection: another one may live while this one is half-open."""
        async with self._calls.call():
            await pubsub.ping()
