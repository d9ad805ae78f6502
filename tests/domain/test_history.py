"""A session's history, and how it is written in the background."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from service.domain.errors import RedisUnavailable
from service.domain.history import Entry, HistoryWriter, Kind, entries
from service.domain.journal import Created, Failed, HistoryEvent, Ready, Slept, Upgraded, Woken
from service.domain.metrics import Creation
from service.domain.names import SessionId
from service.domain.sleep_cause import SleepReason
from tests.fakes import MemoryHistory
from tests.waiting import until

UUID, OTHER = SessionId("abc123xy"), SessionId("12345678")
NOW = datetime(2026, 1, 1, 14, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def woken(seconds: float, by: str = "api") -> Woken:
    return Woken(uuid=UUID, user=None, at=after(seconds), request="request-1", by=by)


def ready(seconds: float, *, took: float | None = None, pod: str = "p1") -> Ready:
    return Ready(uuid=UUID, user=None, at=after(seconds), request="-", seconds=took, pod=pod)


def slept(seconds: float, why: SleepReason = SleepReason.IDLE, *, awake: float | None = None) -> Slept:
    return Slept(uuid=UUID, user=None, at=after(seconds), request="-", why=why, idle_since=NOW, seconds=awake)


def failed(seconds: float) -> Failed:
    return Failed(uuid=UUID, user=None, at=after(seconds), request="-", doing="wake", reason="ErrImagePull: no")


def test_a_wake_and_its_ready_pod_are_one_entry_and_the_newest_comes_first() -> None:
    assert entries([slept(142), ready(1.5, took=1.4), woken(0)]) == [
        Entry(kind=Kind.SLEEP, at=after(142), why=SleepReason.IDLE, idle_since=NOW, seconds=142),
        Entry(kind=Kind.WAKE, at=NOW, request="request-1", by="api", ready_at=after(1.5), seconds=1.5),
    ]


def test_a_wake_without_a_pod_yet_and_one_that_fails_say_so() -> None:
    assert entries([woken(0)]) == [Entry(kind=Kind.WAKE, at=NOW, request="request-1", by="api")]
    failure, wake = entries([failed(20), woken(0)])
    assert (failure.kind, failure.reason, wake.ready_at) == (Kind.FAILURE, "ErrImagePull: no", None)
    repaired = entries([ready(60), failed(20), woken(0)])
    assert [entry.kind for entry in repaired] == [Kind.FAILURE, Kind.WAKE]
    assert repaired[1].seconds == 60


def test_a_restored_pod_is_an_unrequested_wake() -> None:
    healed = entries([ready(150.2, took=0.2, pod="p2"), slept(150, SleepReason.LATE_ZERO), ready(1), woken(0)])
    assert healed[0] == Entry(kind=Kind.WAKE, at=after(150), ready_at=after(150.2), seconds=0.2)
    replaced = entries([ready(30, pod="p2"), ready(1), woken(0)])
    assert [(entry.by, entry.at) for entry in replaced] == [(None, after(30)), ("api", NOW)]


def upgraded(seconds: float) -> Upgraded:
    return Upgraded(uuid=UUID, user=None, at=after(seconds), request="request-2", by="shop", revision="2", seconds=1)


def test_an_upgrade_and_the_pod_that_it_replaced_are_one_entry() -> None:
    upgrade, wake = entries([ready(120, took=8, pod="p2"), upgraded(100), ready(1), woken(0)])
    assert upgrade == Entry(
        kind=Kind.UPGRADE, at=after(100), request="request-2", by="shop", ready_at=after(120), seconds=8
    )
    assert (wake.kind, wake.ready_at) == (Kind.WAKE, after(1))


def test_an_upgrade_has_only_the_pod_that_it_replaced() -> None:
    evicted = entries([ready(9000, took=8, pod="p3"), ready(120, took=8, pod="p2"), upgraded(100), ready(1), woken(0)])
    assert [(entry.kind, entry.at) for entry in evicted] == [
        (Kind.WAKE, after(8992)), (Kind.UPGRADE, after(100)), (Kind.WAKE, NOW),
    ]  # fmt: skip
    later = entries([ready(9000, took=8, pod="p2"), upgraded(100), ready(1), woken(0)])
    assert [(entry.kind, entry.ready_at) for entry in later[:2]] == [(Kind.WAKE, after(9000)), (Kind.UPGRADE, None)]
    asleep = entries([ready(151, took=1, pod="p2"), woken(150), upgraded(100), slept(90)])
    assert [(entry.kind, entry.ready_at) for entry in asleep[:2]] == [(Kind.WAKE, after(151)), (Kind.UPGRADE, None)]


def test_the_awake_time_is_observed_or_derived_from_the_wake() -> None:
    assert entries([slept(142, awake=140), ready(1), woken(0)])[0].seconds == 140
    assert entries([slept(142), ready(1), woken(0)])[0].seconds == 142
    assert entries([slept(142)])[0].seconds is None
    assert entries([slept(300), slept(142), woken(0)])[0].seconds is None


class Away(MemoryHistory):
    """A Redis that may be down, or fail for one event."""

    away = False
    bad: HistoryEvent | None = None
    attempts = 0

    async def append(self, event: HistoryEvent) -> bool:
        self.attempts += 1
        if self.away:
            raise RedisUnavailable
        if event == self.bad:
            raise ValueError("a fault of our own")
        return await super().append(event)


@asynccontextmanager
async def writing(history_writer: HistoryWriter) -> AsyncIterator[None]:
    task = asyncio.create_task(history_writer.run())
    await asyncio.sleep(0)
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_entries_wait_during_an_outage_of_redis() -> None:
    history = Away({UUID})
    history_writer, history.away = HistoryWriter(history), True
    async with writing(history_writer):
        history_writer.note(woken(0))
        await until(lambda: history.attempts == 1)
        history_writer.note(ready(1))
        history.away = False
        await until(lambda: history.kept == {UUID: [ready(1), woken(0)]})


async def test_an_event_that_cannot_be_written_delays_no_other() -> None:
    history = Away({UUID})
    history_writer, history.bad = HistoryWriter(history), woken(0)
    async with writing(history_writer):
        history_writer.note(woken(0))
        history_writer.note(ready(1))
        await until(lambda: history.kept == {UUID: [ready(1)]})


async def test_remaining_entries_are_written_at_the_end_of_the_process() -> None:
    history = Away({UUID})
    history_writer = HistoryWriter(history)
    async with writing(history_writer):
        history_writer.note(woken(0))
    assert history.kept == {UUID: [woken(0)]}


async def test_the_oldest_entries_are_dropped_during_a_long_outage_of_redis() -> None:
    history = Away({UUID})
    history_writer = HistoryWriter(history)
    for number in range(2010):
        event = ready(number, pod=f"p{number}")
        history_writer.note(replace(event, uuid=OTHER) if number < 10 else event)
    history.sessions = {UUID, OTHER}
    async with writing(history_writer):
        await until(lambda: history.kept.get(UUID, [])[:1] == [ready(2009, pod="p2009")])
    assert OTHER not in history.kept


async def test_only_events_of_a_sessions_pod_and_its_upgrades_enter_the_history() -> None:
    history = Away({UUID})
    history_writer = HistoryWriter(history)
    async with writing(history_writer):
        history_writer.note(Created(uuid=UUID, user=None, outcome=Creation.INSTALLED, seconds=1))
        history_writer.note(replace(failed(1), doing="delete"))
        history_writer.note(replace(woken(1), uuid=None))
        history_writer.note(replace(failed(2), doing="upgrade"))
        history_writer.note(woken(3))
    await until(lambda: len(history.kept.get(UUID, [])) == 2)
    assert [*history.kept[UUID]] == [woken(3), replace(failed(2), doing="upgrade")]
