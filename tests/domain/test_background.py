"""A program that works in the pod keeps it awake up to a limit after the last activity, and is remembered."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import IdleTimesRefused, SessionAsleep
from service.domain.idle_times import IdleTimes
from service.domain.limits import Limits, RequestedIdleTimes
from service.domain.names import SessionId
from service.domain.queue_state import QueueState
from service.domain.record import Record, RecordStatus
from service.domain.release import Release, ReleaseState
from service.domain.session import Session
from service.domain.sleep_cause import was_interrupted
from service.domain.workload import Workload
from tests.domain.conftest import World

LIMIT = timedelta(hours=4)
TIMES = IdleTimes(background=LIMIT)
UUID = SessionId("abc123xy")


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(world: World) -> Clock:
    world.queues.clock = clock = Clock()
    return clock


async def awake(world: World, times: IdleTimes = TIMES) -> SessionId:
    uuid = (await world.provisioner.create("ann")).uuid
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1, idle_times=times))
    await world.queues.heartbeat(uuid, "input", times.lease)
    return uuid


async def test_work_keeps_the_session_awake_up_to_the_limit_and_never_beyond(world: World, clock: Clock) -> None:
    uuid, began = await awake(world), clock.now
    for _ in range(3 * int(LIMIT.total_seconds() / 60)):
        clock.now += timedelta(minutes=1)
        counts = await world.activity.background(uuid)
        lease_until = world.queues.queue(uuid).lease_until
        assert counts == (clock.now < began + LIMIT - TIMES.cooldown)
        assert lease_until is None or lease_until + TIMES.cooldown <= began + LIMIT
        assert (lease_until is not None) == counts
    record = world.store.sessions[uuid]
    assert (record.last_activity, record.activity_source) == (began, "input")


async def test_input_starts_the_limit_anew(world: World, clock: Clock) -> None:
    uuid = await awake(world)
    clock.now += LIMIT
    assert not await world.activity.background(uuid)
    await world.activity.heartbeat(uuid, "input")
    clock.now += LIMIT / 2
    assert await world.activity.background(uuid)


async def test_work_keeps_nothing_awake_unless_the_session_allows_it(world: World, clock: Clock) -> None:
    uuid = await awake(world, IdleTimes())
    clock.now += timedelta(minutes=1)
    assert not await world.activity.background(uuid)
    assert world.queues.queue(uuid).tokens == 0
    assert world.store.sessions[uuid].last_output == clock.now


async def test_after_redis_lost_its_data_the_limit_counts_from_the_first_work(world: World, clock: Clock) -> None:
    uuid, began = await awake(world), clock.now
    world.store.sessions[uuid] = Record(uuid, "ann", RecordStatus.CREATED, clock.now)
    assert await world.activity.background(uuid)
    record = world.store.sessions[uuid]
    assert (record.last_activity, record.activity_source) == (began, "background")
    clock.now += LIMIT
    assert not await world.activity.background(uuid)


async def test_work_never_wakes_a_session_nor_undoes_a_request_for_sleep(world: World, clock: Clock) -> None:
    uuid = await awake(world)
    clock.now += timedelta(seconds=1)
    await world.queues.clear(uuid, asked="request-1")
    assert not await world.activity.background(uuid)
    assert world.queues.queue(uuid).tokens == 0
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=0, ready=0))
    world.queues.waiting.clear()
    with pytest.raises(SessionAsleep):
        await world.activity.background(uuid)


def test_status_says_that_work_keeps_the_session_awake() -> None:
    now = datetime.now(UTC)
    release = Release("user-abc123xy", 1, ReleaseState.DEPLOYED, now)
    workload = Workload(
        UUID,
        release=release,
        deployed=True,
        has_scaler=True,
        replicas=1,
        ready=1,
        idle_times=IdleTimes(background=LIMIT),
    )
    record = Record(
        UUID,
        "ann",
        RecordStatus.CREATED,
        now,
        last_activity=now - timedelta(minutes=5),
        activity_source="input",
        last_output=now,
        queue=QueueState(1, now + timedelta(seconds=15)),
    )
    assert Session(record, workload).kept_awake_by == "background"
    assert Session(replace(record, last_activity=now), workload).kept_awake_by == "input"
    assert Session(replace(record, last_activity=now - LIMIT), workload).kept_awake_by == "queue"
    assert Session(record, replace(workload, idle_times=IdleTimes())).kept_awake_by == "queue"


@pytest.mark.parametrize(
    ("output", "activity", "interrupted"),
    [(None, 300, False), (5, 300, True), (59, 300, True), (61, 300, False), (20, 25, False), (20, None, True)],
)
def test_a_sleep_interrupts_what_printed_lately_and_not_in_answer_to_its_user(
    output: float | None, activity: float | None, interrupted: bool
) -> None:
    at = datetime.now(UTC)

    def ago(seconds: float | None) -> datetime | None:
        return None if seconds is None else at - timedelta(seconds=seconds)

    record = Record(UUID, "ann", RecordStatus.CREATED, at, last_output=ago(output), last_activity=ago(activity))
    assert was_interrupted(record, at) is interrupted


async def test_an_extension_ends_before_its_time(world: World) -> None:
    uuid = await awake(world)
    await world.activity.extend(uuid, timedelta(hours=1))
    await world.activity.end_extension(uuid)
    assert world.store.sessions[uuid].kept_until is None
    until = world.queues.queue(uuid).lease_until
    assert until is not None
    assert until - datetime.now(UTC) <= TIMES.lease


def test_a_creator_may_choose_the_limit_up_to_that_of_extensions() -> None:
    limits = Limits(extension=timedelta(hours=8))
    for asked, found in ((None, LIMIT), (timedelta(0), timedelta(0)), (timedelta(hours=8), timedelta(hours=8))):
        assert limits.idle_times(RequestedIdleTimes(background=asked), TIMES).background == found
    with pytest.raises(IdleTimesRefused, match="background work may be 8 h at most"):
        limits.idle_times(RequestedIdleTimes(background=timedelta(hours=9)), TIMES)


def test_a_late_pod_is_kept_awake_by_its_wake_and_not_by_another_program() -> None:
    now = datetime.now(UTC)
    workload = Workload(
        UUID, release=Release("user-abc123xy", 1, ReleaseState.DEPLOYED, now), deployed=True, has_scaler=True,
        replicas=1, ready=1,
    )  # fmt: skip
    until = now + timedelta(seconds=10)
    woken = Record(
        UUID, "ann", RecordStatus.CREATED, now, last_activity=now - timedelta(minutes=2), activity_source="wake",
        renewed_until=until, queue=QueueState(1, until),
    )  # fmt: skip
    assert Session(woken, workload).kept_awake_by == "wake"
    pending = replace(woken, renewed_until=None, queue=QueueState(1, until, woken.last_activity))
    assert Session(pending, workload).kept_awake_by == "wake"
    for queue in (QueueState(1, until + timedelta(minutes=1)), QueueState(1), QueueState(1, until, now)):
        assert Session(replace(woken, queue=queue), workload).kept_awake_by == "queue"
