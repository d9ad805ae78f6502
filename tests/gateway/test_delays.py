"""What people hear of a wake that is delayed: nothing at first, since Kubernetes usually gets past it by itself."""

from dataclasses import replace

from service.domain.names import SessionId
from service.domain.workload import Workload
from service.gateway.waiting.delays import LASTS, Delay, DelayKind, Delays, is_late

_WORKLOAD = Workload(SessionId("abc123xy"))
_MOUNT = "FailedMount: the volume is not attached yet"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_an_ordinary_warning_is_not_told() -> None:
    clock = Clock()
    delays = Delays(clock)
    for _ in range(int(LASTS) - 1):
        assert delays.lasting(_WORKLOAD, _MOUNT) is None
        clock.seconds += 1
    assert delays.lasting(_WORKLOAD, None) is None


def test_a_warning_that_lasts_is_told_until_it_ends() -> None:
    clock = Clock()
    delays = Delays(clock)
    told = []
    for _ in range(int(LASTS) + 3):
        told.append(delays.lasting(_WORKLOAD, _MOUNT))
        clock.seconds += 1
    assert told[: int(LASTS)] == [None] * int(LASTS)
    assert told[int(LASTS)] == Delay(DelayKind.RETRIED, _MOUNT)
    assert delays.lasting(_WORKLOAD, None) is None


def test_a_crash_loop_that_looks_fine_for_moments_lasts_all_the_same() -> None:
    clock = Clock()
    delays = Delays(clock)
    told = []
    for second in range(int(LASTS) + 1):
        told.append(delays.lasting(_WORKLOAD, None if second % 3 == 1 else f"CrashLoopBackOff: {second}"))
        clock.seconds += 1
    assert told[:-1] == [None] * int(LASTS)
    assert told[-1] == Delay(DelayKind.RETRIED, f"CrashLoopBackOff: {int(LASTS)}")


def test_a_later_delay_is_another_one() -> None:
    clock = Clock()
    delays = Delays(clock)
    assert delays.lasting(_WORKLOAD, _MOUNT) is None
    clock.seconds += 60
    assert delays.lasting(_WORKLOAD, _MOUNT) is None


def test_what_needs_somebody_to_act_is_told_at_once() -> None:
    paused, final = replace(_WORKLOAD, paused="an operator's pause"), replace(_WORKLOAD, final=True)
    assert Delays().lasting(paused, "an operator's pause") == Delay(DelayKind.PAUSED, "an operator's pause")
    assert Delays().lasting(final, "Evicted: no disk") == Delay(DelayKind.FINAL, "Evicted: no disk")


def test_a_wake_is_late_after_three_times_the_usual_time_and_never_sooner_than_other_delays_are_told() -> None:
    assert [is_late(waited, 2.0) for waited in (6.1, LASTS - 0.1, LASTS)] == [False, False, True]
    assert [is_late(waited, 20.0) for waited in (LASTS, 59.9, 60)] == [False, False, True]
    assert not is_late(3600, None)


def test_delays_of_many_sessions_stay_within_bounds() -> None:
    delays = Delays()
    for number in range(12_000):
        delays.lasting(replace(_WORKLOAD, uuid=SessionId(f"{number:08}")), _MOUNT)
    assert len(delays._seen) == 10_000
