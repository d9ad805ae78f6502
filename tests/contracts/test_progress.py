"""What the domain relies on in the Progress: in memory, on the Redis at hand, and on the oldest one supported."""

import asyncio
from datetime import UTC, datetime, timedelta

from redis.asyncio import Redis

from service.adapters.redis.progress import RedisProgress
from service.domain.names import SessionId
from service.domain.progress import ProgressUpdate, Stage
from service.domain.record import Record, RecordStatus
from tests.contracts.conftest import Kept

A, B = map(SessionId, ("aaaaaaaa", "12345678"))
ACCEPTED, SCALED, READY = ProgressUpdate(Stage.ACCEPTED), ProgressUpdate(Stage.SCALED), ProgressUpdate(Stage.READY)
FAILED, ASLEEP = ProgressUpdate(Stage.FAILED, "ErrImagePull: no such image"), ProgressUpdate(Stage.ASLEEP)


async def told(kept: Kept, uuid: SessionId = A) -> list[ProgressUpdate]:
    return [ProgressUpdate(event.stage, event.reason) for event in await kept.progress.events(uuid)]


async def test_events_of_a_wake_are_kept_in_order_with_rising_ids_and_times(kept: Kept) -> None:
    before = datetime.now(UTC)
    await kept.progress.write(A, ACCEPTED)
    await asyncio.sleep(0.01)
    await kept.progress.write(A, SCALED, ProgressUpdate(Stage.WARNING, "FailedMount: the volume is away"))
    wake = await kept.progress.events(A)
    assert [event.stage for event in wake] == [Stage.ACCEPTED, Stage.SCALED, Stage.WARNING]
    assert [event.reason for event in wake] == [None, None, "FailedMount: the volume is away"]
    assert abs(wake[0].at - before) < timedelta(seconds=5)
    assert wake[0].after == timedelta(0) < wake[1].after == wake[1].at - wake[0].at
    parts = [tuple(map(int, event.id.split("-"))) for event in wake]
    assert parts == sorted(set(parts))


async def test_writing_the_same_event_again_adds_nothing(kept: Kept) -> None:
    warning, other = ProgressUpdate(Stage.WARNING, "a"), ProgressUpdate(Stage.WARNING, "b")
    for _ in range(2):
        assert await kept.progress.write(A, ACCEPTED, SCALED, warning, other)
    assert await told(kept) == [ACCEPTED, SCALED, warning, other]


async def test_without_a_wake_no_event_is_written(kept: Kept) -> None:
    assert not await kept.progress.write(A, SCALED, READY)
    assert await told(kept) == []


async def test_a_finished_wake_takes_no_more_events_and_the_next_starts_over(kept: Kept) -> None:
    for end in (READY, ASLEEP):
        assert await kept.progress.write(A, ACCEPTED, SCALED, end)
        assert not await kept.progress.write(A, SCALED, ProgressUpdate(Stage.WARNING, "late"))
        assert await told(kept) == [ACCEPTED, SCALED, end]


async def test_a_failed_wake_may_still_become_ready_or_be_woken_again(kept: Kept) -> None:
    assert await kept.progress.write(A, ACCEPTED, FAILED)
    assert await kept.progress.write(A, ProgressUpdate(Stage.FAILED, "in other words"), READY)
    assert await told(kept) == [ACCEPTED, FAILED, READY]
    await kept.progress.write(A, ACCEPTED, FAILED)
    await kept.progress.write(A, ACCEPTED)
    assert await told(kept) == [ACCEPTED]


async def test_a_failure_is_written_again_once_it_is_final(kept: Kept) -> None:
    final = ProgressUpdate(Stage.FAILED, "Evicted: no disk", final=True)
    await kept.progress.write(A, ACCEPTED)
    for update in (FAILED, FAILED, final, final, FAILED):
        await kept.progress.write(A, update)
    assert [(e.stage, e.final) for e in await kept.progress.events(A)] == [
        (Stage.ACCEPTED, False),
        (Stage.FAILED, False),
        (Stage.FAILED, True),
    ]


async def test_ids_of_the_next_wake_are_greater_than_earlier_ones(kept: Kept) -> None:
    await kept.progress.write(A, ACCEPTED, READY)
    last = (await kept.progress.events(A))[-1]
    await asyncio.sleep(0.01)
    await kept.progress.write(A, ACCEPTED)
    first = (await kept.progress.events(A))[0]
    assert tuple(map(int, first.id.split("-"))) > tuple(map(int, last.id.split("-")))


async def test_followers_are_notified_of_their_own_session(kept: Kept) -> None:
    with kept.progress.following(A) as first, kept.progress.following(A) as second, kept.progress.following(B) as other:
        await kept.progress.write(A, ACCEPTED)
        await asyncio.wait_for(asyncio.gather(first.wait(), second.wait()), 10)
        for flag in (first, second, other):
            flag.clear()
        await kept.progress.write(A, SCALED)
        await asyncio.wait_for(first.wait(), 10)
        assert not other.is_set()
        first.clear()
        await kept.progress.notify(A)  # of something else
        await asyncio.wait_for(first.wait(), 10)
        assert not other.is_set()


async def test_forgetting_a_session_deletes_its_progress_and_notifies_followers(kept: Kept) -> None:
    await kept.store.save(Record(A, "ann", RecordStatus.CREATED, datetime.now(UTC)))
    await kept.progress.write(A, ACCEPTED)
    with kept.progress.following(A) as flag:
        await asyncio.sleep(0.1)
        flag.clear()
        await kept.store.forget(A)
        await asyncio.wait_for(flag.wait(), 10)
    assert await told(kept) == []


async def test_another_replica_is_notified_and_progress_expires(redis_port: int) -> None:
    async with (
        Redis(port=redis_port, decode_responses=True) as one,
        Redis(port=redis_port, decode_responses=True) as two,
    ):
        await one.flushall()
        here, there = RedisProgress(one), RedisProgress(two)
        listening = asyncio.create_task(there.run())
        with there.following(A) as flag:
            await asyncio.wait_for(flag.wait(), 10)  # the subscription stands
            flag.clear()
            await here.write(A, ACCEPTED)
            await asyncio.wait_for(flag.wait(), 10)
        assert [event.stage for event in await there.events(A)] == [Stage.ACCEPTED]
        assert await one.keys() == [f"user-pods:progress:{A}"]
        assert 0 < await one.ttl(f"user-pods:progress:{A}") <= 3600
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_a_flood_of_warnings_is_limited_and_hides_no_other_event(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        await redis.flushall()
        progress = RedisProgress(redis)
        await progress.write(A, ACCEPTED, *(ProgressUpdate(Stage.WARNING, str(number)) for number in range(500)), READY)
        wake = await progress.events(A)
    assert len(wake) < 100
    assert (wake[0].stage, wake[-1].stage) == (Stage.ACCEPTED, Stage.READY)


async def test_followers_are_notified_again_after_a_broken_connection(redis_port: int) -> None:
    async with Redis(port=redis_port, decode_responses=True) as redis:
        progress = RedisProgress(redis)
        listening = asyncio.create_task(progress.run())
        with progress.following(A) as flag:
            await asyncio.wait_for(flag.wait(), 10)
            flag.clear()
            await redis.client_kill_filter(_type="pubsub", skipme=False)
            await asyncio.wait_for(flag.wait(), 10)
            flag.clear()
            await progress.write(A, ACCEPTED)
            await asyncio.wait_for(flag.wait(), 10)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
