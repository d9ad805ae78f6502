"""What the domain relies on in the History: in memory, on the Redis at hand, and on the oldest one supported."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from service.adapters.redis.history import RedisHistory
from service.adapters.redis.store import RedisStore
from service.domain.expiry import ExpiryReason
from service.domain.history import LIMIT
from service.domain.journal import (
    REASON_LIMIT,
    ExpiryAnnounced,
    Failed,
    HistoryEvent,
    Ready,
    Revoked,
    Slept,
    Upgraded,
    Woken,
)
from service.domain.names import SessionId
from service.domain.record import Record, RecordStatus
from service.domain.sleep_cause import SleepReason
from tests.contracts.conftest import Kept as Parts

A, B = map(SessionId, ("aaaaaaaa", "12345678"))
NOW = datetime(2026, 1, 1, 14, 2, tzinfo=UTC)
KEY = f"user-pods:history:{A}"
RECORD = Record(A, "ann", RecordStatus.CREATED, NOW)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


WOKEN = Woken(uuid=A, user=None, at=NOW, request="request-1", by="api")
READY = Ready(uuid=A, user=None, at=after(1.5), request="request-1", seconds=1.5, pod="p1")
SLEPT = Slept(
    uuid=A, user=None, at=after(140), request="-", why=SleepReason.IDLE, idle_since=NOW, seconds=139.5, pod="p1"
)
FAILED = Failed(uuid=A, user=None, at=after(200), request="-", doing="wake", reason="ErrImagePull: no", pod="p2")
BARE = Slept(uuid=A, user=None, at=after(300), request="-", why=SleepReason.OPERATOR)
UNTIMED = Ready(uuid=A, user=None, at=after(400), request="-", seconds=None, pod="p3")
ASKED = Slept(uuid=A, user=None, at=after(350), request="request-4", why=SleepReason.ASKED, by="shop", pod="p4")
REVOKED = Revoked(uuid=A, user=None, at=after(500), request="request-2", by="api")
UPGRADED = Upgraded(
    uuid=A, user=None, at=after(600), request="request-3", by="shop", revision="user-pod-0.1.0-0f", seconds=2.5
)
EXPIRES = ExpiryAnnounced(
    uuid=A, user=None, at=after(700), request="-", why=ExpiryReason.DORMANCY, due=after(86_400.25)
)
EVENTS: tuple[HistoryEvent, ...] = (WOKEN, READY, SLEPT, FAILED, BARE, UNTIMED, ASKED, REVOKED, UPGRADED, EXPIRES)


@pytest.fixture
async def kept(kept: Parts) -> Parts:
    await kept.store.save(RECORD)
    return kept


async def test_a_new_session_has_no_history(kept: Parts) -> None:
    assert await kept.history.events(A) == []


async def test_every_event_is_kept_unchanged_newest_first(kept: Parts) -> None:
    assert [await kept.history.append(event) for event in EVENTS] == [True] * len(EVENTS)
    assert await kept.history.events(A) == list(EVENTS)[::-1]


async def test_the_user_of_an_event_comes_from_the_record(kept: Parts) -> None:
    await kept.history.append(replace(WOKEN, user="0f" * 20))
    assert await kept.history.events(A) == [WOKEN]


async def test_an_event_that_two_replicas_write_is_kept_once(kept: Parts) -> None:
    twice: tuple[HistoryEvent, ...] = (
        READY,
        Ready(uuid=A, user="0f", at=after(1.6), request="-", seconds=None, pod="p1"),
        SLEPT,
        Slept(uuid=A, user="0f", at=after(140.2), request="-", why=SleepReason.IDLE, pod="p1"),
    )
    assert [await kept.history.append(event) for event in twice] == [True, False, True, False]
    assert await kept.history.events(A) == [SLEPT, READY]


async def test_only_the_newest_entries_are_kept(kept: Parts) -> None:
    for number in range(LIMIT + 5):
        await kept.history.append(Ready(uuid=A, user=None, at=after(number), request="-", seconds=1, pod=f"p{number}"))
    events = await kept.history.events(A)
    assert len(events) == LIMIT
    assert (events[0].at, events[-1].at) == (after(LIMIT + 4), after(5))


async def test_a_history_survives_a_repair_and_is_deleted_with_its_session(kept: Parts) -> None:
    await kept.history.append(WOKEN)
    await kept.store.save(RECORD)
    assert await kept.history.events(A) == [WOKEN]
    await kept.store.forget(A)
    assert await kept.history.events(A) == []
    assert not await kept.history.append(SLEPT)
    assert await kept.history.events(A) == []


async def test_a_session_without_a_record_has_no_history(kept: Parts) -> None:
    assert not await kept.history.append(Woken(uuid=B, user=None, at=NOW, request="-", by="queue"))
    assert await kept.history.events(B) == []


UNREADABLE = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 5000,
    b"null",
    b"[]",
    b"{}",
    b'{"event":"woken"}',
    b'{"event":"danced","at":1}',
    b'{"event":["woken"],"at":1,"by":"api"}',
    b'{"event":"woken","at":"noon","by":"api"}',
    b'{"event":"woken","at":1e300,"by":"api"}',
    b'{"event":"slept","at":1,"why":"boredom"}',
    b'{"event":"ready","at":1,"pod":"p","seconds":"soon"}',
]


async def test_an_entry_that_cannot_be_read_is_left_out(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis, Redis(port=redis_port) as stranger:
        await redis.flushall()
        await RedisStore(redis).save(RECORD)
        history = RedisHistory(redis)
        await history.append(WOKEN)
        for entry in UNREADABLE:
            await stranger.lpush(KEY, entry, b"mark " + entry)
        await history.append(SLEPT)
        assert await history.events(A) == [SLEPT, WOKEN]


async def test_a_history_key_of_the_wrong_type_counts_as_empty_and_is_replaced(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        await RedisStore(redis).save(RECORD)
        history = RedisHistory(redis)
        await redis.set(KEY, "mine")
        assert await history.events(A) == []
        assert await history.append(WOKEN)
        assert await history.events(A) == [WOKEN]


async def test_a_full_history_takes_a_few_kilobytes(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        await RedisStore(redis).save(RECORD)
        history = RedisHistory(redis)
        for number in range(LIMIT // 3):
            pod, at, request = f"{number:08}-0000-0000-0000-000000000000", after(number), "0123456789abcdef"
            woken = Woken(uuid=A, user=None, at=at, request=request, by="api")
            ready = Ready(uuid=A, user=None, at=at, request=request, seconds=1.234, pod=pod)
            slept = Slept(
                uuid=A, user=None, at=at, request=request, why=SleepReason.IDLE, idle_since=at, seconds=9.8, pod=pod
            )
            assert [await history.append(event) for event in (woken, ready, slept)] == [True, True, True]
        assert await redis.llen(KEY) == LIMIT
        assert (await redis.memory_usage(KEY) or 0) < 8_000
        reason = "x" * 10_000
        await history.append(Failed(uuid=A, user=None, at=NOW, request="-", doing="wake", reason=reason, pod="p"))
        newest = (await history.events(A))[0]
        assert isinstance(newest, Failed)
        assert len(newest.reason) == REASON_LIMIT
