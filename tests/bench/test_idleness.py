"""The idleness table calls a sleep false or missed by the limits that the docs promise."""

from bench.idleness import COOLDOWN, LEASE, POLL, judged

LIMIT = LEASE + COOLDOWN + POLL + 2


def test_a_sleep_within_the_limits_is_neither_false_nor_missed() -> None:
    row = judged("p", "q", [100.0, 110.0], [110.0 + COOLDOWN + 3])
    assert (row.sleeps, row.false, row.missed, row.seconds) == (1, 0, 0, COOLDOWN + 3)


def test_a_sleep_before_the_cooldown_is_false() -> None:
    row = judged("p", "q", [100.0, 110.0], [100.0 + 9, 110.0 + COOLDOWN])
    assert (row.sleeps, row.false, row.missed) == (2, 1, 0)


def test_a_sleep_that_is_late_or_never_comes_is_missed() -> None:
    assert judged("p", "q", [100.0], [100.0 + LIMIT + 1]).missed == 1
    never = judged("p", "q", [100.0], [])
    assert (never.missed, never.seconds) == (1, None)
