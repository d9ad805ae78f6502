"""What the domain relies on in a Store: in memory, on the Redis at hand, and on Redis 6.2, the oldest supported."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from redis.asyncio import Redis

from service.adapters.redis.store import EXPIRY, RedisStore
from service.domain.errors import (
    IdTaken,
    IndexIncomplete,
    RedisUnavailable,
    SessionBusy,
    SessionDeleting,
    SessionInUse,
    SessionNotFound,
)
from service.domain.expiry import Expired, ExpiryReason, ExpiryWarning
from service.domain.limits import RequestedIdleTimes
from service.domain.names import SessionId
from service.domain.ports import Store
from service.domain.record import Record, RecordStatus
from service.domain.wanted import Wanted
from tests.conftest import free_port
from tests.contracts.conftest import Kept
from tests.fakes import MemoryStore

A, B, C = map(SessionId, ("aaaaaaaa", "12345678", "1e234567"))
NOW = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)

WARNING = ExpiryWarning(at=NOW, due=NOW + timedelta(days=3), reason=ExpiryReason.DORMANCY)


def record(uuid: SessionId, user_id: str = "ann") -> Record:
    return Record(uuid, user_id, RecordStatus.CREATED, NOW)


@pytest.fixture
def store(kept: Kept) -> Store:
    return kept.store


async def test_a_claim_is_made_once_per_user_and_once_per_id(store: Store) -> None:
    assert await store.owner("ann") is None
    assert await store.claim("ann", A) == A
    assert await store.claim("ann", B) == A
    assert await store.owner("ann") == A
    with pytest.raises(IdTaken):
        await store.claim("bob", A)
    assert await store.claims() == [(A, "ann")]


async def test_a_claim_keeps_what_its_create_wants_until_there_is_a_record(store: Store) -> None:
    times = RequestedIdleTimes(lease=timedelta(seconds=30), background=timedelta(0))
    wanted = Wanted(times, profile="large", group="staff")
    assert await store.wanted(A) is None
    await store.claim("ann", A, wanted)
    await store.claim("ann", B, Wanted(profile="small"))
    await store.claim("bob", B)
    assert [await store.wanted(uuid) for uuid in (A, B, C)] == [wanted, Wanted(), None]
    assert sorted(await store.unfinished(timedelta(0), 10)) == [(B, "bob"), (A, "ann")]
    await store.save(record(A))
    await store.release_claim("bob", B)
    assert [await store.wanted(uuid) for uuid in (A, B)] == [None, None]
    await store.mark_deleting(A, keep_data=True)
    assert await store.wanted(A) is None


async def test_the_warning_of_a_deletion_is_noted_once_and_taken_back(store: Store) -> None:
    later = replace(WARNING, at=NOW + timedelta(microseconds=999_999), reason=ExpiryReason.LIFETIME)
    await store.note_warning(A, WARNING)
    assert await store.records([A]) == []
    await store.save(record(A))
    for warning in (WARNING, later, None):
        await store.note_warning(A, warning)
        assert (await store.record(A)).deletion_warning == warning


async def test_rounds_without_a_gap_are_told_from_others(store: Store) -> None:
    since, now = await store.note_round(timedelta(hours=1))
    assert since == now
    assert abs(now - datetime.now(UTC)) < timedelta(seconds=10)
    again, later = await store.note_round(timedelta(hours=1), now)
    assert (again, later > now) == (since, True)
    lost, now = await store.note_round(timedelta(hours=1), later + timedelta(microseconds=1))
    assert lost == now > later
    since = (await store.note_round(timedelta(hours=1), now))[0]
    assert since == lost
    fresh, now = await store.note_round(timedelta(0))
    assert fresh == now > since


@pytest.mark.parametrize(
    "odd", [{"since": "nan", "last": "nan"}, {"last": "soon"}, {"since": "1"}, {"since": "1", "last": "99999999999"}]
)
async def test_odd_times_of_the_last_round_count_as_a_gap(redis_port: int, odd: dict[str, str]) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        for name, time in odd.items():
            await redis.hset(EXPIRY, name, time)
        since, now = await RedisStore(redis).note_round(timedelta(days=10_000_000))
    assert since == now


@pytest.mark.parametrize("odd", ["", "x", "1 2", "1 2 age", "nan inf lifetime", "1 2 lifetime 3", "1e300 1 dormancy"])
async def test_a_warning_that_cannot_be_read_was_not_given(redis_port: int, odd: str) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        store = RedisStore(redis)
        await redis.flushall()
        await store.save(record(A))
        await redis.hset(f"session:{A}", "deletion_warning", odd)
        found = await store.record(A)
        assert (found.read_error, found.deletion_warning) == (None, None)
        with pytest.raises(SessionInUse):
            await store.mark_deleting(A, keep_data=True, expired=Expired(WARNING, None))
        await store.note_warning(A, WARNING)
        assert (await store.record(A)).deletion_warning == WARNING


async def test_a_key_of_rounds_that_cannot_be_read_keeps_every_session(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        await redis.set(EXPIRY, "x")
        with pytest.raises(RedisUnavailable):
            await RedisStore(redis).note_round(timedelta(hours=1))


async def test_a_record_that_cannot_be_read_is_not_marked_deleting_by_its_age(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        await redis.set(f"session:{A}", "x")
        with pytest.raises(SessionInUse):
            await RedisStore(redis).mark_deleting(A, keep_data=True, expired=Expired(WARNING, NOW))
        assert await redis.get(f"session:{A}") == "x"


async def test_a_session_that_somebody_has_used_since_is_not_marked_deleting(kept: Kept) -> None:
    store, lease = kept.store, timedelta(seconds=30)
    for uuid, user in ((A, "ann"), (B, "bob"), (C, "joe")):
        await store.save(replace(record(uuid, user), last_activity=NOW))
    await kept.queues.wake(A, lease)
    await kept.queues.spare(B, datetime.now(UTC) + timedelta(days=1))
    for uuid in (A, B, C):
        await store.note_warning(uuid, WARNING)
    tomorrow, other = datetime.now(UTC) + timedelta(days=1), replace(WARNING, due=NOW + timedelta(days=4))
    for uuid, expired in (
        (A, Expired(WARNING, tomorrow)),
        (B, Expired(WARNING, NOW)),
        (B, Expired(WARNING, None)),
        (C, Expired(WARNING, NOW - timedelta(seconds=1))),
        (C, Expired(other, NOW)),
        (C, Expired(other, None)),
    ):
        with pytest.raises(SessionInUse):
            await store.mark_deleting(uuid, keep_data=True, expired=expired)
        assert (await store.record(uuid)).status is RecordStatus.CREATED
    await store.mark_deleting(C, keep_data=True, expired=Expired(WARNING, NOW))
    await store.mark_deleting(C, keep_data=True)  # as whoever finishes it does
    marked = await store.record(C)
    assert (marked.status, marked.expired) == (RecordStatus.DELETING, WARNING.reason)
    assert marked.deleting_since is not None
    assert abs(marked.deleting_since - datetime.now(UTC)) < timedelta(seconds=10)
    await store.mark_deleting(C, keep_data=False)
    assert (await store.record(C)).deleting_since == marked.deleting_since, "it began then"
    with pytest.raises(SessionInUse):
        await store.mark_deleting(C, keep_data=True, expired=Expired(WARNING, None))
    with pytest.raises(SessionDeleting):
        await kept.queues.spare(C, NOW)
    await store.mark_deleting(A, keep_data=True, expired=Expired(WARNING, None))
    assert (await store.record(A)).status is RecordStatus.DELETING, "age alone does not ask who uses it"


async def test_whoever_spares_a_session_ends_its_warning_and_the_latest_time_counts(kept: Kept) -> None:
    store, queues, later = kept.store, kept.queues, NOW + timedelta(days=2)
    with pytest.raises(SessionNotFound):
        await queues.spare(A, NOW)
    await store.save(record(A))
    await store.note_warning(A, WARNING)
    assert await queues.spare(A, later) == later
    assert await queues.spare(A, NOW) == later
    found = await store.record(A)
    assert (found.spared_until, found.deletion_warning, found.queue.is_wanted) == (later, None, False)
    await queues.end_sparing(A)
    assert (await store.record(A)).spared_until is None
    with pytest.raises(SessionNotFound):
        await queues.end_sparing(B)


async def test_one_of_two_concurrent_claims_wins(store: Store) -> None:
    candidates = [SessionId(f"{i:08d}") for i in range(50)]
    assert len(set(await asyncio.gather(*(store.claim("ann", candidate) for candidate in candidates)))) == 1
    assert len(await store.page("", 100)) == 1


async def test_a_claim_without_a_record_can_be_undone_and_one_with_a_record_cannot(store: Store) -> None:
    await store.claim("ann", A)
    await store.release_claim("ann", B)
    await store.release_claim("bob", A)
    assert await store.owner("ann") == A
    await store.release_claim("ann", A)
    assert await store.owner("ann") is None
    assert await store.claim("bob", A) == A
    await store.save(record(A, "bob"))
    await store.release_claim("bob", A)
    assert await store.owner("bob") == A


async def test_a_record_comes_back_as_it_was_saved(store: Store) -> None:
    saved = replace(
        record(C, "John+x@Example.com"),
        written_at=NOW + timedelta(seconds=0.5),
        last_activity=NOW + timedelta(seconds=1.5),
        activity_source="typing",
        keep_data=False,
    )
    await store.save(saved)
    assert await store.record(C) == saved
    assert await store.owner("John+x@Example.com") == C
    assert await store.claims() == []


async def test_records_are_read_in_the_given_order_without_unknown_ones(store: Store) -> None:
    for uuid, user in ((A, "ann"), (B, "bob")):
        await store.save(record(uuid, user))
    assert [r.uuid for r in await store.records([B, C, A])] == [B, A]
    assert await store.records([]) == []


async def test_pages_are_in_the_order_of_ids(store: Store) -> None:
    for uuid, user in ((A, "ann"), (B, "bob"), (C, "eve")):
        await store.save(record(uuid, user))
    assert list(await store.page("", 2)) == [B, C]
    assert list(await store.page(C, 2)) == [A]
    assert list(await store.page(A, 2)) == []


async def test_a_delete_records_what_happens_to_the_volume(store: Store) -> None:
    with pytest.raises(SessionNotFound):
        await store.mark_deleting(A, keep_data=True)
    await store.save(record(A))
    await store.mark_deleting(A, keep_data=False)
    deleting = await store.record(A)
    assert (deleting.status, deleting.keep_data) == (RecordStatus.DELETING, False)


async def test_the_time_of_a_removed_release_is_kept_until_it_is_back(store: Store) -> None:
    later = NOW + timedelta(days=1)
    with pytest.raises(SessionNotFound):
        await store.note_released(A, NOW)
    await store.save(record(A))
    assert (await store.record(A)).released_at is None
    assert await store.note_released(A, NOW) == NOW
    assert await store.note_released(A, later) == NOW
    assert (await store.record(A)).released_at == NOW
    assert await store.note_released(A, None) is None
    assert await store.note_released(A, later) == later
    await store.save(record(A))
    assert (await store.record(A)).released_at is None


async def test_forget_deletes_every_key(store: Store) -> None:
    await store.save(record(A))
    await store.forget(A)
    await store.forget(A)
    assert await store.owner("ann") is None
    assert list(await store.page("", 10)) == []
    with pytest.raises(SessionNotFound):
        await store.record(A)
    assert await store.claim("bob", A) == A


async def test_only_one_caller_at_a_time_works_on_a_session(store: Store) -> None:
    async with store.lock(A):
        with pytest.raises(SessionBusy):
            async with store.lock(A):
                pass
        async with store.lock(B):
            pass
    async with store.lock(A):
        pass


async def test_an_incomplete_index_does_not_report_a_session_as_unknown() -> None:
    store = MemoryStore()
    with pytest.raises(IndexIncomplete):
        await store.owner("ann")
    with pytest.raises(IndexIncomplete):
        await store.record(A)


async def test_an_emptied_redis_has_an_incomplete_index(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        store = RedisStore(redis)
        await redis.flushall()
        assert not await store.index_complete()
        with pytest.raises(IndexIncomplete):
            await store.owner("ann")
        with pytest.raises(IndexIncomplete):
            await store.record(A)
        await store.mark_index_complete()
        assert await store.owner("ann") is None


async def test_an_unreachable_redis_is_named() -> None:
    async with Redis(port=free_port(), decode_responses=True) as redis:
        with pytest.raises(RedisUnavailable):
            await RedisStore(redis).ping()


async def test_a_cancelled_call_to_redis_ends(redis_port: int) -> None:
    async with Redis(port=redis_port, socket_timeout=2) as redis:
        store = RedisStore(redis)

        async def ask_for_ever() -> None:
            while True:
                await store.ping()

        for turns in range(200):
            task = asyncio.create_task(ask_for_ever())
            for _ in range(turns % 20):
                await asyncio.sleep(0)
            task.cancel()
            _, left = await asyncio.wait([task], timeout=5)
            task.cancel()
            assert not left, f"cancelled after {turns % 20} turns, it goes on"


SOON = timedelta(seconds=-1)
"""Of any age, whichever clock it is measured by."""


async def test_started_work_is_unfinished_until_it_is_saved_undone_or_forgotten(store: Store) -> None:
    await store.claim("ann", A)
    await store.claim("ann", B)  # it has one
    assert await store.unfinished(SOON, 10) == [(A, "ann")]
    assert await store.unfinished(timedelta(minutes=1), 10) == []
    await store.save(record(A))
    assert await store.unfinished(SOON, 10) == []
    await store.mark_deleting(A, keep_data=True)
    await store.mark_deleting(A, keep_data=False)
    assert await store.unfinished(SOON, 10) == [(A, None)]
    await store.forget(A)
    await store.claim("bob", B)
    await store.release_claim("bob", B)
    assert await store.unfinished(SOON, 10) == []


async def test_unfinished_work_in_progress_is_not_listed_and_a_read_is_bounded(store: Store) -> None:
    for number in range(5):
        await store.claim(f"user{number}", SessionId(f"{number:08d}"))
    first = SessionId("00000000")
    async with store.lock(first):
        assert first not in dict(await store.unfinished(SOON, 10))
        assert len(await store.unfinished(SOON, 3)) == 3
    assert first in dict(await store.unfinished(SOON, 10))
    await store.mark_finished(first)
    assert first not in dict(await store.unfinished(SOON, 10))


async def test_a_held_lock_is_confirmed(store: Store) -> None:
    async with store.lock(A) as lease:
        await lease.confirm()
