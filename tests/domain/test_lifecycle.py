"""The steps for a session that an operator has paused, and for one whose wake has been pending for long."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.idle_times import IdleTimes
from service.domain.lifecycle import Step, renewal, steps
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


IDLE_TIMES = IdleTimes(lease=timedelta(seconds=10), poll=timedelta(seconds=1), cooldown=timedelta(seconds=15))
AWAKE = replace(ASLEEP, replicas=1, ready=1, idle_times=IDLE_TIMES, last_active=NOW - timedelta(seconds=1))
"""KEDA has last seen the queue before the push of `WANTED`."""


def test_activity_that_is_reported_late_does_not_keep_a_pod_awake_for_longer() -> None:
    reported_late = replace(WANTED, lease_until=NOW + timedelta(seconds=4))
    assert not steps(AWAKE, reported_late, now=NOW, parking=True), "KEDA sees it within a poll"
    assert not steps(AWAKE, reported_late, now=NOW + timedelta(seconds=2), parking=True)
    unseen = NOW + timedelta(seconds=2.1)
    assert steps(AWAKE, reported_late, now=unseen, parking=True) == {Step.RENEW}, "KEDA may be away"
    assert renewal(AWAKE, IDLE_TIMES) == timedelta(seconds=3), "no more than KEDA needs"


@pytest.mark.parametrize(
    "starting",
    [replace(AWAKE, ready=0), replace(AWAKE, parked=True), replace(AWAKE, replicas=0, ready=0)],
    ids=["starts", "KEDA does not poll yet", "is not scaled yet"],
)
def test_a_wake_whose_pod_starts_gets_whole_leases(starting: Workload) -> None:
    woken = replace(WANTED, lease_until=NOW + timedelta(seconds=10))
    assert Step.RENEW not in steps(starting, woken, now=NOW + timedelta(seconds=4), parking=True)
    assert Step.RENEW in steps(starting, woken, now=NOW + timedelta(seconds=6), parking=True)
    assert renewal(starting, IDLE_TIMES) == IDLE_TIMES.lease


def test_a_paused_session_has_no_sleeps_at() -> None:
    awake = replace(ASLEEP, replicas=1, ready=1, last_active=NOW)
    record = Record(UUID, "ann", RecordStatus.CREATED, NOW)
    assert Session(record, awake).sleeps_at is not None
    assert Session(record, replace(awake, paused=PAUSED.paused)).sleeps_at is None


def test_a_wake_held_by_a_pause_has_a_warning() -> None:
    assert list(reached(PAUSED)) == [ProgressUpdate(Stage.WARNING, PAUSED.paused)]
