"""What the domain relies on in the Queues: in memory, on the Redis at hand, and on Redis 6.2, the oldest supported."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from service.adapters.redis.queues import RedisQueues
from service.adapters.redis.store import RedisStore
from service.domain.errors import IndexIncomplete, NotificationsRefused, SessionDeleting, SessionNotFound
from service.domain.names import SessionId
from service.domain.queue_state import QueueState
from service.domain.record import Record, RecordStatus
from tests.contracts.conftest import Kept

A, B = map(SessionId, ("aaaaaaaa", "12345678"))
LEASE = timedelta(milliseconds=300)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
IDLE = QueueState()


@pytest.fixture
async def kept(kept: Kept) -> Kept:
    await kept.store.save(Record(A, "ann", RecordStatus.CREATED, NOW))
    return kept


async def test_a_wake_fills_the_queue_which_empties_itself(kept: Kept) -> None:
    assert [(await kept.queues.wake(A, LEASE)).length for _ in range(5)] == [1, 2, 3, 3, 3]
    woken = await kept.store.record(A)
    assert (woken.queue.tokens, woken.activity_source) == (3, "wake")
    assert woken.last_activity is not None
    assert abs(datetime.now(UTC) - woken.last_activity) < timedelta(seconds=5)
    assert woken.queue.lease_until is not None
    assert woken.queue.lease_until - datetime.now(UTC) <= LEASE
    await asyncio.sleep(LEASE.total_seconds() * 1.2)
    assert (await kept.store.record(A)).queue.tokens == 0


async def test_a_later_wake_extends_the_lease_and_a_shorter_one_does_not_cut_it(kept: Kept) -> None:
    await kept.queues.wake(A, LEASE)
    await asyncio.sleep(LEASE.total_seconds() * 0.7)
    await kept.queues.wake(A, LEASE)
    await kept.queues.wake(A, LEASE / 10)
    await asyncio.sleep(LEASE.total_seconds() * 0.7)
    assert (await kept.store.record(A)).queue.tokens == 3


async def test_other_activity_is_recorded_with_its_source(kept: Kept) -> None:
    await kept.queues.heartbeat(A, "typing", LEASE)
    record = await kept.store.record(A)
    assert (record.activity_source, record.queue.tokens) == ("typing", 1)


async def test_activity_reported_late_is_noted_when_it_was_and_hides_no_later_one(kept: Kept) -> None:
    await kept.queues.heartbeat(A, "typing", LEASE, timedelta(seconds=3))
    record = await kept.store.record(A)
    assert record.last_activity is not None
    age = datetime.now(UTC) - record.last_activity
    assert timedelta(seconds=2.9) < age < timedelta(seconds=5)
    await kept.queues.heartbeat(A, "scrolling", LEASE, timedelta(seconds=1))
    later = await kept.store.record(A)
    await kept.queues.heartbeat(A, "typing", LEASE, timedelta(seconds=3))
    latest = await kept.store.record(A)
    assert (latest.last_activity, latest.activity_source) == (later.last_activity, "scrolling")
    assert latest.queue.tokens == 3


async def test_an_extension_is_no_activity_and_is_never_shortened(kept: Kept) -> None:
    await kept.queues.wake(A, LEASE)
    activity = (await kept.store.record(A)).last_activity
    until = datetime.now(UTC) + timedelta(hours=2)
    await kept.queues.keep_awake(A, until, timedelta(hours=1))
    later = await kept.queues.keep_awake(A, until - timedelta(hours=1), LEASE)
    record = await kept.store.record(A)
    assert (record.last_activity, record.activity_source) == (activity, "wake")
    assert record.kept_until is not None
    assert abs(record.kept_until - until) < timedelta(milliseconds=1)
    assert abs(later - until) < timedelta(milliseconds=1)
    assert record.queue.lease_until is not None
    assert record.queue.lease_until - datetime.now(UTC) > timedelta(minutes=59)


async def test_a_renewal_is_noted_if_the_pending_wake_came_through_the_service(kept: Kept) -> None:
    await kept.queues.renew(A, LEASE)
    assert (await kept.store.record(A)).renewed_until is None
    await kept.queues.clear(A)
    await kept.queues.wake(A, LEASE)
    await kept.queues.renew(A, timedelta(minutes=5))
    record = await kept.store.record(A)
    assert record.renewed_until is not None
    assert record.queue.lease_until is not None
    assert abs(record.renewed_until - record.queue.lease_until) < timedelta(seconds=2)
    await kept.queues.clear(A)
    assert (await kept.store.record(A)).renewed_until is None


async def test_background_work_fills_the_queue_up_to_its_limit_and_is_no_activity(kept: Kept) -> None:
    await kept.queues.heartbeat(A, "input", LEASE / 100)
    activity = (await kept.store.record(A)).last_activity
    assert await kept.queues.background(A, timedelta(hours=1), timedelta(minutes=1))
    record = await kept.store.record(A)
    assert (record.last_activity, record.activity_source) == (activity, "input")
    assert activity is not None
    assert record.last_output is not None
    assert record.last_output >= activity
    assert record.queue.lease_until is not None
    assert abs(record.queue.lease_until - activity - timedelta(minutes=1)) < timedelta(seconds=2)


async def test_background_work_beyond_its_limit_is_only_noted(kept: Kept) -> None:
    await kept.queues.heartbeat(A, "input", LEASE / 100)
    await asyncio.sleep(LEASE.total_seconds() / 10)
    for limit in (timedelta(0), timedelta(seconds=-5), LEASE / 100):
        assert not await kept.queues.background(A, LEASE, limit)
    record = await kept.store.record(A)
    assert record.queue.tokens == 0
    assert record.last_output is not None


async def test_background_work_starts_its_limit_when_no_activity_is_known(kept: Kept) -> None:
    assert await kept.queues.background(A, LEASE, timedelta(minutes=1))
    record = await kept.store.record(A)
    assert (record.activity_source, record.last_activity) == ("background", record.last_output)


async def test_background_work_does_not_undo_a_request_for_sleep(kept: Kept) -> None:
    await kept.queues.heartbeat(A, "input", LEASE)
    await kept.queues.clear(A, asked="request-1")
    assert not await kept.queues.background(A, LEASE, timedelta(minutes=1))
    assert (await kept.store.record(A)).queue == IDLE


async def test_background_work_of_a_session_that_is_not_there_is_ignored(kept: Kept) -> None:
    assert not await kept.queues.background(B, LEASE, timedelta(minutes=1))
    await kept.store.mark_deleting(A, keep_data=False)
    assert not await kept.queues.background(A, LEASE, timedelta(minutes=1))
    assert await kept.queues.read([A, B]) == {A: IDLE, B: IDLE}


async def test_an_extension_that_is_ended_leaves_a_usual_lease(kept: Kept) -> None:
    await kept.queues.keep_awake(A, datetime.now(UTC) + timedelta(hours=2), timedelta(hours=1))
    await kept.queues.end_extension(A, LEASE)
    record = await kept.store.record(A)
    assert record.kept_until is None
    assert record.queue.lease_until is not None
    assert record.queue.lease_until - datetime.now(UTC) <= LEASE
    with pytest.raises(SessionNotFound):
        await kept.queues.end_extension(B, LEASE)


async def test_only_a_living_session_takes_a_wake(kept: Kept) -> None:
    with pytest.raises(SessionNotFound):
        await kept.queues.wake(B, LEASE)
    await kept.store.mark_deleting(A, keep_data=False)
    with pytest.raises(SessionDeleting):
        await kept.queues.wake(A, LEASE)
    assert await kept.queues.read([A, B]) == {A: IDLE, B: IDLE}


async def test_clear_empties_the_queue_and_ends_extensions(kept: Kept) -> None:
    await kept.queues.wake(A, LEASE)
    await kept.queues.keep_awake(A, datetime.now(UTC) + timedelta(hours=1), timedelta(hours=1))
    await kept.queues.clear(A)
    await kept.queues.clear(B)
    record = await kept.store.record(A)
    assert (record.queue, record.kept_until) == (IDLE, None)


async def test_a_requested_sleep_is_recorded_with_its_request_and_survives_wakes_and_repairs(
    kept: Kept,
) -> None:
    assert (await kept.store.record(A)).sleep_request is None
    await kept.queues.clear(A, asked="request-1", by="shop")
    asked = (await kept.store.record(A)).sleep_request
    assert asked is not None
    assert (asked.request, asked.by, abs(asked.at - datetime.now(UTC)) < timedelta(seconds=5)) == (
        "request-1",
        "shop",
        True,
    )
    await kept.queues.wake(A, LEASE)
    await kept.queues.clear(A)
    await kept.store.save(Record(A, "ann", RecordStatus.CREATED, NOW))
    assert (await kept.store.record(A)).sleep_request == asked


SOON = timedelta(seconds=2)


async def test_an_announced_sleep_is_noted_and_carried_out_although_somebody_types(kept: Kept) -> None:
    due = await kept.queues.announce_sleep(A, SOON)
    assert due is not None
    assert timedelta(0) < due - datetime.now(UTC) < 2 * SOON
    assert await kept.queues.announce_sleep(A, SOON) == due, "it was put off"
    await kept.queues.heartbeat(A, "input", LEASE)
    assert (await kept.store.record(A)).sleep_due == due
    assert await kept.queues.clear(A, asked="request-1", announced=due)
    record = await kept.store.record(A)
    assert (record.queue, record.sleep_due) == (IDLE, None)
    assert not await kept.queues.clear(A, announced=due), "it was carried out twice"


async def test_a_wake_or_an_extension_takes_an_announced_sleep_back(kept: Kept) -> None:
    for wake in (
        kept.queues.wake(A, timedelta(minutes=1)),
        kept.queues.keep_awake(A, datetime.now(UTC) + timedelta(hours=1), timedelta(hours=1)),
    ):
        due = await kept.queues.announce_sleep(A, SOON)
        await wake
        assert not await kept.queues.clear(A, asked="request-1", announced=due)
        record = await kept.store.record(A)
        assert (record.queue.tokens > 0, record.sleep_due, record.sleep_request) == (True, None, None)


async def test_the_sleep_of_a_session_without_a_record_cannot_be_announced(kept: Kept) -> None:
    assert await kept.queues.announce_sleep(B, SOON) is None
    assert await kept.queues.clear(B, announced=datetime.now(UTC)), "a lost record takes nothing back"


async def test_a_requested_sleep_of_a_deleted_session_is_not_kept(kept: Kept) -> None:
    await kept.queues.clear(B, asked="request-1")
    assert await kept.store.records([B]) == []


async def test_a_wake_is_pending_until_it_is_seen_even_after_its_token_expires(kept: Kept) -> None:
    before = datetime.now(UTC)
    await kept.queues.wake(A, LEASE / 10)
    await asyncio.sleep(LEASE.total_seconds() / 5)
    queue = (await kept.queues.read([A]))[A]
    assert (queue.tokens, queue.is_wanted) == (0, True)
    assert await kept.queues.pending(timedelta(seconds=9), 10) == []
    assert await kept.queues.pending(timedelta(0), 10) == [A]
    await kept.queues.settle(A, before)
    assert (await kept.queues.read([A]))[A].is_wanted
    await kept.queues.settle(A, datetime.now(UTC) + timedelta(seconds=1))
    assert await kept.queues.read([A]) == {A: IDLE}


async def test_a_push_after_the_read_stays_pending(kept: Kept) -> None:
    await kept.queues.wake(A, LEASE)
    await asyncio.sleep(0.01)
    seen = datetime.now(UTC)
    await asyncio.sleep(0.01)
    await kept.queues.wake(A, LEASE)
    first = (await kept.queues.read([A]))[A].pending_since
    await kept.queues.settle(A, seen)
    second = (await kept.queues.read([A]))[A].pending_since
    assert first is not None
    assert second is not None
    assert first < seen < second


async def test_renewing_fills_an_empty_queue_and_records_no_activity(kept: Kept) -> None:
    await kept.queues.renew(A, LEASE)
    record = await kept.store.record(A)
    assert (record.queue.tokens, record.last_activity) == (1, None)
    held = record.queue.pending_since
    assert held is not None
    await kept.queues.renew(A, LEASE)
    assert (await kept.queues.read([A]))[A].pending_since == held
    assert (await kept.queues.read([A]))[A].tokens == 1


async def test_forget_removes_everything(kept: Kept) -> None:
    await kept.queues.wake(A, LEASE)
    await kept.store.forget(A)
    assert await kept.queues.read([A]) == {A: IDLE}
    assert await kept.queues.pending(timedelta(0), 10) == []


async def test_pushes_are_reported_from_the_start(kept: Kept) -> None:
    pushes = kept.queues.pushes()
    assert await anext(pushes) is None
    await kept.queues.wake(A, LEASE)
    assert await next_push(pushes) == A
    await pushes.aclose()  # type: ignore[attr-defined]


async def next_push(pushes: AsyncIterator[SessionId | None]) -> SessionId:
    """The next id, whatever is said of listening in between."""
    async with asyncio.timeout(5):
        while (uuid := await anext(pushes)) is None:
            pass
    return uuid


async def test_a_lost_and_restored_connection_is_reported(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        pushes = RedisQueues(redis).pushes()
        assert await anext(pushes) is None
        assert await anext(pushes) is None  # one for each of the two commands
        await redis.client_kill_filter(_type="pubsub")
        async with asyncio.timeout(5):
            assert await anext(pushes) is None
        await pushes.aclose()  # type: ignore[attr-defined]


async def test_before_the_index_is_complete_a_wake_of_an_unknown_session_is_undecided(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        with pytest.raises(IndexIncomplete):
            await RedisQueues(redis).wake(A, LEASE)


async def test_the_lease_is_an_expiry_and_the_keys_are_the_contracts(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        await RedisStore(redis).save(Record(A, "ann", RecordStatus.CREATED, NOW))
        await RedisQueues(redis).wake(A, timedelta(seconds=15))
        assert await redis.type("session:aaaaaaaa") == "hash"
        assert await redis.type("queue:aaaaaaaa") == "list"
        assert 14_000 < await redis.pttl("queue:aaaaaaaa") <= 15_000


async def test_a_foreign_token_without_an_expiry_is_reported_and_gets_one(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        queues = RedisQueues(redis)
        await redis.rpush("queue:aaaaaaaa", "x")
        state = (await queues.read([A]))[A]
        assert state.tokens > 0
        assert state.lease_until is None
        await queues.renew(A, timedelta(seconds=15))
        assert await redis.pttl("queue:aaaaaaaa") > 0
        assert await redis.llen("queue:aaaaaaaa") == 1


async def test_a_push_by_hand_is_noticed_and_other_notifications_stay_enabled(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.config_set("notify-keyspace-events", "Kx")
        pushes = RedisQueues(redis).pushes()
        assert await anext(pushes) is None
        assert set("KxEl") <= set(str((await redis.config_get())["notify-keyspace-events"]))
        await redis.lpush("queue:aaaaaaaa", "x")
        await redis.rpush("something-else", "x")
        await redis.rpush("queue:12345678", "x")
        assert [await next_push(pushes), await next_push(pushes)] == [A, B]
        await pushes.aclose()  # type: ignore[attr-defined]


async def test_a_redis_that_refuses_to_enable_notifications_is_named(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as admin:
        await admin.config_set("notify-keyspace-events", "")
        await admin.acl_setuser(
            "weak", enabled=True, nopass=True, keys=["*"], categories=["+@all", "-@admin"], channels=["*"]
        )
    async with Redis(port=redis_port, username="weak", password="any", decode_responses=True) as redis:
        with pytest.raises(NotificationsRefused):
            await anext(RedisQueues(redis).pushes())
