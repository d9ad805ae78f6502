"""Finds the session that a request's host names."""

import re
from functools import lru_cache

from service.domain import names
from service.domain.names import SessionId

_LONGEST = 253 + len(".:65535")


class Hosts:
    """Hosts look like `<prefix><uuid>.<domain>`, with or without a port."""

    def __init__(self, domain: str, prefix: str = names.HOST_PREFIX) -> None:
        self._cached = lru_cache(maxsize=10_000)(self._session)
        self._shape = re.compile(
            rf"{re.escape(prefix.lower())}({names.SESSION_ID_PATTERN})\.{re.escape(domain.lower())}\.?(?::[0-9]{{1,5}})?"
        )
        self._domain = re.compile(rf"{re.escape(domain.lower())}\.?(?::[0-9]{{1,5}})?")

    def session(self, host: str) -> SessionId | None:
        """The session that the `Host` header names; None for any other host."""
        # Anybody can send any host, so what is cached is bounded. Only ASCII is lower-cased: in Unicode, other letters
        # become ASCII ones (the Kelvin sign becomes a k).
        return self._cached(host) if len(host) <= _LONGEST and host.isascii() else None

    def is_domain(self, host: str) -> bool:
        """Whether the `Host` header names the domain itself, below which the workspaces are."""
        return len(host) <= _LONGEST and host.isascii() and self._domain.fullmatch(host.lower()) is not None

    def _session(self, host: str) -> SessionId | None:
        found = self._shape.fullmatch(host.lower())
        return SessionId(found[1]) if found else None
