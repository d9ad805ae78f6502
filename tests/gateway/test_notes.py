"""Activity that cannot be noted at once: it is kept, with its time, until it is noted or no longer matters."""

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import IndexIncomplete, RedisUnavailable, SessionDeleting, SessionError
from service.domain.metrics import SILENT, ActivitySource
from service.domain.names import SessionId
from service.gateway.activity.background import BackgroundRecorder
from service.gateway.activity.recorder import ActivityRecorder
from tests.domain.conftest import World
from tests.gateway.conftest import House
from tests.waiting import until


class Away:
    """Lets `world`'s heartbeats fail; `since` counts those that did."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: SessionError | None = RedisUnavailable()
        self.since = 0
        self.noted: list[str] = []
        heartbeat = world.activity.heartbeat

        async def flaky(uuid: SessionId, source: str, *, ago: timedelta = timedelta(0)) -> None:
            if self.error is not None:
                self.since += 1
                raise self.error
            self.noted.append(source)
            await heartbeat(uuid, source, ago=ago)

        monkeypatch.setattr(world.activity, "heartbeat", flaky)


@pytest.fixture
def away(world: World, monkeypatch: pytest.MonkeyPatch) -> Away:
    monkeypatch.setattr("service.gateway.activity.notes.INTERVAL", 0.1)
    return Away(world, monkeypatch)


@pytest.mark.parametrize("error", [RedisUnavailable(), IndexIncomplete()])
async def test_the_last_input_before_a_failover_is_noted_after_it_with_the_time_when_it_was(
    house: House, away: Away, error: SessionError
) -> None:
    uuid, away.error = await house.awake(), error
    recorder = ActivityRecorder(house.world.activity, SILENT)
    began = datetime.now(UTC)
    recorder.record(uuid, ActivitySource.INPUT)
    await until(lambda: away.since >= 3)
    away.error = None
    await until(lambda: house.world.store.sessions[uuid].last_activity is not None)
    noted = house.world.store.sessions[uuid].last_activity
    assert noted is not None
    assert abs(noted - began) < timedelta(seconds=0.1)
    assert away.noted == ["input"]
    await recorder.close()


async def test_later_activity_replaces_what_could_not_be_noted(house: House, away: Away) -> None:
    uuid = await house.awake()
    recorder = ActivityRecorder(house.world.activity, SILENT)
    recorder.record(uuid, ActivitySource.INPUT)
    await until(lambda: away.since >= 2)
    recorder.record(uuid, ActivitySource.VISIT)
    recorder.record(uuid, ActivitySource.INPUT, ago=5)
    away.error = None
    await until(lambda: bool(away.noted))
    await recorder.close()
    assert away.noted == ["visit"]


async def test_what_never_can_be_noted_is_dropped(house: House, away: Away) -> None:
    uuid, away.error = await house.awake(), SessionDeleting()
    recorder = ActivityRecorder(house.world.activity, SILENT)
    recorder.record(uuid, ActivitySource.INPUT)
    await until(lambda: away.since == 1 and not recorder._timers)
    assert not recorder._pending
    await recorder.close()
    assert away.since == 1


async def test_what_is_pending_at_the_end_is_tried_once_more(house: House, away: Away) -> None:
    uuid = await house.awake()
    recorder = ActivityRecorder(house.world.activity, SILENT)
    recorder.record(uuid, ActivitySource.INPUT)
    await until(lambda: away.since >= 1)
    away.error = None
    await recorder.close()
    assert house.world.store.sessions[uuid].activity_source == "input"


async def test_activity_whose_cooldown_has_passed_keeps_nothing_awake(house: House) -> None:
    uuid = await house.awake()
    times = house.world.cluster.workload(uuid).idle_times
    assert times is not None
    await house.world.activity.heartbeat(uuid, "input", ago=times.lease + times.cooldown)
    assert house.world.store.sessions[uuid].last_activity is None
    await house.world.activity.heartbeat(uuid, "input", ago=times.cooldown)
    assert house.world.store.sessions[uuid].activity_source == "input"


async def test_output_of_an_outage_is_not_noted_as_of_now(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.activity.notes.INTERVAL", 0.1)
    monkeypatch.setattr("service.gateway.activity.background._LATE", 0.3)
    uuid, tries = await house.awake(), 0

    async def fails(_uuid: SessionId) -> bool:
        nonlocal tries
        tries += 1
        raise RedisUnavailable

    monkeypatch.setattr(house.world.activity, "background", fails)
    recorder = BackgroundRecorder(house.world.activity, SILENT)
    recorder.record(uuid)
    await until(lambda: tries >= 2)
    await until(lambda: not recorder._timers)
    assert tries < 5
    await recorder.close()
