"""Read fields of Kubernetes objects defensively: one malformed object must not stop a whole watch."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]


class Unreadable(Exception):
    """A required field has an impossible value; the message names both."""


def as_dict(value: Any) -> Json:
    """The value, or an empty dict when it is not a dict."""
    return value if isinstance(value, dict) else {}


def as_dicts(value: Any) -> list[Json]:
    """The dicts in the list; empty when the value is not a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """The value, or None when it is not a string or is empty."""
    return value if isinstance(value, str) and value else None


def name_of(item: Json) -> str:
    """The object's name; empty when it has none."""
    return text(as_dict(item.get("metadata")).get("name")) or ""


def count(value: Any, name: str) -> int:
    """The value as a number of pods. Raises Unreadable when it is not one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Unreadable(f"{name} is {value!r:.60}, which is not a number of pods")
    return value


def seconds(value: Any, *, least: float, most: float) -> timedelta | None:
    """A duration from a number or a numeric string; None when it is neither, or out of bounds."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, bool) or not math.isfinite(number) or not least <= number <= most:
        return None
    return timedelta(seconds=number)


def moment(value: Any) -> datetime | None:
    """The UTC time in an RFC 3339 timestamp; None when the value is not one."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        # Convert to UTC inside the try: near the ends of the calendar this overflows.
        return found and (found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def annotations(item: Json) -> dict[str, str]:
    return _texts(item, "annotations")


def labels(item: Json) -> dict[str, str]:
    return _texts(item, "labels")


def condition(item: Json, kind: str, status: str) -> Json:
    """The condition of that type in the object's status; empty unless it has this status."""
    found = as_dicts(as_dict(item.get("status")).get("conditions"))
    return next((each for each in found if each.get("type") == kind and each.get("status") == status), {})


def is_terminating(item: Json) -> bool:
    """Whether the object is being deleted."""
    return as_dict(item.get("metadata")).get("deletionTimestamp") is not None


def _texts(item: Json, name: str) -> dict[str, str]:
    found = as_dict(as_dict(item.get("metadata")).get(name))
    return {key: value for key, value in found.items() if isinstance(value, str)}
