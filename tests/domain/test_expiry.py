"""When a session is deleted: by its age or by how long it has slept, and never before its warning."""

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.expiry import NEVER, Expiry, ExpiryReason, ExpiryRule, ExpiryWarning

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 2, tzinfo=UTC)
RULE = ExpiryRule(lifetime=90 * DAY, dormancy=30 * DAY, warning=3 * DAY)
LIFETIME, DORMANCY = ExpiryReason
FOREVER = datetime.max.replace(tzinfo=UTC)


def ago(days: float | None) -> datetime | None:
    return None if days is None else NOW - days * DAY


def warned(days: float, reason: ExpiryReason = LIFETIME, *, due: float | None = None) -> ExpiryWarning:
    """By days before now; due three days later unless told otherwise."""
    return ExpiryWarning(at=NOW - days * DAY, due=NOW - (days - 3 if due is None else due) * DAY, reason=reason)


def expiry(
    rule: ExpiryRule = RULE,
    *,
    created: float = 0,
    awake: float | None = None,
    spared: float | None = None,
    warning: ExpiryWarning | None = None,
) -> Expiry | None:
    """By days before now; a negative number is in the future."""
    return rule.expiry(
        NOW, created_at=NOW - created * DAY, last_awake=ago(awake), spared_until=ago(spared), warning=warning
    )


def due(rule: ExpiryRule = RULE, **times: float | ExpiryWarning) -> float:
    """In how many days it is deleted."""
    found = expiry(rule, **times)  # type: ignore[arg-type]
    assert found is not None
    return (found.at - NOW) / DAY


def test_the_earlier_end_counts() -> None:
    assert expiry(created=10, awake=5) == Expiry(NOW + 25 * DAY, NOW + 22 * DAY, DORMANCY)
    assert expiry(created=80, awake=5) == Expiry(NOW + 10 * DAY, NOW + 7 * DAY, LIFETIME)


def test_an_awake_session_is_not_dormant() -> None:
    assert expiry(created=10) == Expiry(NOW + 80 * DAY, NOW + 77 * DAY, LIFETIME)
    assert expiry(ExpiryRule(dormancy=DAY), created=10) is None


def test_the_warning_has_its_full_time() -> None:
    assert expiry(created=100) == Expiry(NOW + 3 * DAY, NOW - 13 * DAY, LIFETIME)
    assert due(created=100, warning=warned(1)) == 2
    assert due(created=100, warning=warned(4)) == -1


def test_a_shorter_time_of_warning_does_not_break_what_the_user_was_told() -> None:
    hasty = ExpiryRule(lifetime=90 * DAY, warning=DAY / 24)
    assert due(hasty, created=100, warning=warned(1)) == 2


def test_a_longer_time_of_warning_holds_for_those_who_are_warned_already() -> None:
    patient = ExpiryRule(lifetime=90 * DAY, warning=10 * DAY)
    assert due(patient, created=100, warning=warned(1)) == 9


def test_a_warning_for_another_reason_does_not_count() -> None:
    assert due(created=100, warning=warned(50, DORMANCY)) == 3
    assert due(ExpiryRule(dormancy=DAY), created=100, awake=60, warning=warned(50, LIFETIME)) == 3


def test_a_warning_from_before_the_last_use_does_not_count() -> None:
    hasty = ExpiryRule(dormancy=DAY / 24, warning=3 * DAY)
    assert due(hasty, created=100, awake=0.1, warning=warned(5, DORMANCY)) == 3
    assert due(hasty, created=100, awake=6, warning=warned(5, DORMANCY)) == -2
    sleeps = expiry(created=100, awake=1, warning=warned(2))
    assert sleeps is not None
    assert sleeps.warning, "whoever uses a session that is too old has been warned of that"


def test_a_new_warning_has_its_whole_time_whatever_was_said_before() -> None:
    found = expiry(created=100, warning=warned(50))
    assert found is not None
    assert RULE.warn(NOW, found) == ExpiryWarning(at=NOW, due=NOW + 3 * DAY, reason=LIFETIME)
    early = expiry(created=88)
    assert early is not None
    assert RULE.warn(NOW, early).due == NOW + 3 * DAY
    assert RULE.warn(NOW - DAY, early).due == NOW + 2 * DAY


def test_whoever_keeps_it_moves_both_ends() -> None:
    kept = expiry(created=100, awake=60, spared=-7)
    assert kept is not None
    assert (kept.at, kept.warn_at) == (NOW + 7 * DAY, NOW + 4 * DAY)


@pytest.mark.parametrize("odd", ["created_at", "last_awake", "warning"])
def test_times_at_the_end_of_the_calendar_delete_nothing(odd: str) -> None:
    times = {"created_at": NOW - 20 * DAY, "last_awake": NOW - 60 * DAY, "warning": None}
    times[odd] = FOREVER if odd != "warning" else ExpiryWarning(at=FOREVER, due=FOREVER, reason=DORMANCY)  # type: ignore[assignment]
    found = RULE.expiry(NOW, spared_until=None, **times)  # type: ignore[arg-type]
    assert found is None or found.at > NOW


def test_without_limits_it_stays() -> None:
    assert not NEVER
    assert expiry(NEVER, created=10_000, awake=10_000, warning=warned(9_000)) is None
