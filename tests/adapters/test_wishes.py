"""What a create asks for, as text: whole again when read, and harmless when somebody else has written it."""

from dataclasses import asdict
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.adapters.kubernetes import idle_times_text
from service.adapters.redis import wishes
from service.domain.idle_times import IdleTimes
from service.domain.limits import RequestedIdleTimes
from service.domain.wanted import NOTHING_WANTED, Wanted

ODD = [
    "", "{", "[]", "null", '"x"', "[" * 100_000, '{"lease": "x"}', '{"lease": true}', '{"lease": -1}', '{"lease": NaN}',
    '{"lease": 1e300, "cooldown": {}, "profile": 7}', '{"profile": "../x"}', '{"profile": ""}',
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
def test_odd_text_counts_as_nothing(odd: str) -> None:
    assert wishes.from_text(odd) == NOTHING_WANTED
    assert idle_times_text.from_text(odd) is None


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    wishes.from_text(text)
    idle_times_text.from_text(text)


def test_what_is_written_is_read_again() -> None:
    times = RequestedIdleTimes(lease=timedelta(seconds=12.5), background=timedelta(0))
    for wanted in (NOTHING_WANTED, Wanted(times, profile="gpu"), Wanted(profile="a-1", group="b")):
        assert wishes.from_text(wishes.to_text(wanted)) == wanted
    assert wishes.to_text(NOTHING_WANTED) == ""
    idle_times = IdleTimes(lease=timedelta(seconds=12.5), background=timedelta(hours=1))
    assert idle_times_text.from_text(idle_times_text.to_text(idle_times)) == idle_times
    assert idle_times_text.from_text(None) is None


def test_every_idle_time_is_written() -> None:
    assert idle_times_text.LEAST.keys() == asdict(IdleTimes()).keys()
