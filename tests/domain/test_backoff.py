"""Pauses between retries."""

import pytest

from service.domain.backoff import Backoff


def test_pauses_double_up_to_the_maximum() -> None:
    backoff = Backoff(1, 8)
    connection_limits = [(0.5, 1), (1, 2), (2, 4), (4, 8), (4, 8)]
    assert all(low <= backoff.next() <= high for low, high in connection_limits)


def test_thousands_of_failures_never_overflow_or_exceed_the_maximum() -> None:
    backoff = Backoff(0.25, 5)
    assert max(backoff.next() for _ in range(5000)) <= 5


def test_a_success_resets_the_pauses() -> None:
    backoff = Backoff(1, 60)
    for _ in range(10):
        backoff.next()
    backoff.reset()
    assert backoff.next() <= 1


def test_pauses_differ_so_that_replicas_do_not_retry_together() -> None:
    assert len({Backoff(1, 60).next() for _ in range(20)}) > 1


@pytest.mark.parametrize("failures", [63, 64, 65, 1024, 2000])
def test_the_pause_stays_at_the_maximum_once_reached(failures: int) -> None:
    backoff = Backoff(0.001, 30)
    backoff.failures = failures
    assert 15 <= backoff.next() <= 30
