"""The wall clock, as the default of parameters that tests replace."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)
