"""What the gateway relies on in SignOuts."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from service.adapters.redis.client import connected
from service.adapters.redis.sign_outs import RedisSignOuts
from service.domain.names import SessionId
from tests.contracts.conftest import Kept

UUID = SessionId("abc123xy")


async def test_every_subscriber_hears_of_a_sign_out(kept: Kept) -> None:
    heard: list[tuple[SessionId, int]] = []
    first, second = (kept.sign_outs.subscribe(lambda *told: heard.append(told)) for _ in range(2))
    async with asyncio.timeout(10):
        while not heard:  # until it listens
            await kept.sign_outs.publish(UUID, 1_700_000_000)
            await asyncio.sleep(0.05)
    assert set(heard) == {(UUID, 1_700_000_000)}
    assert len(heard) % 2 == 0
    first()
    second()
    heard.clear()
    await kept.sign_outs.publish(UUID, 1)
    await asyncio.sleep(0.05)
    assert not heard


@pytest.fixture
async def redis(redis_port: int) -> AsyncIterator[Redis]:
    async with Redis(port=redis_port) as redis:
        await redis.delete("user-pods:sign-outs:recent")
        yield redis


async def test_a_replica_hears_what_it_missed_while_it_was_not_connected(redis: Redis, redis_port: int) -> None:
    url, heard = f"redis://127.0.0.1:{redis_port}/0", asyncio.Queue[tuple[SessionId, int]]()
    async with connected(url, call_timeout=5) as one, connected(url, call_timeout=5) as other:
        missed = RedisSignOuts(one)
        for since in range(7, 1010):
            await missed.publish(UUID, since)
        listening = RedisSignOuts(other)
        listening.subscribe(lambda *told: heard.put_nowait(told))
        task = asyncio.create_task(listening.run())
        try:
            async with asyncio.timeout(10):
                assert await heard.get() == (UUID, 1009), "the latest first"
                assert {(await heard.get())[1] for _ in range(999)} == set(range(10, 1009)), "a bounded number"
                assert 0 < await redis.ttl("user-pods:sign-outs:recent") <= 3600
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_another_replica_hears_and_what_is_no_sign_out_is_ignored(redis: Redis, redis_port: int) -> None:
    url, heard = f"redis://127.0.0.1:{redis_port}/0", asyncio.Queue[tuple[SessionId, int]]()
    async with connected(url, call_timeout=5) as one, connected(url, call_timeout=5) as other:
        listening = RedisSignOuts(other)
        listening.subscribe(lambda *told: heard.put_nowait(told))
        task = asyncio.create_task(listening.run())
        try:
            async with asyncio.timeout(10):
                while not await redis.publish("user-pods:sign-outs", "x"):  # noqa: ASYNC110 - until it listens
                    await asyncio.sleep(0.02)
                for message in ("", "abc123xy", "abc123xy:", "abc123xy:-1", "abc123xy:1:2", "ABC123XY:1", b"\xff:1"):
                    await redis.publish("user-pods:sign-outs", message)
                await RedisSignOuts(one).publish(UUID, 5)
                assert await heard.get() == (UUID, 5)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
