"""Whose workspace a request is for: told by the host it names, and by nothing else."""

import re
from functools import lru_cache

from service.domain import names
from service.domain.names import SessionId


class Hosts:
    """Hosts look like `<prefix><uuid>.<domain>`; ports do not matter."""

    def __init__(self, domain: str, prefix: str = names.HOST_PREFIX) -> None:
        self.session = lru_cache(maxsize=10_000)(self._session)
        """The session that the `Host` header names; None for any other host."""
        self._shape = re.compile(
            rf"{re.escape(prefix.lower())}({names.SESSION_ID_PATTERN})\.{re.escape(domain.lower())}\.?(?::[0-9]{{1,5}})?"
        )

    def _session(self, host: str) -> SessionId | None:
        found = self._shape.fullmatch(host.lower())
        return SessionId(found[1]) if found else None
