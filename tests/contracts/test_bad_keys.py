"""Invalid data under a session's keys affects only that session; all others work as before."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from service.adapters.redis.client import connected
from service.adapters.redis.progress import RedisProgress
from service.adapters.redis.queues import RedisQueues
from service.adapters.redis.store import RedisStore
from service.adapters.redis.unreadable_keys import Part, UnreadableKeys
from service.domain.errors import SessionUnreadable
from service.domain.names import SessionId
from service.domain.progress import ProgressUpdate, Stage
from service.domain.record import Record, RecordStatus

A, B, C = map(SessionId, ("aaaaaaaa", "bbbbbbbb", "1e234567"))
LEASE = timedelta(seconds=15)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPOIL: dict[str, Callable[[Any, str], Any]] = {
    "string": lambda redis, key: redis.set(key, "1"),
    "set": lambda redis, key: redis.sadd(key, "1"),
    "zset": lambda redis, key: redis.zadd(key, {"1": 1}),
    "hash": lambda redis, key: redis.hset(key, "1", "1"),
    "list": lambda redis, key: redis.rpush(key, "1"),
    "stream": lambda redis, key: redis.xadd(key, {"1": "1"}),
}


@pytest.fixture
async def redis(redis_port: int) -> AsyncIterator[Any]:
    async with connected(f"redis://127.0.0.1:{redis_port}/0", call_timeout=5) as redis:
        await redis.flushall()
        store = RedisStore(redis)
        await store.mark_index_complete()
        for uuid in (A, B, C):
            await store.save(Record(uuid, f"user-{uuid}", RecordStatus.CREATED, NOW))
        yield redis


async def others_go_on(redis: Any) -> None:
    """Everything that is done with many sessions at once, and with one of the others."""
    store, queues = RedisStore(redis), RedisQueues(redis)
    assert (await queues.wake(B, LEASE)).length >= 1
    found = {record.uuid: record for record in await store.records([B, A, C])}
    assert (found[B].read_error, found[B].queue.read_error, found[B].queue.is_wanted) == (None, None, True)
    assert found[C] == Record(C, f"user-{C}", RecordStatus.CREATED, NOW)
    queue_states = await queues.read([B, A, C])
    assert (queue_states[B].is_wanted, queue_states[B].read_error, queue_states[C].is_wanted) == (True, None, False)
    assert B in await queues.pending(timedelta(0), 10)
    assert {B, C} <= set(await store.page("", 10))
    assert [each for each in await asyncio.gather(*(store.record(u) for u in (B, A, C))) if each.uuid == C]
    await queues.settle(B, datetime.now(UTC) + timedelta(seconds=1))
    await store.ping()


@pytest.mark.parametrize("kind", [kind for kind in SPOIL if kind != "list"])
async def test_a_queue_of_the_wrong_type_is_a_read_error_of_its_session(redis: Any, kind: str) -> None:
    store, queues = RedisStore(redis), RedisQueues(redis)
    await SPOIL[kind](redis, f"queue:{A}")
    await others_go_on(redis)
    repair = f"redis-cli DEL queue:{A}"
    for queue in ((await store.record(A)).queue, (await queues.read([A]))[A]):
        assert not queue.is_wanted
        assert queue.read_error is not None
        assert repair in queue.read_error
        assert kind in queue.read_error
    for call in (
        lambda: queues.wake(A, LEASE),
        lambda: queues.heartbeat(A, "typing", LEASE),
        lambda: queues.keep_awake(A, NOW, LEASE),
    ):
        with pytest.raises(SessionUnreadable, match=repair):
            await call()
    assert (await store.record(A)).last_activity is None  # nothing half-done
    await queues.renew(A, LEASE)
    assert await redis.type(f"queue:{A}") == kind
    assert store.unreadable == 1
    assert (store.remark() or "").startswith("1 session")
    await redis.delete(f"queue:{A}")
    assert (await queues.wake(A, LEASE)).length == 1
    assert (await queues.read([A]))[A].read_error is None
    assert (store.unreadable, store.remark()) == (0, None)


@pytest.mark.parametrize("kind", [kind for kind in SPOIL if kind != "hash"])
async def test_a_record_of_the_wrong_type_is_reported_and_a_save_repairs_it(redis: Any, kind: str) -> None:
    store, queues = RedisStore(redis), RedisQueues(redis)
    await redis.delete(f"session:{A}")
    await SPOIL[kind](redis, f"session:{A}")
    await others_go_on(redis)
    record = await store.record(A)
    assert (record.user_id, record.status) == ("", RecordStatus.CREATED)
    assert record.read_error is not None
    assert f"redis-cli DEL session:{A}" in record.read_error
    with pytest.raises(SessionUnreadable, match=kind):
        await queues.wake(A, LEASE)
    await queues.clear(A, asked="request")
    await queues.settle(A, NOW)
    assert await store.claims() == []
    assert store.unreadable == 1
    await store.save(Record(A, f"user-{A}", RecordStatus.CREATED, NOW))
    assert (await store.record(A)).read_error is None
    assert store.unreadable == 0


ODD = b"\xff\xfe odd"
FIELDS: list[tuple[str, Any]] = [
    ("user_id", None), ("user_id", ""), ("user_id", "with space"), ("user_id", ODD), ("user_id", "x" * 300),
    ("status", None), ("status", "zombie"), ("status", ODD),
    ("activity_source", ODD), ("activity_source", "a\nb"), ("keep_data", "maybe"),
    *((name, value) for name in ("created_at", "last_activity", "last_output", "kept_until", "written_at",
                                 "released_at", "sleep_asked_at", "sleep_due_at", "renewed_until",
                                 "spared_until")
      for value in ("soon", "inf", "-inf", "nan", "1e300", "-1e18", ODD)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), FIELDS)
async def test_a_record_with_an_invalid_field_is_reported_and_a_save_repairs_it(
    redis: Any, name: str, value: Any
) -> None:
    store = RedisStore(redis)
    await redis.hdel(f"session:{A}", name) if value is None else await redis.hset(f"session:{A}", name, value)
    await others_go_on(redis)
    record = await store.record(A)
    assert record.read_error is not None
    assert name in record.read_error
    assert f"redis-cli DEL session:{A}" in record.read_error
    record.read_error.encode()  # fit to be shown
    times = (
        "last_activity",
        "last_output",
        "kept_until",
        "written_at",
        "sleep_asked_at",
        "sleep_due_at",
        "renewed_until",
        "spared_until",
    )
    await redis.hdel(f"session:{A}", "activity_source", *times)
    await store.save(Record(A, f"user-{A}", RecordStatus.CREATED, NOW))
    assert (await store.record(A)).read_error is None


async def test_an_unused_field_may_hold_anything(redis: Any) -> None:
    await redis.hset(f"session:{A}", b"\xff", b"\xfe")
    assert (await RedisStore(redis).record(A)).read_error is None
    await others_go_on(redis)


async def test_an_invalid_time_of_a_pending_wake_affects_only_its_session(redis: Any) -> None:
    store = RedisStore(redis)
    await redis.zadd("user-pods:pending", {A: math.inf})
    await redis.rpush(f"queue:{A}", "x")
    await redis.pexpire(f"queue:{A}", 2**52)
    await others_go_on(redis)
    fault = (await store.record(A)).queue.read_error
    assert fault is not None
    assert f"ZREM user-pods:pending {A}" in fault
    await redis.zrem("user-pods:pending", A)
    queue = (await store.record(A)).queue
    assert (queue.read_error, queue.tokens) == (None, 1)
    assert queue.lease_until is not None


@pytest.mark.parametrize("garbage", [b"\xff\xfe\xfd", b"UPPER CASE", b"", b"aaaaaaaaa", b"zzzzzzzz!"])
async def test_invalid_ids_are_ignored_everywhere(redis: Any, garbage: bytes) -> None:
    store, queues = RedisStore(redis), RedisQueues(redis)
    await redis.zadd("user-pods:ids", {garbage: 0})
    await redis.zadd("user-pods:pending", {garbage: 1})
    await redis.hset("user-pods:users", b"user" + garbage, garbage)
    await redis.hset("user-pods:users", garbage, C)
    await others_go_on(redis)
    assert await store.claims() == []
    pages: list[SessionId] = []
    after = ""
    while page := await store.page(after, 1):
        pages += page
        after = page[-1]
    assert pages == sorted([A, B, C])
    assert garbage.decode(errors="surrogateescape") not in await queues.pending(timedelta(0), 10)


async def test_an_invalid_entry_of_a_user_is_reported_with_its_repair(redis: Any) -> None:
    await redis.hset("user-pods:users", "eve", b"\xff")
    store = RedisStore(redis)
    for call in (lambda: store.owner("eve"), lambda: store.claim("eve", SessionId("12345678"))):
        with pytest.raises(SessionUnreadable, match="HDEL user-pods:users"):
            await call()  # type: ignore[no-untyped-call]


async def test_pushes_to_other_keys_are_ignored(redis: Any, redis_port: int) -> None:
    async with aclosing(RedisQueues(redis).pushes()) as pushes, Redis(port=redis_port) as raw:  # type: ignore[type-var]
        assert [await anext(pushes), await anext(pushes)] == [None, None]
        for key in (b"queue:\xff\xfe", b"queue:", b"queue:UPPER", b"queue:aaaaaaaaa", b"\xff", f"queue:{B}".encode()):
            await raw.rpush(key, "x")
        async with asyncio.timeout(5):
            assert await anext(pushes) == B


@pytest.mark.parametrize("kind", [kind for kind in SPOIL if kind != "stream"])
async def test_progress_of_the_wrong_type_is_replaced_by_the_next_wake(redis: Any, kind: str) -> None:
    progress = RedisProgress(redis)
    await SPOIL[kind](redis, f"user-pods:progress:{A}")
    assert await progress.events(A) == []
    assert await progress.write(A, ProgressUpdate(Stage.ACCEPTED))
    assert [event.stage for event in await progress.events(A)] == [Stage.ACCEPTED]


async def test_foreign_entries_of_progress_are_ignored(redis: Any) -> None:
    progress = RedisProgress(redis)
    await progress.write(A, ProgressUpdate(Stage.ACCEPTED))
    key = f"user-pods:progress:{A}"
    for fields in (
        {"a": "b"},
        {"stage": "boom", "reason": ""},
        {"stage": "warning"},
        {"stage": "failed", "reason": ODD},
    ):
        await redis.xadd(key, fields)
    await progress.write(A, ProgressUpdate(Stage.SCALED))
    assert [event.stage for event in await progress.events(A)] == [Stage.ACCEPTED, Stage.SCALED]


async def test_a_delete_of_an_unreadable_session_leaves_nothing(redis: Any) -> None:
    store = RedisStore(redis)
    await redis.delete(f"session:{A}")
    await redis.set(f"session:{A}", "1")
    await redis.set(f"queue:{A}", "1")
    await store.mark_deleting(A, keep_data=False)
    record = await store.record(A)
    assert (record.status, record.keep_data, store.unreadable) == (RecordStatus.DELETING, False, 1)
    await store.forget(A)
    assert store.unreadable == 0
    assert await store.owner(f"user-{A}") is None
    assert await store.claims() == []
    assert not await redis.exists(f"session:{A}", f"queue:{A}")


async def test_a_read_error_is_logged_when_it_appears_and_when_it_is_gone(
    redis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    store = RedisStore(redis)
    await redis.set(f"queue:{A}", "1")
    for _ in range(3):
        await store.records([A, B])
        await RedisQueues(redis).read([A, B])
    await redis.delete(f"queue:{A}")
    for _ in range(3):
        await store.records([A, B])
    told = [record for record in caplog.records if getattr(record, "uuid", None) == A]
    assert [record.levelname for record in told] == ["ERROR", "INFO"]
    assert f"redis-cli DEL queue:{A}" in told[0].getMessage()


def test_a_read_error_that_is_not_seen_again_is_forgotten() -> None:
    now = 0.0
    keys = UnreadableKeys(lambda: now)
    keys.update(Part.RECORD, [A, B], {A: "odd", B: "odd"})
    now = 1200.0
    keys.update(Part.RECORD, [B], {B: "odd"})
    now = 2400.0
    assert len(keys) == 1
