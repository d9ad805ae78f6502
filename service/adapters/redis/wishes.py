"""What a create asks for, as text beside its claim; anybody may have written anything there."""

import json
import math
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from service.domain.limits import RequestedIdleTimes
from service.domain.names import is_dns_label
from service.domain.wanted import NOTHING_WANTED, Wanted

_TIMES = ("lease", "cooldown", "poll", "background")
_NAMES = ("profile", "group")


def to_text(wanted: Wanted) -> str:
    """JSON of what was asked for, times in seconds; "" for nothing."""
    times = {name: getattr(wanted.idle_times, name) for name in _TIMES}
    fields: dict[str, Any] = {name: time.total_seconds() for name, time in times.items() if time is not None}
    fields |= {name: text for name in _NAMES if (text := getattr(wanted, name)) is not None}
    return json.dumps(fields) if fields else ""


def from_text(text: str) -> Wanted:
    """Leaves out what cannot be read: the session then gets the defaults, as if nobody had asked."""
    try:
        fields = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return NOTHING_WANTED
    if not isinstance(fields, dict):
        return NOTHING_WANTED
    times = {name: _duration(fields, name) for name in _TIMES}
    return Wanted(RequestedIdleTimes(**times), **{name: _label(fields.get(name)) for name in _NAMES})


def _label(value: object) -> str | None:
    return value if isinstance(value, str) and is_dns_label(value) else None


def _duration(fields: Mapping[str, Any], name: str) -> timedelta | None:
    seconds = fields.get(name)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds < 0:
        return None
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        return None
