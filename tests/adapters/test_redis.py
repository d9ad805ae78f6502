"""What becomes of calls and subscriptions when Redis is frozen, full, demoted, or reached by a dead connection."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import PubSub

from devcluster import components
from devcluster.errors import DevclusterError
from faults.proxy import TcpProxy
from service.adapters.redis import subscription as redis_subscription
from service.adapters.redis.client import connected
from service.adapters.redis.progress import RedisProgress
from service.adapters.redis.queues import RedisQueues
from service.adapters.redis.store import RedisStore
from service.domain.errors import (
    RedisDenied,
    RedisFull,
    RedisKeyInvalid,
    RedisReadOnly,
    RedisUnavailable,
    RedisWritesRefused,
)
from service.domain.names import SessionId
from service.domain.record import Record, RecordStatus
from tests.redis_servers import Server, redis_server

A, B = map(SessionId, ("aaaaaaaa", "12345678"))
LEASE = timedelta(seconds=15)
CALL_TIMEOUT = 0.5


@pytest.fixture(params=["system", "wheel"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    try:
        components.redis_server(request.param)
    except DevclusterError:
        pytest.skip("no redis-server on PATH; the wheel's alone is tested")
    with redis_server(which=request.param) as server:
        yield server


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_subscription, "PING_AFTER", 0.2)


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/0"


async def saved(store: RedisStore, *uuids: SessionId) -> None:
    await store.mark_index_complete()
    for uuid in uuids:
        await store.save(Record(uuid, f"user-{uuid}", RecordStatus.CREATED, datetime.now(UTC)))


async def hear(heard: asyncio.Queue[SessionId | None], queues: RedisQueues) -> None:
    """As the leader listens."""
    while True:
        with suppress(RedisUnavailable):
            async for uuid in queues.pushes():
                heard.put_nowait(uuid)
        await asyncio.sleep(0.05)


async def told(heard: asyncio.Queue[SessionId | None], uuid: SessionId, push: Callable[[], Any]) -> None:
    """Push until a notification arrives: a push while nobody listens is lost, and the resync makes up for it."""
    async with asyncio.timeout(10):
        while True:
            await push()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    while await heard.get() != uuid:
                        pass
                    return


@pytest.fixture
async def listening() -> AsyncIterator[Callable[..., asyncio.Task[None]]]:
    tasks: list[asyncio.Task[None]] = []

    def start(work: Any) -> asyncio.Task[None]:
        tasks.append(asyncio.create_task(work))
        return tasks[-1]

    yield start
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_half_open_subscription_to_pushes_is_detected_over_its_own_connection(
    server: Server, quickly: None, listening: Callable[..., Any]
) -> None:
    heard: asyncio.Queue[SessionId | None] = asyncio.Queue()
    async with (
        TcpProxy.to(server.port) as proxy,
        connected(url(proxy.port), call_timeout=CALL_TIMEOUT) as redis,
        Redis(port=server.port) as direct,
    ):
        listening(hear(heard, RedisQueues(redis)))
        await told(heard, A, lambda: direct.rpush(f"queue:{A}", "x"))
        proxy.half_open()
        await told(heard, B, lambda: direct.rpush(f"queue:{B}", "x"))


async def test_a_half_open_subscription_to_progress_is_detected_too(
    server: Server, quickly: None, listening: Callable[..., Any]
) -> None:
    async with TcpProxy.to(server.port) as proxy, connected(url(proxy.port), call_timeout=CALL_TIMEOUT) as redis:
        progress = RedisProgress(redis)
        with progress.following(A) as flag:
            listening(progress.run())
            await asyncio.wait_for(flag.wait(), 5)
            proxy.half_open()
            flag.clear()
            await asyncio.wait_for(flag.wait(), 5)  # told when it listens again


async def test_a_half_open_subscription_continues_over_a_new_connection(server: Server, quickly: None) -> None:
    async with (
        TcpProxy.to(server.port) as proxy,
        connected(url(proxy.port), call_timeout=CALL_TIMEOUT) as redis,
        aclosing(RedisQueues(redis).pushes()) as pushes,  # type: ignore[type-var]
        asyncio.timeout(10),
    ):
        assert [await anext(pushes), await anext(pushes)] == [None, None]
        proxy.half_open()
        assert await anext(pushes) is None


async def test_a_quiet_but_live_subscription_is_kept(
    server: Server, quickly: None, listening: Callable[..., Any]
) -> None:
    heard: asyncio.Queue[SessionId | None] = asyncio.Queue()
    async with connected(url(server.port), call_timeout=CALL_TIMEOUT) as redis, Redis(port=server.port) as direct:
        listening(hear(heard, RedisQueues(redis)))
        await told(heard, A, lambda: direct.rpush(f"queue:{A}", "x"))
        await asyncio.sleep(0.8)  # several times the quiet that makes it be tried
        assert heard.empty()


async def test_notifications_are_enabled_at_the_server_after_a_reconnect(
    server: Server, listening: Callable[..., Any]
) -> None:
    heard: asyncio.Queue[SessionId | None] = asyncio.Queue()
    with redis_server() as other:
        async with (
            TcpProxy.to(server.port) as proxy,
            connected(url(proxy.port), call_timeout=CALL_TIMEOUT) as redis,
            Redis(port=other.port) as direct,
        ):
            listening(hear(heard, RedisQueues(redis)))
            await asyncio.wait_for(heard.get(), 5)
            proxy.redirect(other.port)
            await told(heard, A, lambda: direct.rpush(f"queue:{A}", "x"))


async def test_a_demoted_server_is_left_for_the_primary(server: Server) -> None:
    with redis_server() as other:
        async with (
            TcpProxy.to(server.port) as proxy,
            connected(url(proxy.port), call_timeout=CALL_TIMEOUT) as redis,
            Redis(port=server.port) as demoted,
            Redis(port=other.port) as promoted,
        ):
            store = RedisStore(redis)
            await asyncio.gather(*(store.ping() for _ in range(10)))  # many connections in the pool
            proxy.target = other.port
            await demoted.replicaof("127.0.0.1", other.port)
            with pytest.raises(RedisReadOnly):
                await store.ping()
            await asyncio.gather(*(store.ping() for _ in range(10)))
            assert await promoted.exists("user-pods:ping")


@pytest.mark.parametrize("callers", [1, 100])
async def test_a_frozen_redis_answers_callers_within_the_deadline(server: Server, callers: int) -> None:
    async with connected(url(server.port), call_timeout=CALL_TIMEOUT) as redis:
        store = RedisStore(redis)
        await saved(store, A)
        with server.frozen():
            for call in (store.ping, lambda: store.record(A), lambda: RedisQueues(redis).wake(A, LEASE)):
                began = time.monotonic()
                results = await asyncio.gather(*(call() for _ in range(callers)), return_exceptions=True)
                assert {type(result) for result in results} == {RedisUnavailable}
                assert time.monotonic() - began < CALL_TIMEOUT + 1
        await store.ping()
        assert (await store.record(A)).uuid == A


async def test_a_full_redis_is_reported_as_full_and_can_still_be_read(server: Server) -> None:
    async with connected(url(server.port), call_timeout=CALL_TIMEOUT) as redis:
        store, queues = RedisStore(redis), RedisQueues(redis)
        await saved(store, A)
        await queues.wake(A, LEASE)
        await redis.config_set("maxmemory", "1")
        for write in (store.ping, lambda: queues.wake(A, LEASE), lambda: store.claim("eve", B)):
            with pytest.raises(RedisFull, match="full"):
                await write()
        assert (await store.record(A)).queue.is_wanted
        assert (await queues.read([A]))[A].tokens == 1
        await queues.clear(A)  # who is put to sleep takes no room
        await redis.config_set("maxmemory", "0")
        await store.ping()


async def test_a_redis_that_refuses_writes_or_the_user_is_reported_as_such(server: Server) -> None:
    async with connected(url(server.port), call_timeout=CALL_TIMEOUT) as redis:
        await redis.config_set("min-replicas-to-write", "1")
        with pytest.raises(RedisWritesRefused):
            await RedisStore(redis).ping()
        await redis.config_set("min-replicas-to-write", "0")
        await redis.config_set("requirepass", "secret")
    async with connected(url(server.port), call_timeout=CALL_TIMEOUT) as redis:
        with pytest.raises(RedisDenied):
            await RedisStore(redis).ping()


@pytest.mark.parametrize("part", ["pushes", "progress"])
async def test_a_cancellation_that_the_client_swallows_still_ends_the_part(
    server: Server, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    reading = asyncio.Event()
    get_message = PubSub.get_message

    async def swallowing(self: PubSub, *args: Any, **kwargs: Any) -> Any:
        reading.set()
        try:
            return await get_message(self, *args, **kwargs)
        except asyncio.CancelledError:
            return None  # as `asyncio.wait_for` of Python 3.11 does when its answer comes at the same moment

    monkeypatch.setattr(PubSub, "get_message", swallowing)
    async with connected(url(server.port), call_timeout=CALL_TIMEOUT) as redis:
        heard: asyncio.Queue[SessionId | None] = asyncio.Queue()
        work = hear(heard, RedisQueues(redis)) if part == "pushes" else RedisProgress(redis).run()
        task = asyncio.create_task(work)
        await asyncio.wait_for(reading.wait(), 5)
        await asyncio.sleep(0.1)
        task.cancel()
        _, left = await asyncio.wait([task], timeout=2)
        for each in left:  # a part that does not end must not keep the test from ending
            monkeypatch.setattr(PubSub, "get_message", get_message)
            each.cancel()
            await asyncio.wait([each])
        assert not left


async def test_a_key_of_all_sessions_that_has_the_wrong_type_makes_the_check_fail(server: Server) -> None:
    async with connected(url(server.port), call_timeout=CALL_TIMEOUT) as redis:
        store = RedisStore(redis)
        await saved(store, A)
        await redis.delete("user-pods:pending")
        await redis.set("user-pods:pending", "x")
        for call in (store.ping, lambda: store.record(A)):
            with pytest.raises(RedisKeyInvalid, match="user-pods:pending"):
                await call()


async def test_a_redis_that_comes_back_is_used_again_at_once(listening: Callable[..., Any]) -> None:
    heard: asyncio.Queue[SessionId | None] = asyncio.Queue()
    with redis_server() as server:
        async with connected(url(server.port), call_timeout=CALL_TIMEOUT) as redis:
            store = RedisStore(redis)
            listening(hear(heard, RedisQueues(redis)))
            await asyncio.wait_for(heard.get(), 5)
            server.end()
            with pytest.raises(RedisUnavailable):
                await store.ping()
            with redis_server(port=server.port):
                await store.ping()
                await told(heard, A, lambda: redis.rpush(f"queue:{A}", "x"))
