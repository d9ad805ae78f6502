"""Behind real Sentinels the service finds the primary, follows a failover within seconds, and hears pushes again."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from service.adapters.redis import subscription as redis_subscription
from service.adapters.redis.client import connected
from service.adapters.redis.queues import RedisQueues
from service.adapters.redis.store import RedisStore
from service.domain.errors import RedisUnavailable
from service.domain.names import SessionId
from service.domain.record import Record, RecordStatus
from tests.conftest import free_port
from tests.redis_servers import MASTER, Server, redis_server, sentinel

A = SessionId("aaaaaaaa")


class Site:
    """A primary, its replica, and a Sentinel that fails over when the primary has been down for half a second."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.primary = stack.enter_context(redis_server())
        self.replica = stack.enter_context(
            redis_server("--replicaof", "127.0.0.1", str(self.primary.port), "--repl-diskless-sync-delay", "0")
        )
        self.sentinel = stack.enter_context(sentinel(folder, self.primary))

    @property
    def url(self) -> str:
        """The first of the Sentinels is down."""
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.sentinel.port}/{MASTER}/0"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


@pytest.fixture
async def redis(site: Site, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Any]:
    monkeypatch.setattr(redis_subscription, "PING_AFTER", 0.3)
    async with connected(site.url, call_timeout=1) as redis:
        await retried(RedisStore(redis).ping)  # until the Sentinel has looked
        yield redis


async def retried(call: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(15):
        while True:
            with suppress(RedisUnavailable):
                return await call()
            await asyncio.sleep(0.1)


async def replicated(server: Server) -> None:
    """The Sentinel knows the replica, which has everything: it can be promoted."""
    async with Redis(port=server.port, decode_responses=True) as direct, asyncio.timeout(15):
        while not await direct.exists(f"session:{A}"):  # noqa: ASYNC110 - the other side is asked
            await asyncio.sleep(0.05)


async def known(site: Site) -> None:
    async with Redis(port=site.sentinel.port) as sentinel, asyncio.timeout(15):
        while not await sentinel.sentinel_slaves(MASTER):  # noqa: ASYNC110 - the other side is asked
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_a_failover_is_followed_and_pushes_are_heard_from_the_new_primary(
    site: Site, redis: Any, how: str
) -> None:
    store, queues = RedisStore(redis), RedisQueues(redis)
    heard: asyncio.Queue[SessionId | None] = asyncio.Queue()

    async def listen() -> None:
        while True:
            with suppress(RedisUnavailable):
                async for uuid in queues.pushes():
                    heard.put_nowait(uuid)
            await asyncio.sleep(0.1)

    await store.mark_index_complete()
    await store.save(Record(A, "ann", RecordStatus.CREATED, datetime.now(UTC)))
    await asyncio.gather(*(store.ping() for _ in range(10)))
    listening = asyncio.create_task(listen())
    await asyncio.wait_for(heard.get(), 5)
    await replicated(site.replica)
    await known(site)
    with ExitStack() as stack:
        if how == "killed":
            site.primary.end()
        else:
            stack.enter_context(site.primary.frozen())
        await retried(store.ping)
        assert (await store.record(A)).user_id == "ann"
        async with Redis(port=site.replica.port) as promoted, asyncio.timeout(15):
            while True:
                await queues.wake(A, timedelta(seconds=15))
                assert await promoted.llen(f"queue:{A}") > 0
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.3):
                        while await heard.get() != A:
                            pass
                        break
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_the_client_leaves_a_primary_that_steps_down(site: Site, redis: Any) -> None:
    store = RedisStore(redis)
    await store.save(Record(A, "ann", RecordStatus.CREATED, datetime.now(UTC)))
    await replicated(site.replica)
    await known(site)
    async with Redis(port=site.sentinel.port) as sentinel, Redis(port=site.replica.port) as promoted:
        await sentinel.execute_command("SENTINEL", "FAILOVER", MASTER)  # type: ignore[no-untyped-call]
        async with asyncio.timeout(15):
            # The old one takes writes until the Sentinel has told it.
            while not await promoted.exists("user-pods:ping"):
                await retried(store.ping)
                await asyncio.sleep(0.1)


async def test_sentinels_that_do_not_know_the_master_count_as_redis_being_down(site: Site) -> None:
    async with connected(f"redis+sentinel://127.0.0.1:{site.sentinel.port}/other/0", call_timeout=1) as redis:
        with pytest.raises(RedisUnavailable):
            await RedisStore(redis).ping()
