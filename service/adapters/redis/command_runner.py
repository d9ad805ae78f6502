"""How every adapter calls Redis: one timeout for the whole call, the domain's own errors, no lost cancellation."""

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Awaitable
from typing import Any, ClassVar, TypeVar
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

from service.adapters.redis.unreadable_keys import UnreadableKeys
from service.domain.errors import (
    RedisDenied,
    RedisFull,
    RedisKeyInvalid,
    RedisReadOnly,
    RedisUnavailable,
    RedisWritesRefused,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_DEFAULT_TIMEOUT = 5.0
"""Seconds, for a client that was made without a timeout."""
_CANCEL_AGAIN_AFTER = 0.1
"""Seconds after which a call that has timed out and still runs is cancelled once more."""
_RECONNECT_INTERVAL = 1.0
"""Minimum seconds between two reconnects, since many calls fail together."""
_KINDS: tuple[tuple[type[RedisError] | tuple[()], str, type[RedisUnavailable]], ...] = (
    (OutOfMemoryError, "OOM command not allowed", RedisFull),
    (ReadOnlyError, "READONLY", RedisReadOnly),
    ((), "MISCONF", RedisWritesRefused),
    ((), "NOREPLICAS", RedisWritesRefused),
    (AuthenticationError, "WRONGPASS", RedisDenied),
    (NoPermissionError, "NOPERM", RedisDenied),
    ((), "WRONGTYPE", RedisKeyInvalid),
)
"""The client's class, a text that identifies the error (Redis 6.2 wraps errors of scripts), and the domain's error."""


class CommandRunner:
    """Runs the commands of all adapters that use one connection pool. Get it from `CommandRunner.shared`."""

    _by_pool: ClassVar["WeakKeyDictionary[Any, CommandRunner]"] = WeakKeyDictionary()

    def __init__(self, pool: Any) -> None:
        self._pool = weakref.proxy(pool)
        self.call_timeout: float = pool.connection_kwargs.get("socket_timeout") or _DEFAULT_TIMEOUT
        """Seconds for one call, including the waits for a free connection, a connect, a retry and the answer."""
        self.unreadable = UnreadableKeys()
        self._next_reconnect = float("-inf")
        self.failovers = 0
        """How often the server turned out not to be the primary; do not use a connection from before the last time."""

    @classmethod
    def shared(cls, redis: "Redis[str] | Redis") -> "CommandRunner":  # type: ignore[type-arg]
        """The one runner of the client's pool, so that all adapters share its timeout, reconnects and read errors."""
        pool = redis.connection_pool
        if pool not in cls._by_pool:
            cls._by_pool[pool] = cls(pool)
        return cls._by_pool[pool]

    async def run(self, command: Awaitable[T], *, wait: float = 0) -> T:
        """The reply to one command or script, as one `call`."""
        async with self.call(wait=wait):
            return await command

    def call(self, *, wait: float = 0) -> "_Call":
        """A context manager around one call. Raises RedisUnavailable or one of its subclasses.

        `wait` is how many seconds the call asks the server to wait; they are added to the timeout.

        Never put a loop inside. The client uses `asyncio.wait_for`, which in Python 3.11 may lose a cancellation.
        The block raises a lost cancellation at its end, so a block that never ends would keep the process from ending.
        """
        return _Call(self, self.call_timeout + wait)

    async def translate(self, error: Exception) -> RedisUnavailable:
        """The domain's error for the client's; drops connections that may lead to a former primary."""
        kind = error_type(error)
        if kind is RedisReadOnly:
            self.failovers += 1
        if kind is RedisReadOnly or not isinstance(error, ResponseError):
            await self._reconnect(kind)
        return kind()

    async def _reconnect(self, kind: type[RedisUnavailable]) -> None:
        """Close idle connections now, and those in use when they are returned; at most once a second.

        After a failover they may lead to a server that is no longer the primary, or to none.
        """
        now = asyncio.get_running_loop().time()
        if now < self._next_reconnect:
            return
        self._next_reconnect = now + _RECONNECT_INTERVAL
        log.warning("reconnecting to Redis, in case another server is the primary now: %s", kind.message)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(self.call_timeout / 4):
                await self._pool.update_active_connections_for_reconnect()
                await self._pool.disconnect(inuse_connections=False)


class _Call:
    """One call in progress.

    `asyncio.timeout` would cancel only once, and takes three times as long; every status and wake comes through here.
    """

    __slots__ = ("_cancelling", "_expired", "_runner", "_seconds", "_task", "_timer")

    def __init__(self, runner: CommandRunner, seconds: float) -> None:
        self._runner = runner
        self._seconds = seconds

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine always runs in a task
        self._task = task
        self._cancelling = task.cancelling()
        self._expired = 0
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._expired += 1
        self._task.cancel()
        # The client may lose this cancellation too.
        self._timer = asyncio.get_running_loop().call_later(_CANCEL_AGAIN_AFTER, self._expire)

    async def __aexit__(self, _: object, error: BaseException | None, trace: object) -> None:
        self._timer.cancel()
        for _expiry in range(self._expired):
            self._task.uncancel()
        if self._task.cancelling() > self._cancelling:
            raise asyncio.CancelledError
        if isinstance(error, asyncio.CancelledError) and self._expired:
            error = TimeoutError()
        if isinstance(error, (RedisError, OSError, TimeoutError)):
            raise await self._runner.translate(error) from error


def error_type(error: Exception) -> type[RedisUnavailable]:
    """The domain's error class for one of the client's errors."""
    words = str(error) if isinstance(error, RedisError) else ""
    return next((ours for kind, text, ours in _KINDS if isinstance(error, kind) or text in words), RedisUnavailable)
