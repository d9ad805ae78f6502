"""What the diagnosis relies on in the RedisInspection: in memory, on the Redis at hand, and on the oldest supported."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.adapters.redis.client import connected
from service.adapters.redis.inspection import QUEUE_LIMIT, RedisInspector
from service.adapters.redis.queues import flags_with_ours
from service.adapters.redis.store import RedisStore
from service.domain.diagnosis.ports import RedisConfiguration
from service.domain.errors import NotificationsRefused
from service.domain.history import LIMIT
from service.domain.names import SessionId
from service.domain.record import Record, RecordStatus
from tests.contracts.conftest import Kept

A, B, C = map(SessionId, ("aaaaaaaa", "12345678", "1e234567"))
_RIGHTS = (
    "resetchannels ~session:* ~queue:* ~user-pods:* &user-pods:* &__keyevent@0__:* -@all +@read +@write +@connection"
    " +@pubsub +@transaction -@dangerous +eval +evalsha +script|load +time"
)


@pytest.fixture
async def redis(redis_port: int) -> AsyncIterator[Any]:
    async with connected(f"redis://127.0.0.1:{redis_port}/0", call_timeout=5) as redis:
        await redis.flushall()
        yield redis


async def test_a_server_tells_about_itself(kept: Kept) -> None:
    assert await kept.inspector.refused() == []
    assert abs(await kept.inspector.clock() - datetime.now(UTC)) < timedelta(seconds=5)
    found = await kept.inspector.configuration()
    assert (found.policy, found.memory_limit) == ("noeviction", 0)
    await kept.inspector.enable_notifications()
    flags = (await kept.inspector.configuration()).notifications
    assert flags is not None
    assert flags_with_ours(flags) == flags


async def test_a_session_and_a_create_in_progress_keep_their_keys(kept: Kept) -> None:
    await kept.store.save(Record(A, "ann", RecordStatus.CREATED, datetime.now(UTC)))
    assert not await kept.inspector.drop_orphans(A)
    assert [record.uuid for record in await kept.store.records([A])] == [A]
    assert await kept.inspector.drop_orphans(B)
    await kept.inspector.trim(B)
    assert await kept.inspector.keys() == {}


async def test_it_finds_what_lasts_and_what_is_too_long_whatever_else_is_there(redis: Any) -> None:
    inspector = RedisInspector(redis)
    await redis.rpush(f"user-pods:history:{A}", *("x" * (LIMIT + 1)))
    await redis.rpush(f"queue:{A}", *("x" * (QUEUE_LIMIT + 1)))
    await redis.expire(f"queue:{A}", 60)
    await redis.set(f"user-pods:progress:{B}", "of another type")
    await redis.rpush(f"queue:{C}", "x")
    await redis.expire(f"queue:{C}", 60)
    await redis.mset({f"session:{C}": "x", "queue:nobody": "x", "other": "x", b"queue:\xff\xfe": "x"})
    found = await inspector.keys()
    assert found.keys() == {A, B}
    assert (found[A].lasting, found[B].lasting) == ({f"user-pods:history:{A}"}, {f"user-pods:progress:{B}"})
    assert found[A].lengths == {f"user-pods:history:{A}": LIMIT + 1, f"queue:{A}": QUEUE_LIMIT + 1}
    await inspector.trim(A)
    assert (await inspector.keys())[A].lengths == {}
    assert await redis.llen(f"queue:{A}") == QUEUE_LIMIT
    assert not await inspector.drop_orphans(A)  # while Redis is being filled again, nobody knows whose they are
    await RedisStore(redis).mark_index_complete()
    assert await inspector.drop_orphans(A)
    assert await redis.exists(f"queue:{A}", f"user-pods:history:{A}") == 0


async def test_a_claim_alone_keeps_its_keys(redis: Any) -> None:
    store = RedisStore(redis)
    await store.mark_index_complete()
    await store.claim("ann", A)
    await redis.rpush(f"user-pods:history:{A}", "x")
    assert not await RedisInspector(redis).drop_orphans(A)
    assert await redis.exists(f"user-pods:history:{A}")


@pytest.mark.parametrize(
    ("taken", "refused"),
    [("", []), ("-eval", ["run scripts"]), ("-time", ["tell the time"]), ("-publish", ["publish to the channels"])],
)
async def test_rights_that_are_missing_are_named_and_hidden_settings_are_no_error(
    redis: Any, redis_port: int, taken: str, refused: list[str]
) -> None:
    await redis.execute_command("ACL", "SETUSER", "least", "reset", "on", ">secret", *_RIGHTS.split(), *taken.split())
    try:
        async with connected(f"redis://least:secret@127.0.0.1:{redis_port}/0", call_timeout=5) as limited:
            inspector = RedisInspector(limited)
            assert [
                each.partition(" (")[0].removesuffix(" user-pods:*") for each in await inspector.refused()
            ] == refused
            assert await inspector.configuration() == RedisConfiguration()
            with pytest.raises(NotificationsRefused):
                await inspector.enable_notifications()
            if not taken:
                assert await inspector.keys() == {}
    finally:
        await redis.execute_command("ACL", "DELUSER", "least")
