"""The session lock of a replica that died is taken over in seconds; one that only froze goes no further."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from service.adapters.redis import locks as redis_locks
from service.adapters.redis.client import connected
from service.adapters.redis.store import RedisStore
from service.domain.errors import SessionBusy
from service.domain.names import SessionId
from service.domain.ports import SessionLock

A = SessionId("aaaaaaaa")
KEY = f"user-pods:work:{A}"


@pytest.fixture
async def redis(redis_port: int) -> AsyncIterator[Any]:
    async with connected(f"redis://127.0.0.1:{redis_port}/0", call_timeout=5) as redis:
        await redis.flushall()
        yield redis


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("EXPIRY", 6.0), ("RENEWAL", 0.1), ("DOUBT_AFTER", 0.3), ("DOUBT_GRACE", 0.3)):
        monkeypatch.setattr(redis_locks, name, seconds)


async def taken(store: RedisStore, held: AsyncExitStack) -> tuple[SessionLock, float]:
    """The lock, waited for as a create does, and how many seconds that took."""
    began = time.monotonic()
    async with asyncio.timeout(10):
        while True:
            try:
                return await held.enter_async_context(store.lock(A)), time.monotonic() - began
            except SessionBusy:
                await asyncio.sleep(0.02)


async def test_a_dead_holders_lock_is_taken_over_long_before_it_expires(
    redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisStore(redis)
    async with AsyncExitStack() as held, AsyncExitStack() as dead:
        monkeypatch.setattr(redis_locks, "RENEWAL", 60)  # it renews nothing any more, as one that was killed
        lost = await dead.enter_async_context(store.lock(A))
        await asyncio.sleep(0.01)
        monkeypatch.setattr(redis_locks, "RENEWAL", 0.1)
        lock, seconds = await taken(RedisStore(redis), held)
        assert seconds < 3
        await lock.confirm()
        # It was only frozen, and comes back: it finds out before its next step, and takes nothing from the other.
        with pytest.raises(SessionBusy, match="taken over"):
            await lost.confirm()
        await dead.aclose()
        await lock.confirm()


async def test_a_living_holders_lock_is_never_taken_over(redis: Any) -> None:
    store = RedisStore(redis)
    async with store.lock(A) as lock:
        for _ in range(60):  # three times as long as a dead one's would last
            with pytest.raises(SessionBusy):
                async with RedisStore(redis).lock(A):
                    pass
            await asyncio.sleep(0.03)
        await lock.confirm()


async def test_a_living_holder_keeps_its_lock_through_an_outage_of_redis(redis: Any) -> None:
    store = RedisStore(redis)
    async with store.lock(A) as lock:
        # As after a frozen Redis: nobody could renew for longer than a dead one is given.
        await redis.pexpire(KEY, 5000)
        with pytest.raises(SessionBusy):
            async with store.lock(A):
                pass
        await asyncio.sleep(0.25)  # it has renewed once or twice
        assert await redis.pttl(KEY) > 5000
        await lock.confirm()


@pytest.mark.parametrize("kind", ["string", "hash", "list"])
async def test_a_foreign_lock_blocks_a_session_only_for_seconds(redis: Any, kind: str) -> None:
    await {
        "string": lambda: redis.set(KEY, "me"),
        "hash": lambda: redis.hset(KEY, "a", "b"),
        "list": lambda: redis.rpush(KEY, "a"),
    }[kind]()
    async with AsyncExitStack() as held:
        _, seconds = await taken(RedisStore(redis), held)
        assert seconds < 3


async def test_a_holder_of_an_older_version_that_renews_less_often_keeps_its_lock(redis: Any) -> None:
    await redis.set(KEY, "0123456789abcdef", px=4000)
    with pytest.raises(SessionBusy):
        async with RedisStore(redis).lock(A):
            pass
    assert await redis.pttl(KEY) > 3000
