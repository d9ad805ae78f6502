"""What the domain relies on in Tickets: in memory, on the Redis at hand, and on Redis 6.2, the oldest supported."""

import asyncio
from datetime import timedelta

from redis.asyncio import Redis

from service.adapters.redis.tickets import RedisTickets
from service.domain.names import SessionId
from service.domain.ports import TICKETS
from tests.contracts.conftest import Kept

UUID, OTHER = SessionId("abc123xy"), SessionId("zzz999zz")
LIFE = timedelta(seconds=60)


async def test_a_ticket_can_be_redeemed_once(kept: Kept) -> None:
    await kept.tickets.put("digest", UUID, LIFE)
    assert not await kept.tickets.take("other", UUID)
    assert not await kept.tickets.take("digest", OTHER)
    taken = await asyncio.gather(*(kept.tickets.take("digest", UUID) for _ in range(10)))
    assert sorted(taken) == [*[False] * 9, True]


async def test_a_ticket_expires(kept: Kept) -> None:
    await kept.tickets.put("digest", UUID, timedelta(seconds=0.02))
    await kept.tickets.put("longer", UUID, LIFE)
    await kept.tickets.put("never", UUID, timedelta(seconds=-1))
    await asyncio.sleep(0.05)
    assert not await kept.tickets.take("digest", UUID)
    assert not await kept.tickets.take("never", UUID)
    assert await kept.tickets.take("longer", UUID)


async def test_beyond_the_limit_the_oldest_ticket_of_a_session_is_dropped(kept: Kept) -> None:
    await kept.tickets.put("others", OTHER, LIFE)
    for number in range(TICKETS + 1):
        await kept.tickets.put(f"{number}", UUID, LIFE + timedelta(milliseconds=number))
    assert not await kept.tickets.take("0", UUID)
    assert await kept.tickets.take("1", UUID)
    assert await kept.tickets.take(f"{TICKETS}", UUID)
    assert await kept.tickets.take("others", OTHER)


async def test_what_works_once_is_used_once_and_forgotten_after_its_life(kept: Kept) -> None:
    used = await asyncio.gather(*(kept.tickets.use_once("digest", LIFE) for _ in range(10)))
    assert sorted(used) == [*[False] * 9, True]
    assert await kept.tickets.use_once("short", timedelta(seconds=0.02))
    await asyncio.sleep(0.05)
    assert await kept.tickets.use_once("short", LIFE)


async def test_tickets_are_removed_from_redis_and_a_key_of_the_wrong_type_is_replaced(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        tickets = RedisTickets(redis)
        await redis.set(f"user-pods:tickets:{UUID}", "x")
        assert not await tickets.take("digest", UUID)
        await tickets.put("digest", UUID, timedelta(seconds=0.05))
        assert 0 < await redis.pttl(f"user-pods:tickets:{UUID}") <= 50
        await tickets.put("digest", UUID, LIFE)
        assert await tickets.take("digest", UUID)
        assert not await redis.keys("*")


async def test_the_secret_of_earlier_versions_is_removed(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.set("user-pods:gateway-secret", "00" * 32)
        await RedisTickets(redis).drop_secret()
        assert not await redis.exists("user-pods:gateway-secret")
