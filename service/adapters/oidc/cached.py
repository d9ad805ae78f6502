"""What the provider publishes: one task reads it for all who need it, and it is used until it can be read again."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from service.domain.backoff import Backoff
from service.domain.identity import SignInFailure, SignInRefused

log = logging.getLogger(__name__)

_FRESH = 3600.0
"""Seconds after which it is read again. Nobody waits for that until it is twice as old."""
_RETRY = (2.0, 30.0)
"""Seconds between two attempts while it cannot be read: the first pause, and the longest."""
_MIN_INTERVAL = 10.0
"""Seconds between two reads that `renew` begins."""
_NEVER = float("-inf")
T = TypeVar("T")


class Cached(Generic[T]):
    """`read` reads the value, or raises SignInRefused. `what` names it in the log. `now` is in seconds."""

    def __init__(self, what: str, read: Callable[[], Awaitable[T]], now: Callable[[], float]) -> None:
        self._what = what
        self._read = read
        self._now = now
        self._value: T | None = None
        self._reading: asyncio.Task[None] | None = None
        self._read_at = self._begun_at = self._failed_at = _NEVER
        self._pause = 0.0
        self._backoff = Backoff(*_RETRY)
        self.failure: SignInRefused | None = None
        """Why it could not be read the last time."""

    async def get(self) -> T:
        """The value. Raises SignInRefused when it was never read, and cannot be now."""
        age = self._now() - self._read_at
        if age > _FRESH and (self._reading or self._now() - self._failed_at >= self._pause):
            reading = self._begin()
            if age > 2 * _FRESH:
                await asyncio.shield(reading)
        return self._found()

    async def renew(self) -> T:
        """The value, read again unless that began a moment ago. Raises SignInRefused when it cannot be read."""
        if self._reading or self._now() - self._begun_at >= _MIN_INTERVAL:
            await asyncio.shield(self._begin())
        if self.failure is not None:
            raise SignInRefused(self.failure.failure, self.failure.reason)
        return self._found()

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._reading

    def _found(self) -> T:
        if self._value is None:
            failure = self.failure or SignInRefused(SignInFailure.PROVIDER_AWAY)
            raise SignInRefused(failure.failure, failure.reason)
        return self._value

    def _begin(self) -> asyncio.Task[None]:
        """The task that reads; the one that is under way, if there is one."""
        if self._reading is None:
            self._begun_at = self._now()
            self._reading = asyncio.create_task(self._read_once(), name=f"read {self._what}")
        return self._reading

    async def _read_once(self) -> None:
        begun = self._begun_at
        try:
            self._value = await self._read()
            self._read_at, self.failure = begun, None
            self._backoff.reset()
        except SignInRefused as failure:
            self._failed_at, self._pause, self.failure = self._now(), self._backoff.next(), failure
            log.warning("%s cannot be read", self._what, extra={"why": failure.reason})
        finally:
            self._reading = None
