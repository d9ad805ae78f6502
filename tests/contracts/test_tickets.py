"""What the domain relies on in Tickets: in memory, on the Redis at hand, and on Redis 6.2, the oldest supported."""

import asyncio
from datetime import timedelta

from service.domain.names import SessionId
from tests.contracts.conftest import Kept

UUID = SessionId("abc123xy")


async def test_a_ticket_is_taken_once(kept: Kept) -> None:
    await kept.tickets.put("digest", UUID, timedelta(seconds=60))
    assert await kept.tickets.take("other") is None
    taken = await asyncio.gather(*(kept.tickets.take("digest") for _ in range(10)))
    assert sorted(taken, key=str) == [*[None] * 9, UUID]


async def test_a_tickets_life_ends(kept: Kept) -> None:
    await kept.tickets.put("digest", UUID, timedelta(seconds=0.02))
    await asyncio.sleep(0.05)
    assert await kept.tickets.take("digest") is None


async def test_the_first_secret_is_everybodys(kept: Kept) -> None:
    assert await kept.tickets.secret(b"\x00first") == b"\x00first"
    assert await kept.tickets.secret(b"second") == b"\x00first"
