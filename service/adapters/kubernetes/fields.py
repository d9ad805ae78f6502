"""Fields of Kubernetes' objects as they should be, whatever is in them: one odd object must not stop a whole watch."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]


class Unreadable(Exception):
    """A field without which the object means nothing has a value that it cannot have; the message names both."""


def as_dict(value: Any) -> Json:
    """The object, an empty one when it is none."""
    return value if isinstance(value, dict) else {}


def as_dicts(value: Any) -> list[Json]:
    """The objects in the list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """The text; None when it is none, or empty."""
    return value if isinstance(value, str) and value else None


def name_of(item: Json) -> str:
    """Its name, which every object has; empty for what is none."""
    return text(as_dict(item.get("metadata")).get("name")) or ""


def needed_text(item: Json, name: str) -> str:
    """The text of a field of the metadata. Raises Unreadable."""
    value = text(as_dict(item.get("metadata")).get(name))
    if value is None:
        raise Unreadable(f"metadata.{name} is missing")
    return value


def count(value: Any, name: str) -> int:
    """A number of pods. Raises Unreadable."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Unreadable(f"{name} is {_shown(value)}, which is no number of pods")
    return value


def seconds(value: Any, *, least: float, most: float) -> timedelta | None:
    """A duration from a number or its text; None when it is none, or out of bounds."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, bool) or not math.isfinite(number) or not least <= number <= most:
        return None
    return timedelta(seconds=number)


def moment(value: Any) -> datetime | None:
    """A time of Kubernetes'; None when it is none."""
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        # To UTC already here: near the ends of the calendar that fails.
        return found and (found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        return None


def annotations(item: Json) -> dict[str, str]:
    return _texts(item, "annotations")


def labels(item: Json) -> dict[str, str]:
    return _texts(item, "labels")


def going(item: Json) -> bool:
    """Whether the object is being deleted."""
    return as_dict(item.get("metadata")).get("deletionTimestamp") is not None


def _texts(item: Json, name: str) -> dict[str, str]:
    found = as_dict(as_dict(item.get("metadata")).get(name))
    return {key: value for key, value in found.items() if isinstance(value, str)}


def _shown(value: Any) -> str:
    return repr(value)[:60]
