"""Bounds the calls that browsers cause at the identity provider: anybody can begin a sign-in."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from service.domain.counting import counted
from service.domain.identity import SignInFailure, SignInRefused
from service.domain.rate_limiter import RateLimiter

PER_SECOND = 20.0
"""And as many at once after a quiet second."""
UNDER_WAY = 20
PATIENCE = 3.0
"""Seconds that a sign-in waits for its turn."""
SHARE = 0.5
"""Of both, for one client: nobody can keep all others out."""


class CallLimit:
    """`PER_SECOND` sign-ins on average, of which `UNDER_WAY` at the same time, in one process."""

    def __init__(self) -> None:
        self._rate = RateLimiter(PER_SECOND)
        self._under_way = asyncio.Semaphore(UNDER_WAY)
        self._of_client: Counter[str] = Counter()
        """Turns under way, and those that wait."""
        self._second = 0
        self._begun: Counter[str] = Counter()
        """Turns that each client has begun in this second."""

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """The calls of one sign-in of the client. Raises SignInRefused when it would have to wait too long."""
        self._check_share(client)
        with counted(self._of_client, client):
            async with self._common_turn():
                yield

    def _check_share(self, client: str) -> None:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._begun = second, Counter()
        if self._begun[client] >= SHARE * PER_SECOND or self._of_client[client] >= SHARE * UNDER_WAY:
            raise SignInRefused(SignInFailure.BUSY, "too many sign-ins of one client")
        self._begun[client] += 1

    @asynccontextmanager
    async def _common_turn(self) -> AsyncIterator[None]:
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
