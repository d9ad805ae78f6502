"""The id of the current request, for log lines and for the history of the session."""

import re
import secrets
from contextvars import ContextVar

NOBODY = "-"
"""Used as the id where there is no request."""
_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,64}")


class _Call:
    """One request. Its id is made on first use, because most requests of the gateway never need one."""

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
    """Begin a request in this context. `given` is the client's id for it, which is used when it is well-formed."""
    _current.set(_Call(given))


def current_request_id() -> str:
    call = _current.get()
    return NOBODY if call is None else call.id
