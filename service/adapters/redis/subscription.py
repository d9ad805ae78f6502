"""Messages of Redis channels, over one connection that is checked by pings."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from service.adapters.redis.command_runner import CommandRunner
from service.domain.errors import RedisUnavailable

PING_AFTER = 15.0
"""Seconds without a message after which the connection is pinged: a half-open one must be noticed within a minute."""
_MAX_PING_TIMEOUT = 30.0
"""Seconds that the answer to a ping may take, however long the timeout of a call is."""


class Subscription:
    """The messages of some channels. `prepare` sets up the server, over the connection that then subscribes."""

    def __init__(
        self,
        redis: "Redis[str] | Redis",  # type: ignore[type-arg]
        *channels: str,
        prepare: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self._redis: Any = redis
        self._runner = CommandRunner.shared(redis)
        self._channels = channels
        self._prepare = prepare

    async def messages(self) -> AsyncGenerator[str | None, None]:
        """Yield the data of each message, and None for each channel whenever a subscription begins.

        None means that messages may have been missed. Raises RedisUnavailable when the connection is lost and
        reconnecting fails.
        """
        while True:
            async with contextlib.aclosing(self._connected()) as connected:
                async for data in connected:
                    yield data

    async def _connected(self) -> AsyncGenerator[str | None, None]:
        """The same for one connection. Ends when the client has reconnected on its own: `prepare` has to run again."""
        subscribed, pinged, failovers = 0, False, self._runner.failovers
        ping_timeout = min(self._runner.call_timeout, _MAX_PING_TIMEOUT)
        async with self._subscribed() as pubsub:
            while failovers == self._runner.failovers:
                seconds = ping_timeout if pinged else PING_AFTER
                message = await self._runner.run(pubsub.get_message(timeout=seconds), wait=seconds)
                if message is None:
                    if pinged:
                        return  # half-open
                    # Over this connection: another one may work while this one is half-open.
                    await self._runner.run(pubsub.ping())
                    pinged = True
                    continue
                pinged = False
                if message["type"] == "subscribe":
                    subscribed += 1
                    if subscribed > len(self._channels):
                        return
                    yield None
                elif message["type"] == "message":
                    yield message["data"]

    @asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[Any]:
        pubsub = self._redis.pubsub()
        try:
            async with self._runner.call():
                await pubsub.connect()
                if self._prepare is not None:
                    # Use this connection: another one of the pool may lead to another server.
                    await self._prepare(pubsub.connection)
                await pubsub.subscribe(*self._channels)
            yield pubsub
        finally:
            with contextlib.suppress(RedisUnavailable):
                await self._runner.run(pubsub.aclose())
