"""Rate limits: bursts pass, floods do not, replicas share what they know, and Redis delays nobody."""

import asyncio
from collections.abc import Sequence

import pytest

from service.domain import rate_limits
from service.domain.errors import RedisUnavailable, TooManyRequests
from service.domain.rate_limits import LevelChange, RateLimits
from tests.fakes import MemorySharedLevels
from tests.waiting import until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shared(clock: Clock) -> MemorySharedLevels:
    return MemorySharedLevels(now=clock)


def passed(limits: RateLimits, calls: int, caller: str | None = None, user: str | None = None) -> int:
    """How many of the calls are let through."""
    count = 0
    for _ in range(calls):
        try:
            limits.count(caller=caller, user=user)
            count += 1
        except TooManyRequests:
            pass
    return count


def test_a_minutes_worth_passes_at_once_and_then_the_limit(shared: MemorySharedLevels, clock: Clock) -> None:
    limits = RateLimits(shared, per_caller=60, per_user=None, now=clock)
    assert passed(limits, 100, "shop") == 60
    clock.now += 10
    assert passed(limits, 100, "shop") == 10
    assert passed(limits, 100, "other") == 60
    clock.now += 3600
    assert passed(limits, 100, "shop") == 60


def test_a_refusal_says_when_the_next_request_passes(shared: MemorySharedLevels, clock: Clock) -> None:
    limits = RateLimits(shared, per_caller=None, per_user=6, now=clock)
    assert passed(limits, 6, user="ann") == 6
    with pytest.raises(TooManyRequests) as refused:
        limits.count(caller=None, user="ann")
    assert refused.value.retry_after == 10
    clock.now += 9
    with pytest.raises(TooManyRequests):
        limits.count(caller=None, user="ann")
    clock.now += 1.01
    limits.count(caller=None, user="ann")


def test_one_user_who_floods_costs_the_caller_nothing(shared: MemorySharedLevels, clock: Clock) -> None:
    limits = RateLimits(shared, per_caller=20, per_user=5, now=clock)
    assert passed(limits, 100, "shop", "ann") == 5
    assert passed(limits, 100, "shop", "bob") == 5
    assert passed(limits, 100, "shop") == 10


def test_without_limits_everything_passes(shared: MemorySharedLevels, clock: Clock) -> None:
    limits = RateLimits(shared, per_caller=None, per_user=None, now=clock)
    assert passed(limits, 1000, "shop", "ann") == 1000


async def test_replicas_share_a_limit(shared: MemorySharedLevels, clock: Clock) -> None:
    one, two = (RateLimits(shared, per_caller=60, per_user=None, now=clock) for _ in range(2))
    assert passed(one, 40, "shop") == 40
    assert passed(two, 10, "shop") == 10
    await one.exchange()
    await two.exchange()
    assert passed(two, 100, "shop") == 10
    await two.exchange()
    assert passed(one, 1, "shop") == 1, "it has not heard of the others since"
    await one.exchange()
    assert passed(one, 100, "shop") == 0


async def test_requests_during_an_exchange_count_once(
    shared: MemorySharedLevels, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, add = RateLimits(shared, per_caller=60, per_user=None, now=clock), shared.add

    async def meanwhile(changes: object) -> object:
        levels = await add(changes)  # type: ignore[arg-type]
        assert passed(limits, 10, "shop") == 10
        return levels

    monkeypatch.setattr(shared, "add", meanwhile)
    assert passed(limits, 30, "shop") == 30
    await limits.exchange()
    assert passed(limits, 100, "shop") == 20


async def test_whoever_is_far_from_their_limit_costs_redis_nothing(shared: MemorySharedLevels, clock: Clock) -> None:
    limits = RateLimits(shared, per_caller=1000, per_user=100, now=clock)
    for number in range(50):
        assert passed(limits, 1, "shop", f"user-{number}") == 1
    await limits.exchange()
    assert shared.calls == 0
    for _ in range(10):
        clock.now += 60
        assert passed(limits, 1, user="ann") == 1
        await limits.exchange()
    assert passed(limits, 12, user="ann") == 12
    await limits.exchange()
    assert shared.levels["user:ann"][0] == 13


async def test_without_redis_each_replica_counts_alone_and_says_so_once(
    shared: MemorySharedLevels, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "EXCHANGE_SECONDS", 0.001)
    limits = RateLimits(shared, per_caller=60, per_user=None, now=clock)
    shared.away = True
    assert passed(limits, 30, "shop") == 30
    running = asyncio.create_task(limits.run())
    await until(lambda: shared.calls > 0)
    assert passed(limits, 20, "shop") == 20
    calls = shared.calls
    await until(lambda: shared.calls > calls)
    assert passed(limits, 100, "shop") == 10
    running.cancel()
    assert len(caplog.messages) == 1


async def test_what_redis_has_lost_frees_nobody(shared: MemorySharedLevels, clock: Clock) -> None:
    limits = RateLimits(shared, per_caller=60, per_user=None, now=clock)
    assert passed(limits, 59, "shop") == 59
    await limits.exchange()
    shared.levels.clear()
    assert passed(limits, 100, "shop") == 1
    await limits.exchange()
    assert passed(limits, 100, "shop") == 0


async def test_what_an_exchange_failed_to_tell_the_next_one_tells(shared: MemorySharedLevels, clock: Clock) -> None:
    limits = RateLimits(shared, per_caller=60, per_user=None, now=clock)
    assert passed(limits, 40, "shop") == 40
    shared.away = True
    with pytest.raises(RedisUnavailable):
        await limits.exchange()
    shared.away = False
    await limits.exchange()
    assert shared.levels["caller:shop"][0] == 40
    await limits.exchange()
    assert shared.levels["caller:shop"][0] == 40, "and only once"


async def test_a_level_that_others_have_raised_too_far_asks_nobody_to_wait_longer_than_a_full_one(
    shared: MemorySharedLevels, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def add(changes: Sequence[LevelChange]) -> Sequence[float]:
        return [6000.0 for _ in changes]

    monkeypatch.setattr(shared, "add", add)
    limits = RateLimits(shared, per_caller=60, per_user=None, now=clock)
    assert passed(limits, 30, "shop") == 30
    await limits.exchange()
    with pytest.raises(TooManyRequests) as refused:
        limits.count(caller="shop", user=None)
    assert refused.value.retry_after == 1
