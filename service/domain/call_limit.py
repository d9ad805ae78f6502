"""Bounds the calls that browsers cause at the identity provider: anybody can begin a sign-in."""

import asyncio
import ipaddress
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
NETWORK_SHARE = 0.75
"""The same for all clients of one network: one program may have many addresses."""
_NETWORKS = {4: 24, 6: 48}
"""Bits of a network's address, by version of IP."""


class CallLimit:
    """`PER_SECOND` sign-ins on average, of which `UNDER_WAY` at the same time, in one process."""

    def __init__(self) -> None:
        self._rate = RateLimiter(PER_SECOND)
        self._under_way = asyncio.Semaphore(UNDER_WAY)
        self._of_client: Counter[str] = Counter()
        """Turns under way, and those that wait, of each client and of each network."""
        self._second = 0
        self._begun: Counter[str] = Counter()
        """Turns that each client, and each network, has begun in this second."""

    @asynccontextmanager
    async def turn(self, client: str) -> AsyncIterator[None]:
        """The calls of one sign-in of the client. Raises SignInRefused when it would have to wait too long."""
        network = _network(client)
        self._check_share(client, network)
        with counted(self._of_client, client), counted(self._of_client, network):
            async with self._common_turn():
                yield

    def _check_share(self, client: str, network: str) -> None:
        second = int(asyncio.get_running_loop().time())
        if second != self._second:
            self._second, self._begun = second, Counter()
        for each, share in ((client, SHARE), (network, NETWORK_SHARE)):
            if self._begun[each] >= share * PER_SECOND or self._of_client[each] >= share * UNDER_WAY:
                raise SignInRefused(SignInFailure.BUSY, "too many sign-ins of one client or network")
        self._begun.update((client, network))

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


def _network(client: str) -> str:
    """The network of an address, or of a smaller network. What is neither is a network of its own."""
    try:
        found = ipaddress.ip_network(client)
    except ValueError:
        return f"network of {client}"
    return str(found.supernet(new_prefix=_NETWORKS[found.version]))
