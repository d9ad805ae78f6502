"""Why a pod ended, from the record and the workload right after it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.queue_state import QueueState
from service.domain.record import Record, RecordStatus, SleepRequest
from service.domain.sleep_cause import SleepCause, SleepReason, sleep_cause
from service.domain.workload import ScaledBy, Workload

UUID = SessionId("abc123xy")
AT = datetime(2026, 1, 1, 14, 2, tzinfo=UTC)
IDLE_TIMES = IdleTimes(lease=timedelta(seconds=15), cooldown=timedelta(seconds=120), poll=timedelta(seconds=5))
KEDA, SERVICE, OTHER = ScaledBy.KEDA, ScaledBy.SERVICE, ScaledBy.OTHER


@dataclass(frozen=True, kw_only=True)
class Case:
    """Times are seconds before the sleep; None: never."""

    used: float | None = 135
    """Last activity."""
    seen: float | None = 121
    """KEDA's last sight of a filled queue."""
    asked: float | None = None
    """Last call of sleep."""
    awake: float | None = 600
    by: ScaledBy | None = KEDA
    pushed: float | None = None
    """A push that is not served yet."""
    tokens: int = 0


CASES = [
    pytest.param(Case(), SleepReason.IDLE, 135, id="idle"),
    pytest.param(Case(by=None), SleepReason.IDLE, 135, id="idle-nobody-tells-by-whom"),
    pytest.param(Case(used=None), SleepReason.IDLE, 121, id="idle-since-kedas-last-look"),
    pytest.param(Case(used=5000), SleepReason.IDLE, 121, id="idle-after-pushes-of-somebody-else"),
    pytest.param(Case(used=None, seen=None), SleepReason.IDLE, None, id="idle-and-never-used"),
    pytest.param(Case(used=-1), SleepReason.IDLE, 121, id="use-since-the-sleep-does-not-count"),
    pytest.param(Case(asked=0.1, by=SERVICE, used=10, seen=8), SleepReason.ASKED, 10, id="asked"),
    pytest.param(
        Case(asked=0.1, used=1, seen=None), SleepReason.ASKED, 1, id="asked-and-keda-was-first-at-its-first-look"
    ),
    pytest.param(Case(asked=0.1, by=None, used=1, seen=None), SleepReason.ASKED, 1, id="asked-before-kedas-first-look"),
    pytest.param(Case(asked=0.2, by=SERVICE, used=0.1, seen=8), SleepReason.ASKED, 0.1, id="asked-and-woken-at-once"),
    pytest.param(Case(asked=20, used=10, seen=None), SleepReason.FALSE, 10, id="asked-before-a-wake-since"),
    pytest.param(Case(asked=700, used=None, awake=600), SleepReason.IDLE, 121, id="asked-in-a-life-before"),
    pytest.param(
        Case(asked=0.15, used=0.4, seen=None, awake=0.1), SleepReason.ASKED, 0.4, id="asked-before-the-wake-was-shown"
    ),
    pytest.param(
        Case(asked=100, used=200, seen=121, awake=None), SleepReason.ASKED, 121, id="asked-and-the-scale-failed"
    ),
    pytest.param(Case(by=OTHER, used=10, seen=None), SleepReason.OPERATOR, 10, id="operator-before-kedas-first-look"),
    pytest.param(Case(by=OTHER), SleepReason.OPERATOR, 135, id="operator-after-the-cooldown"),
    pytest.param(Case(by=OTHER, used=1, seen=1, tokens=1), SleepReason.OPERATOR, 1, id="operator-while-wanted"),
    pytest.param(Case(used=10, seen=8), SleepReason.OPERATOR, 10, id="a-pause-at-0-which-keda-carries-out"),
    pytest.param(Case(by=None, used=10, seen=8), SleepReason.OPERATOR, 10, id="earlier-than-keda-could"),
    pytest.param(Case(by=None, used=3, seen=2, tokens=1), SleepReason.OPERATOR, 3, id="by-hand-while-wanted-and-seen"),
    pytest.param(Case(used=1, pushed=1, tokens=1), SleepReason.LATE_ZERO, 1, id="late-zero"),
    pytest.param(Case(used=1, tokens=1), SleepReason.LATE_ZERO, 1, id="late-zero-once-settled"),
    pytest.param(Case(used=-0.1, pushed=-0.1, tokens=1), SleepReason.IDLE, 121, id="a-wake-since-makes-no-late-zero"),
    pytest.param(Case(used=10, seen=130), SleepReason.FALSE, 10, id="false"),
    pytest.param(Case(used=10, seen=None), SleepReason.FALSE, 10, id="false-before-kedas-first-look"),
    pytest.param(Case(used=10, seen=None, by=None), SleepReason.FALSE, 10, id="false-nobody-tells-by-whom"),
]


def ago(seconds: float | None) -> datetime | None:
    return None if seconds is None else AT - timedelta(seconds=seconds)


@pytest.mark.parametrize(("case", "why", "since"), CASES)
def test_a_sleep_has_one_cause(case: Case, why: SleepReason, since: float | None) -> None:
    asked = ago(case.asked)
    record = Record(
        UUID,
        "ann",
        RecordStatus.CREATED,
        AT,
        last_activity=ago(case.used),
        sleep_request=SleepRequest(asked, "request-1", "shop") if asked else None,
        queue=QueueState(case.tokens, None, ago(case.pushed)),
    )
    after = Workload(UUID, scaled_by=case.by, last_active=ago(case.seen), idle_times=IDLE_TIMES)
    cause = sleep_cause(record, after, at=AT, awake_since=ago(case.awake))
    by = ("request-1", "shop") if why is SleepReason.ASKED else (None, None)
    assert cause == SleepCause(why, ago(since), *by)


@pytest.mark.parametrize(
    "what",
    [
        pytest.param({"kept_until": 0}, id="extension"),
        pytest.param({"renewed_until": 119}, id="late-pod"),
        pytest.param({"last_output": 134}, id="working-program"),
    ],
)
def test_what_keeps_a_session_awake_without_being_a_use_is_not_its_last_use(what: dict[str, float]) -> None:
    record = Record(UUID, "ann", RecordStatus.CREATED, AT, last_activity=ago(222))
    times = IdleTimes(lease=timedelta(seconds=15), cooldown=timedelta(seconds=120), background=timedelta(hours=1))
    after = Workload(UUID, scaled_by=KEDA, last_active=ago(121), idle_times=times)
    assert sleep_cause(record, after, at=AT).idle_since == ago(121)
    kept = replace(record, **{name: ago(seconds) for name, seconds in what.items()})  # type: ignore[arg-type]
    assert sleep_cause(kept, after, at=AT).idle_since == ago(222)
