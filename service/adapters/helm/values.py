"""The chart values of a session: the common ones, its profile's, and its own, each above those before."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.profiles import Profile
from service.domain.workload import Assignment

Values = Mapping[str, Any]


def read_values(path: Path) -> dict[str, Any]:
    """Read the operator's values file. Raises ValueError that says what is wrong."""
    try:
        values = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not hold a mapping of values")  # noqa: TRY004 - the file is wrong, not the type
    return values


def session_values(common: Values, profile: Profile | None, own: Values) -> dict[str, Any]:
    """All values of one session, for an install and for an upgrade alike."""
    return _merged(_merged(common, profile.values if profile else {}), own)


def own_values(uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment) -> dict[str, Any]:
    """What the service sets for each session."""
    own: dict[str, Any] = {
        "uuid": uuid,
        "user": {"id": user_id},
        "autoscaling": {
            "pollingInterval": int(idle_times.poll.total_seconds()),
            "cooldownPeriod": int(idle_times.cooldown.total_seconds()),
            "lease": idle_times.lease.total_seconds(),
            "background": idle_times.background.total_seconds(),
        },
    }
    chosen = {"profile": assignment.profile, "group": assignment.group}
    # A chart from before these knows no such values.
    return own | {name: value for name, value in chosen.items() if value is not None}


def _merged(below: Values, above: Values) -> dict[str, Any]:
    """As helm merges files of values: maps are merged, and everything else is replaced, lists too."""
    merged = dict(below)
    for name, value in above.items():
        present = merged.get(name)
        merged[name] = _merged(present, value) if isinstance(present, dict) and isinstance(value, dict) else value
    return merged
