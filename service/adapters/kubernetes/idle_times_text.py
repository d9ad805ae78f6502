"""Idle times as the text of an annotation: JSON, in seconds."""

import json
from dataclasses import asdict
from datetime import timedelta

from service.adapters.kubernetes.fields import seconds
from service.domain.idle_times import IdleTimes

LONGEST = 10 * 365 * 86_400.0
"""Seconds. A longer idle time counts as invalid."""
LEAST = {"lease": 1, "cooldown": 0, "poll": 1, "background": 0}
"""The least number of seconds that is valid for each."""


def to_text(idle_times: IdleTimes) -> str:
    return json.dumps({name: time.total_seconds() for name, time in asdict(idle_times).items()})


def from_text(given: str | None) -> IdleTimes | None:
    """None for whatever is not all the idle times: it then counts as if it were not there."""
    try:
        fields = json.loads(given) if given else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    found: dict[str, timedelta] = {}
    for name, least in LEAST.items():
        time = seconds(fields.get(name), least=least, most=LONGEST)
        if time is None:
            return None
        found[name] = time
    return IdleTimes(**found)
