"""What the domain relies on in SharedLevels: in memory, on the Redis at hand, and on the oldest supported, 6.2."""

import asyncio

import pytest
from redis.asyncio import Redis

from service.adapters.redis.shared_levels import RedisSharedLevels
from service.domain.rate_limits import LevelChange
from tests.contracts.conftest import Kept


def change(name: str, count: int, per_second: float = 0.001, highest: float = 1000) -> LevelChange:
    return LevelChange(name=name, count=count, per_second=per_second, highest=highest)


async def test_each_level_has_what_all_have_added(kept: Kept) -> None:
    assert await kept.levels.add([change("a", 3), change("b", 5)]) == [3, 5]
    added = await kept.levels.add([change("b", 2), change("a", 1), change("c", 0)])
    assert added == pytest.approx([7, 4, 0], abs=0.05)


async def test_additions_at_the_same_time_all_count(kept: Kept) -> None:
    await asyncio.gather(*(kept.levels.add([change("a", 1)]) for _ in range(20)))
    assert await kept.levels.add([change("a", 0)]) == pytest.approx([20], abs=0.1)


async def test_a_level_falls_with_time_to_nothing(kept: Kept) -> None:
    await kept.levels.add([change("a", 10, per_second=200)])
    await asyncio.sleep(0.02)
    (level,) = await kept.levels.add([change("a", 0, per_second=200)])
    assert level < 7
    await asyncio.sleep(0.05)
    assert await kept.levels.add([change("a", 0, per_second=200)]) == [0]


async def test_a_level_is_never_higher_than_it_may_be(kept: Kept) -> None:
    assert await kept.levels.add([change("a", 30, highest=20)]) == [20]
    assert await kept.levels.add([change("a", 5, highest=20)]) == [20]


async def test_a_level_that_has_drained_away_is_no_key_and_anything_else_under_its_name_is_replaced(
    redis_port: int,
) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        levels = RedisSharedLevels(redis)
        await redis.set("user-pods:rate:a", "1.2.3 9")
        await redis.lpush("user-pods:rate:b", "x")
        assert await levels.add([change("a", 2), change("b", 60, per_second=1)]) == [2, 60]
        assert 59_000 < await redis.pttl("user-pods:rate:b") <= 60_001


@pytest.mark.parametrize("garbage", ["inf 1", "9" * 400 + " 99999999999999", "1001 99999999999999", "nan 1", ""])
async def test_a_key_that_holds_nonsense_is_replaced_and_the_others_of_its_batch_count(
    redis_port: int, garbage: str
) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        await redis.set("user-pods:rate:bad", garbage)
        assert await RedisSharedLevels(redis).add([change("bad", 1), change("good", 2)]) == [1, 2]
