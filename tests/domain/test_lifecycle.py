"""The steps for a session that an operator has paused, and for one whose wake has been pending for long."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.lifecycle import Step, steps
from service.domain.names import SessionId
from service.domain.progress import ProgressUpdate, Stage, reached
from service.domain.queue_state import QueueState
from service.domain.record import Record, RecordStatus
from service.domain.release import Release, ReleaseState
from service.domain.session import Session
from service.domain.workload import Workload

UUID = SessionId("abc123xy")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RELEASE = Release(f"user-{UUID}", 1, ReleaseState.DEPLOYED, NOW)
ASLEEP = Workload(UUID, user_id="ann", release=RELEASE, deployed=True, has_scaler=True)
PAUSED = replace(ASLEEP, paused="an operator has paused the session")
WANTED = QueueState(1, NOW + timedelta(seconds=15), pending_since=NOW)


@pytest.mark.parametrize("queue", [QueueState(), WANTED, QueueState(1)], ids=["unwanted", "woken", "pushed"])
@pytest.mark.parametrize("replicas", [0, 1])
@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize("parking", [False, True])
def test_no_step_overrides_an_operators_pause(queue: QueueState, replicas: int, parked: bool, parking: bool) -> None:
    paused = replace(PAUSED, replicas=replicas, ready=replicas, parked=parked)
    assert not steps(paused, queue, now=NOW, parking=parking)


@pytest.mark.parametrize("parking", [False, True])
def test_a_wake_held_for_hours_is_not_settled_before_its_pod_has_a_lease(
    parking: bool,
) -> None:
    later = NOW + timedelta(hours=5)
    held = QueueState(0, None, pending_since=NOW)
    due = steps(ASLEEP, held, now=later, parking=parking)
    assert due == ({Step.SCALE_UP, Step.RENEW} if parking else {Step.RENEW})
    renewed = replace(held, tokens=1, lease_until=later + timedelta(seconds=15))
    assert steps(replace(ASLEEP, replicas=1), renewed, now=later, parking=parking) == {Step.SETTLE}
    assert Step.SETTLE in steps(ASLEEP, renewed, now=later, parking=parking)


def test_a_paused_session_has_no_sleeps_at() -> None:
    awake = replace(ASLEEP, replicas=1, ready=1, last_active=NOW)
    record = Record(UUID, "ann", RecordStatus.CREATED, NOW)
    assert Session(record, awake).sleeps_at is not None
    assert Session(record, replace(awake, paused=PAUSED.paused)).sleeps_at is None


def test_a_wake_held_by_a_pause_has_a_warning() -> None:
    assert list(reached(PAUSED)) == [ProgressUpdate(Stage.WARNING, PAUSED.paused)]
