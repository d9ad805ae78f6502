"""How every adapter calls Redis: one deadline for the whole call, errors as the domain's own, no lost cancellation."""

import asyncio
import contextlib
import logging
import weakref
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

from service.adapters.redis.unreadable_keys import Faults
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
_CANCEL_AGAIN = 0.1
"""Seconds after the deadline until a call that has not ended is cancelled once more."""
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

    def call(self, *, wait: float = 0) -> "_Call":
        """Around one call. Raises RedisUnavailable, or the kind of it that says more.

        `wait` is how many seconds the call itself asks the server to wait, beyond the deadline.

        Never put a loop inside. The client uses `asyncio.wait_for`, which in Python 3.11 loses a cancellation now and
        then; a cancellation that was lost is raised when the block ends, and a block that never ends would keep the
        process from ending.
        """
        return _Call(self, self.deadline + wait)

    async def translated(self, error: Exception) -> RedisUnavailable:
        kind = kind_of(error)
        if kind is RedisReadOnly:
            self.left += 1
        if kind is RedisReadOnly or not isinstance(error, ResponseError):
            await self._leave(kind)
        return kind()

    async def _leave(self, kind: type[RedisUnavailable]) -> None:
        """Close idle connections, and have those in use closed when they are given back; once a second at most.

        After a failover they may lead to a server that is not the primary any more, or to none.
        """
        now = asyncio.get_running_loop().time()
        if now < self._leave_again:
            return
        self._leave_again = now + _LEAVE_AGAIN
        log.warning("connecting to Redis anew, in case another server is the primary now: %s", kind.message)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self.deadline / 4):
                await self._pool.update_active_connections_for_reconnect()
                await self._pool.disconnect(inuse_connections=False)


class _Call:
    """One call under way. By hand and not by `asyncio.timeout`, which cancels only once, and costs three times as much:
    every status and every wake comes through here."""

    __slots__ = ("_asked", "_calls", "_expired", "_seconds", "_task", "_timer")

    def __init__(self, calls: Calls, seconds: float) -> None:
        self._calls = calls
        self._seconds = seconds

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - nothing is awaited outside of one
        self._task = task
        self._asked = task.cancelling()
        self._expired = 0
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._expired += 1
        self._task.cancel()
        # The client may lose this one as it may lose any other.
        self._timer = asyncio.get_running_loop().call_later(_CANCEL_AGAIN, self._expire)

    async def __aexit__(self, _: object, error: BaseException | None, trace: object) -> None:
        self._timer.cancel()
        for _expiry in range(self._expired):
            self._task.uncancel()
        if self._task.cancelling() > self._asked:
            raise asyncio.CancelledError
        if isinstance(error, asyncio.CancelledError) and self._expired:
            error = TimeoutError()
        if isinstance(error, (RedisError, OSError, TimeoutError)):
            raise await self._calls.translated(error) from error


def kind_of(error: Exception) -> type[RedisUnavailable]:
    """The domain's error for one of the client's."""
    text = str(error)
    for kind, words, ours in _KINDS:
        if (kind is not None and isinstance(error, kind)) or (isinstance(error, RedisError) and words in text):
            return ours
    return RedisUnavailable
