"""What the gateway relies on in Companions: in memory, on the Redis at hand, and on Redis 6.2, the oldest supported."""

from redis.asyncio import Redis

from service.adapters.redis.companions import RedisCompanions
from service.domain.names import SessionId
from service.domain.ports import COMPANION_SEEN, COMPANIONS
from tests.contracts.conftest import Kept

UUID, OTHER = SessionId("abc123xy"), SessionId("zzz999zz")


async def test_a_browser_is_known_in_its_own_session_alone(kept: Kept) -> None:
    assert not await kept.companions.is_seen(UUID, "one")
    await kept.companions.seen(UUID, "one")
    await kept.companions.seen(UUID, "one")
    assert await kept.companions.is_seen(UUID, "one")
    assert not await kept.companions.is_seen(UUID, "two")
    assert not await kept.companions.is_seen(OTHER, "one")


async def test_a_session_knows_whether_any_of_its_browsers_is_there(kept: Kept) -> None:
    assert not await kept.companions.any_seen(UUID)
    await kept.companions.seen(UUID, "one")
    assert await kept.companions.any_seen(UUID)
    assert not await kept.companions.any_seen(OTHER)


async def test_a_session_has_a_limited_number_and_the_oldest_is_dropped(kept: Kept) -> None:
    for number in range(COMPANIONS + 1):
        await kept.companions.seen(UUID, f"b{number:03}")
    known = [await kept.companions.is_seen(UUID, f"b{number:03}") for number in range(COMPANIONS + 1)]
    assert known == [False, *[True] * COMPANIONS]


async def test_they_expire_and_a_key_of_the_wrong_type_is_replaced(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        companions, key = RedisCompanions(redis), f"user-pods:companions:{UUID}"
        await redis.set(key, "x")
        assert not await companions.is_seen(UUID, "one")
        assert not await companions.any_seen(UUID)
        await companions.seen(UUID, "one")
        assert 0 < await redis.pttl(key) <= COMPANION_SEEN.total_seconds() * 1000
        await redis.zadd(key, {"one": 1})
        assert not await companions.is_seen(UUID, "one")
        assert not await companions.any_seen(UUID)
        await companions.seen(UUID, "two")
        assert await redis.zrange(key, 0, -1) == ["two"]
