"""How every adapter calls Redis: one deadline for the whole call, errors as the domain's own, no lost cancellation."""

import asyncio
import contextlib
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from service.adapters.redis_faults import Faults
from service.domain.errors import (
    RedisDenied,
    RedisFull,
    RedisKeyInvalid,
    RedisReadOnly,
    RedisUnavailable,
    RedisWritesRefused,
)

log = logging.getLogger(__name__)

_DEADLINE = 5.0
"""Seconds, for a client that was made without a timeout of its own."""
_LEAVE_AGAIN = 1.0
"""Seconds between two times of closing connections: many calls fail together."""
_KINDS: tuple[tuple[type[RedisError] | None, str, type[RedisUnavailable]], ...] = (
    (OutOfMemoryError, "OOM command not allowed", RedisFull),
    (ReadOnlyError, "READONLY", RedisReadOnly),
    (None, "MISCONF", RedisWritesRefused),
    (None, "NOREPLICAS", RedisWritesRefused),
    (AuthenticationError, "WRONGPASS", RedisDenied),
    (NoPermissionError, "NOPERM", RedisDenied),
    (None, "WRONGTYPE", RedisKeyInvalid),
)
"""The client's class, what else gives the kind away (Redis 6.2 wraps errors of scripts in its own words), our error."""


class Calls:
    """The calls of all adapters to one pool. Use `Calls.of`, so that they share what they learn about it."""

    _all: ClassVar["WeakKeyDictionary[Any, Calls]"] = WeakKeyDictionary()

    def __init__(self, pool: Any) -> None:
        self._pool = weakref.proxy(pool)
        self.deadline: float = pool.connection_kwargs.get("socket_timeout") or _DEADLINE
        """Seconds for one call, whatever it has to wait for: a free connection, a connect, a retry, the answer."""
        self.faults = Faults()
        self._leave_again = float("-inf")
        self.left = 0
        """How often the server was found to be no primary; a connection that is older must not be used further."""

    @classmethod
    def of(cls, redis: "Redis[str] | Redis") -> "Calls":  # type: ignore[type-arg]
        pool = redis.connection_pool
        if pool not in cls._all:
            cls._all[pool] = cls(pool)
        return cls._all[pool]

    @asynccontextmanager
    async def call(self, *, wait: float = 0) -> AsyncIterator[None]:
        """Around one call. Raises RedisUnavailable, or the kind of it that says more.

        `wait` is how many seconds the call itself asks the server to wait, beyond the deadline.

        Never put a loop inside. The client uses `asyncio.wait_for`, which in Python 3.11 loses a cancellation now and
        then; a cancellation that was lost is raised when the block ends, and a block that never ends would keep the
        process from ending.
        """
        task = asyncio.current_task()
        asked = task.cancelling() if task else 0
        try:
            # Twice, since the client may lose the first as it may lose any other cancellation.
            async with asyncio.timeout(self.deadline * 1.25 + wait), asyncio.timeout(self.deadline + wait):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            raise await self._translated(error) from error
        finally:
            if task and task.cancelling() > asked:
                raise asyncio.CancelledError

    async def _translated(self, error: Exception) -> RedisUnavailable:
        kind = kind_of(error)
        if kind is RedisReadOnly:
            self.left += 1
            log.warning("Redis is read-only: connecting anew, in case another server is the primary now")
        if kind is RedisReadOnly or not isinstance(error, ResponseError):
            await self._leave()
        return kind()

    async def _leave(self) -> None:
        """Close idle connections, and have those in use closed when they are given back; once a second at most.

        After a failover they may lead to a server that is not the primary any more, or to none.
        """
        now = asyncio.get_running_loop().time()
        if now < self._leave_again:
            return
        self._leave_again = now + _LEAVE_AGAIN
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self.deadline / 4):
                await self._pool.update_active_connections_for_reconnect()
                await self._pool.disconnect(inuse_connections=False)


def kind_of(error: Exception) -> type[RedisUnavailable]:
    """The domain's error for one of the client's."""
    text = str(error)
    for kind, words, ours in _KINDS:
        if (kind is not None and isinstance(error, kind)) or (isinstance(error, RedisError) and words in text):
            return ours
    return RedisUnavailable
