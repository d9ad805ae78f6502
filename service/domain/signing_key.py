"""A key that seals tickets and session cookies."""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

SEALED = r"(?P<key>[0-9a-f]{8})\.(?P<seal>[A-Za-z0-9_-]{43})"
"""Pattern of the end of everything that is sealed: the key's id, and the seal over what is before it."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`id` names the key in everything that it has sealed."""

    id: str
    made_at: datetime
    secret: bytes = field(repr=False)

    def seal(self, kind: str, content: str) -> str:
        """`kind`, such as "ticket" or "pass" (a session cookie), keeps one from being accepted as another."""
        mac = hmac.digest(self.secret, f"{kind}.{content}".encode(), "sha256")
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The keys in any order, and the version that a write must replace (None: nothing is stored)."""

    keys: Sequence[SigningKey]
    version: str | None
