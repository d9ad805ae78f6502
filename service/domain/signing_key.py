"""A key that tickets and session cookies are sealed with."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. `id` names it in what it has sealed."""

    id: str
    made_at: datetime
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """What was read: the keys in any order, and the version that a write must replace (None: nothing is there)."""

    keys: Sequence[SigningKey]
    version: str | None
