"""Wake, sleep, phases and pages."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import (
    IndexIncomplete,
    InvalidCursor,
    SessionBroken,
    SessionDeleting,
    SessionNotFound,
    SessionPaused,
    SessionReleased,
)
from service.domain.idle_times import IdleTimes
from service.domain.journal import Woken
from service.domain.names import SessionId, parse_session_id, public_host, release_name, scaler_name, user_hash
from service.domain.phase import Phase
from service.domain.queue_state import QueueState
from service.domain.record import Record, RecordStatus
from service.domain.release import Release, ReleaseState
from service.domain.session import Session
from service.domain.workload import Pod, Workload
from tests.domain.conftest import World
from tests.waiting import until

UUID = SessionId("abc123xy")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
DEPLOYED = Release("user-abc123xy", 1, ReleaseState.DEPLOYED, NOW)
RECORD = Record(UUID, "ann", RecordStatus.CREATED, NOW)
WHOLE = Workload(UUID, user_id="ann", release=DEPLOYED, deployed=True, has_scaler=True)


@pytest.mark.parametrize(
    ("record", "workload", "phase"),
    [
        (RECORD, WHOLE, Phase.ASLEEP),
        (replace(RECORD, queue=QueueState(1, NOW)), WHOLE, Phase.WAKING),
        (RECORD, replace(WHOLE, replicas=1), Phase.WAKING),
        (RECORD, replace(WHOLE, replicas=1, ready=1), Phase.READY),
        (RECORD, replace(WHOLE, replicas=1, failure="ImagePullBackOff: no"), Phase.FAILED),
        (RECORD, replace(WHOLE, has_scaler=False), Phase.FAILED),
        (RECORD, replace(WHOLE, deployed=False), Phase.FAILED),
        (RECORD, Workload(UUID), Phase.RELEASED),
        (RECORD, Workload(UUID, volume=True), Phase.RELEASED),
        (replace(RECORD, status=RecordStatus.DELETING), WHOLE, Phase.DELETING),
    ],
)
def test_the_phase_follows_from_record_and_workload(record: Record, workload: Workload, phase: Phase) -> None:
    assert Session(record, workload).phase is phase


def test_sleeps_at_is_set_only_while_awake() -> None:
    idle_times = IdleTimes(lease=timedelta(seconds=15), cooldown=timedelta(seconds=120), poll=timedelta(seconds=5))
    awake = replace(WHOLE, replicas=1, ready=1)
    leased = replace(RECORD, queue=QueueState(1, NOW))
    assert Session(leased, awake, idle_times).sleeps_at == NOW + timedelta(seconds=115)
    assert Session(RECORD, replace(awake, last_active=NOW), idle_times).sleeps_at == NOW + timedelta(seconds=120)
    assert Session(RECORD, WHOLE, idle_times).sleeps_at is None
    assert Session(replace(RECORD, queue=QueueState(1)), awake, idle_times).sleeps_at is None


def test_a_failed_session_gives_the_reason() -> None:
    failed = Session(RECORD, replace(WHOLE, replicas=1, failure="ErrImagePull: not found"))
    assert (failed.reason, failed.final) == ("ErrImagePull: not found", False)
    evicted = replace(WHOLE, replicas=1, failure="Evicted: the node had no disk left", final=True)
    assert Session(RECORD, evicted).final
    assert Session(RECORD, replace(WHOLE, has_scaler=False)).final


def test_a_session_with_unreadable_objects_reports_it_awake_or_asleep() -> None:
    for replicas in (0, 1):
        odd = Session(RECORD, replace(WHOLE, replicas=replicas, ready=replicas, read_error="spec.replicas is null"))
        assert (odd.phase, odd.reason, odd.final) == (Phase.FAILED, "spec.replicas is null", True)


def test_a_warning_does_not_fail_the_session() -> None:
    waits = Session(RECORD, replace(WHOLE, replicas=1, blocker="no room", warning="no room for more than 120 s"))
    assert (waits.phase, waits.reason, waits.warning) == (Phase.WAKING, "no room", "no room for more than 120 s")


async def test_a_session_with_unreadable_objects_refuses_wakes(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    world.cluster.workloads[uuid] = replace(world.cluster.workloads[uuid], read_error="spec.replicas is null")
    with pytest.raises(SessionBroken, match=r"spec\.replicas is null"):
        await world.activity.wake(uuid)
    assert not world.queues.tokens


async def test_a_wake_fills_the_queue_up_to_its_limit_and_records_the_activity(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    assert [(await world.activity.wake(uuid)).length for _ in range(5)] == [1, 2, 3, 3, 3]
    assert (await world.queries.status(uuid)).record.last_activity is not None


async def test_only_a_session_that_can_wake_accepts_a_wake(world: World) -> None:
    with pytest.raises(SessionNotFound):
        await world.activity.wake(UUID)
    uuid = (await world.provisioner.create("ann")).uuid
    whole = world.cluster.workloads[uuid]
    world.cluster.workloads[uuid] = replace(whole, has_scaler=False)
    with pytest.raises(SessionBroken, match="ScaledObject"):
        await world.activity.wake(uuid)
    await world.releases.uninstall(uuid)
    with pytest.raises(SessionReleased):
        await world.activity.wake(uuid)
    await world.store.mark_deleting(uuid, keep_data=True)
    with pytest.raises(SessionDeleting):
        await world.activity.wake(uuid)
    assert not world.queues.tokens


async def test_a_paused_session_accepts_wakes_and_its_pod_is_not_put_to_sleep(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    paused = replace(world.cluster.workloads[uuid], paused="paused by an operator", replicas=1, ready=1)
    world.cluster.workloads[uuid] = paused
    assert (await world.activity.wake(uuid)).length == 1
    with pytest.raises(SessionPaused, match="paused by an operator"):
        await world.activity.sleep(uuid)
    assert (world.cluster.workloads[uuid], world.queues.queue(uuid).tokens) == (paused, 1)


async def test_a_wake_held_by_a_pause_can_be_cancelled(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    paused = replace(world.cluster.workloads[uuid], paused="paused by an operator")
    world.cluster.workloads[uuid] = paused
    await world.activity.wake(uuid)
    await world.activity.sleep(uuid)
    assert not world.queues.queue(uuid).is_wanted
    assert world.cluster.workloads[uuid].replicas == 0


async def test_a_repair_keeps_an_operators_pause(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    whole = world.cluster.workloads[uuid]
    broken = replace(whole.release, state=ReleaseState.FAILED) if whole.release else None
    world.cluster.workloads[uuid] = replace(whole, release=broken, parked=False, paused="paused by an operator")
    await world.provisioner.create("ann")
    assert not world.cluster.workloads[uuid].parked


async def test_sleep_empties_the_queue_and_stops_the_pod(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    await world.activity.wake(uuid)
    world.cluster.workloads[uuid] = replace(world.cluster.workloads[uuid], replicas=1, ready=1)
    await world.activity.sleep(uuid)
    assert (await world.queries.status(uuid)).phase is Phase.ASLEEP


async def test_before_the_index_is_complete_no_session_is_reported_as_unknown(world: World) -> None:
    world.store.index_is_complete = False
    with pytest.raises(IndexIncomplete):
        await world.provisioner.create("ann")
    with pytest.raises(IndexIncomplete):
        await world.queries.status(UUID)


async def test_pages_list_every_session_once(world: World) -> None:
    made = sorted([(await world.provisioner.create(f"user{i}")).uuid for i in range(7)])
    seen, cursor = [], None
    while True:
        page = await world.queries.page(cursor=cursor, limit=3)
        seen += [session.record.uuid for session in page.sessions]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == made


async def test_pages_can_be_filtered_by_phase_and_user(world: World) -> None:
    made = [(await world.provisioner.create(f"user{i}")).uuid for i in range(5)]
    world.cluster.workloads[made[2]] = replace(world.cluster.workloads[made[2]], replicas=1, ready=1)
    ready = await world.queries.page(phase=Phase.READY)
    assert [session.record.uuid for session in ready.sessions] == [made[2]]
    assert [s.record.uuid for s in (await world.queries.page(user_id="user4")).sessions] == [made[4]]
    assert not (await world.queries.page(user_id="user4", phase=Phase.READY)).sessions
    assert not (await world.queries.page(user_id="nobody")).sessions


async def test_a_forged_cursor_is_refused(world: World) -> None:
    with pytest.raises(InvalidCursor):
        await world.queries.page(cursor="../../etc")


@pytest.mark.parametrize(
    "text", ["", "abc123x", "abc123xyz", "ABC123XY", "../../..", "abc 23xy", "abc123x\n", "äbc123xy"]
)
def test_an_invalid_id_is_not_a_session(text: str) -> None:
    with pytest.raises(SessionNotFound):
        parse_session_id(text)


def test_names_match_the_contract() -> None:
    assert (release_name(UUID), scaler_name(UUID)) == ("user-abc123xy", "user-abc123xy-scaler")
    assert public_host(UUID, "example.com") == "vs-code-abc123xy.example.com"
    assert len(scaler_name(UUID)) <= 53
    assert len(user_hash("john@example.com")) == 40


async def test_a_wake_before_an_uninstall_does_not_wake_the_recreated_session(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    await world.activity.wake(uuid)
    await world.releases.uninstall(uuid)
    await world.provisioner.create("ann")
    session = await world.queries.status(uuid)
    assert (session.phase, session.record.queue, session.workload.parked) == (Phase.ASLEEP, QueueState(), True)


async def test_repairing_an_awake_session_neither_parks_it_nor_drops_its_wake(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    await world.activity.wake(uuid)
    whole = world.cluster.workload(uuid)
    world.cluster.change(replace(whole, replicas=1, ready=1, has_scaler=False, parked=False))
    await world.provisioner.create("ann")
    session = await world.queries.status(uuid)
    assert (session.phase, session.workload.parked) == (Phase.READY, False)
    assert session.record.queue.is_wanted


async def test_a_restart_wakes_the_session_once_its_old_pod_is_gone(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1, pod=Pod("old", ready=True)))
    restarting = asyncio.create_task(world.activity.restart(uuid, by="visit", request="abc"))
    await until(lambda: world.cluster.workload(uuid).replicas == 0)
    assert not world.queues.queue(uuid).is_wanted, "visitors would get to the pod that ends"
    world.cluster.change(replace(world.cluster.workload(uuid), pod=None))
    await restarting
    assert world.queues.queue(uuid).is_wanted
    assert [entry.by for entry in world.journal.entries if isinstance(entry, Woken)] == ["visit"]


async def test_a_restart_does_not_wait_for_ever_for_a_pod_that_stays(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.domain.activity._SLEEP_SHOWS", 0.05)
    uuid = (await world.provisioner.create("ann")).uuid
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1, pod=Pod("old", ready=True)))
    await world.activity.restart(uuid, by="visit")
    assert world.queues.queue(uuid).is_wanted


async def test_a_restart_of_a_sleeping_session_wakes_it(world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    await world.activity.restart(uuid, by="visit")
    assert world.queues.queue(uuid).is_wanted
