"""Whose workspace a request is for: told by the host it names, and by nothing else."""

import re
from functools import lru_cache

from service.domain import names
from service.domain.names import SessionId

_LONGEST = 253 + len(".:65535")


class Hosts:
    """Hosts look like `<prefix><uuid>.<domain>`; ports do not matter."""

    def __init__(self, domain: str, prefix: str = names.HOST_PREFIX) -> None:
        self._known = lru_cache(maxsize=10_000)(self._session)
        self._shape = re.compile(
            rf"{re.escape(prefix.lower())}({names.SESSION_ID_PATTERN})\.{re.escape(domain.lower())}\.?(?::[0-9]{{1,5}})?"
        )

    def session(self, host: str) -> SessionId | None:
        """The session that the `Host` header names; None for any other host."""
        # What is remembered comes from outside, so it has a bound. Lower case is taken in ASCII alone: in Unicode,
        # other letters become these (the sign of Kelvin a k).
        return self._known(host) if len(host) <= _LONGEST and host.isascii() else None

    def _session(self, host: str) -> SessionId | None:
        found = self._shape.fullmatch(host.lower())
        return SessionId(found[1]) if found else None
