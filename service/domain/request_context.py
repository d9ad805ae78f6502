"""The request that is being served, by its id: in every log line, and in what is noted of the session meanwhile."""

import re
import secrets
from contextvars import ContextVar

NOBODY = "-"
"""In place of an id, where no request stands behind what happens."""
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")


class _Call:
    """One request; its id is made when somebody wants it, which few requests of the gateway live to see."""

    __slots__ = ("_given", "_id")

    def __init__(self, given: str) -> None:
        self._given = given
        self._id: str | None = None

    @property
    def id(self) -> str:
        if self._id is None:
            self._id = self._given if _WELL_FORMED.fullmatch(self._given) else secrets.token_hex(8)
        return self._id


_current: ContextVar[_Call | None] = ContextVar("call", default=None)


def begin(given: str = "") -> None:
    """A request begins in this context; `given` is the id that its client proposes, taken when it is well-formed."""
    _current.set(_Call(given))


def current_request_id() -> str:
    call = _current.get()
    return NOBODY if call is None else call.id
