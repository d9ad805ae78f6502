"""Server-sent events (WHATWG HTML, 9.2), read from the bytes of a stream."""

import re
from dataclasses import dataclass

from user_pods_client.errors import UnexpectedAnswer

_LINE_END = re.compile(rb"\r\n|\n|\r")
_MOST = 1024 * 1024
"""Bytes of one event."""


@dataclass(frozen=True)
class ServerSentEvent:
    """One event; `id` is None for one that a stream cannot be resumed after."""

    id: str | None
    name: str
    data: str


class EventParser:
    """Takes the stream in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, list[str]] = {}
        self._size = 0

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that this piece completes. Raises UnexpectedAnswer for one that is too large."""
        whole = self._rest + piece
        # A \r at the end may be the first half of \r\n.
        held = b"\r" if whole.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(whole.removesuffix(held) if held else whole)
        self._rest = rest + held
        found = [event for line in lines if (event := self._line(line)) is not None]
        if self._size + len(self._rest) > _MOST:
            raise UnexpectedAnswer("the stream of events is not the service's: one event is larger than a megabyte")
        return found

    def _line(self, line: bytes) -> ServerSentEvent | None:
        if not line:
            return self._complete()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        if name:
            self._size += len(line)
            self._fields.setdefault(name, []).append(value.removeprefix(" "))
        return None

    def _complete(self) -> ServerSentEvent | None:
        fields, self._fields, self._size = self._fields, {}, 0
        if "data" not in fields:
            return None
        ids = [each for each in fields.get("id", ()) if "\0" not in each]
        return ServerSentEvent(
            id=(ids[-1] or None) if ids else None,
            name=fields.get("event", ["message"])[-1],
            data="\n".join(fields["data"]),
        )
