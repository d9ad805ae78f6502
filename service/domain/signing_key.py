"""A key that seals tickets and session cookies."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`id` names the key in everything that it has sealed."""

    id: str
    made_at: datetime
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The keys in any order, and the version that a write must replace (None: nothing is stored)."""

    keys: Sequence[SigningKey]
    version: str | None
