"""Bounds the calls that browsers cause at the identity provider: anybody can begin a sign-in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.domain.identity import SignInFailure, SignInRefused
from service.domain.rate_limiter import RateLimiter

PER_SECOND = 20.0
"""And as many at once after a quiet second."""
UNDER_WAY = 20
PATIENCE = 3.0
"""Seconds that a sign-in waits for its turn."""


class CallLimit:
    """`PER_SECOND` sign-ins on average, of which `UNDER_WAY` at the same time, in one process."""

    def __init__(self) -> None:
        self._rate = RateLimiter(PER_SECOND)
        self._under_way = asyncio.Semaphore(UNDER_WAY)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The calls of one sign-in. Raises SignInRefused when it would have to wait too long."""
        if not await self._rate.wait(PATIENCE):
            raise SignInRefused(SignInFailure.BUSY, "too many sign-ins a second")
        try:
            async with asyncio.timeout(PATIENCE):
                await self._under_way.acquire()
        except TimeoutError:
            raise SignInRefused(SignInFailure.BUSY, "too many sign-ins wait for the provider") from None
        try:
            yield
        finally:
            self._under_way.release()
