"""What the domain relies on in the Rollouts: in memory, on the Redis at hand, and on the oldest supported, 6.2."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis

from service.adapters.redis.rollouts import RedisRollouts
from service.domain.names import SessionId
from service.domain.rollout import Pace, Rollout, RolloutFailure, RolloutOptions, RolloutState
from tests.contracts.conftest import Kept

AT = datetime(2026, 3, 2, 9, 30, 0, 123000, tzinfo=UTC)
BARE = Rollout(id="one", target="4f0c2a9b81d3", options=RolloutOptions(), started_by="ci", started_at=AT)
FULL = replace(
    BARE,
    options=RolloutOptions(only_asleep=True, max_parallel=5, canary=3, max_failures=4),
    state=RolloutState.STOPPED,
    ended_at=AT,
    canaries=(SessionId("abc123xy"), SessionId("1e234567")),
    ready_canaries=(SessionId("1e234567"),),
    continued=True,
    failures=(RolloutFailure(SessionId("00000001"), 'a "reason" - ü', AT),),
    pace=Pace(12, 3.25, AT),
    version=2,
)


async def test_a_rollout_comes_back_whole(kept: Kept) -> None:
    assert await kept.rollouts.read() is None
    assert await kept.rollouts.replace(BARE, 0)
    assert await kept.rollouts.read() == BARE
    assert await kept.rollouts.replace(FULL, 1)
    assert await kept.rollouts.read() == FULL


async def test_a_change_of_what_is_not_stored_any_more_is_refused(kept: Kept) -> None:
    assert not await kept.rollouts.replace(FULL, 1)
    assert await kept.rollouts.replace(BARE, 0)
    other = replace(BARE, id="two", version=3)
    for version in (0, 2):
        assert not await kept.rollouts.replace(other, version)
    assert await kept.rollouts.read() == BARE


async def test_what_cannot_be_read_counts_as_none_and_is_replaced(redis_port: int) -> None:
    async with Redis(port=redis_port) as redis:
        rollouts = RedisRollouts(redis)
        for damage in (
            ("SET", "user-pods:rollout", "x"),
            ("HSET", "user-pods:rollout", "version", "7", "rollout", "{"),
            ("HSET", "user-pods:rollout", "version", "x", "rollout", b"\xff\xfe"),
            ("HSET", "user-pods:rollout", "version", "1", "rollout", '{"id": 5}'),
            ("HSET", "user-pods:rollout", "version", "1"),
        ):
            await redis.flushall()
            await redis.execute_command(*damage)  # type: ignore[no-untyped-call]
            assert await rollouts.read() is None
            assert not await rollouts.replace(replace(BARE, version=9), 8)
            assert await rollouts.replace(BARE, 0)
            assert await rollouts.read() == BARE


@pytest.mark.parametrize("decodes", [True, False])
async def test_it_is_read_by_any_client(redis_port: int, decodes: bool) -> None:
    async with Redis(port=redis_port, decode_responses=decodes) as redis:
        await redis.flushall()
        rollouts = RedisRollouts(redis)
        assert await rollouts.replace(BARE, 0)
        assert await rollouts.replace(FULL, 1)
        assert await rollouts.read() == FULL
