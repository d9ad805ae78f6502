"""A key that seals tickets and session cookies."""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

SEALED = r"(?P<key>[0-9a-f]{8})\.(?P<seal>[A-Za-z0-9_-]{43})"
"""Pattern of the end of everything that is sealed: the key's id, and the seal over what is before it."""


def encoded(data: bytes) -> str:
    """In base64 for URLs and cookies, without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def decoded(text: str) -> bytes:
    """The data that `encoded` has made the text of."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True, slots=True)
class SigningKey:
    """`id` names the key in everything that it has sealed."""

    id: str
    made_at: datetime
    secret: bytes = field(repr=False)

    def seal(self, kind: str, content: str) -> str:
        """`kind`, such as "ticket" or "pass" (a session cookie), keeps one from being accepted as another."""
        mac = hmac.digest(self.secret, f"{kind}.{content}".encode(), "sha256")
        return encoded(mac)


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """The keys in any order, and the version that a write must replace (None: nothing is stored)."""

    keys: Sequence[SigningKey]
    version: str | None
