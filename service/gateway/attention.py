"""Whether somebody is there: what counts as activity, and its way to the session's lease.

docs/idleness.md says what counts. Everything else that passes (what the pod sends, pings, an editor's own talk with its
server) keeps nobody awake, so neither a build that runs without its user nor a forgotten tab does.
"""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable, Iterator
from enum import StrEnum

from aiohttp.web import BaseRequest

from service.domain.errors import SessionError
from service.domain.names import SessionId
from service.gateway.frames import BINARY, Frame

log = logging.getLogger(__name__)

KEEP = 4096
"""Bytes of a frame that are looked at: an editor puts several messages into one."""
_EDITOR = "reconnectionToken"
"""In the query of a VS Code's WebSockets."""
_RECONNECTS = "reconnection=true"
_MESSAGE = struct.Struct("!BIII")
"""Of VS Code's protocol: kind, number, number acknowledged, length of what follows."""
_REGULAR = 1
_UNASKED = (b"acknowledgeDataEvent", b"$acknowledge")
"""Calls that an editor makes by itself while a terminal prints."""
_POLLED = frozenset({"/healthz", "/update/check", "/favicon.ico", "/manifest.json", "/robots.txt"})
"""Paths that are asked for without anybody's doing."""


class Mode(StrEnum):
    INPUT = "input"
    """What the user does: requests, and what a page sends over its WebSockets."""
    CONNECTION = "connection"
    """An open WebSocket is enough, for a time."""


def is_background(request: BaseRequest) -> bool:
    """Whether the request comes by itself: such a one neither wakes nor keeps awake."""
    if "prefetch" in request.headers.get("Sec-Purpose", request.headers.get("Purpose", "")):
        return True
    path, _, query = request.raw_path.partition("?")
    return path in _POLLED or _RECONNECTS in query


def is_editor(request: BaseRequest) -> bool:
    """Whether the WebSocket is one of a VS Code."""
    return _EDITOR in request.raw_path.partition("?")[2]


def is_input(frame: Frame, *, editor: bool) -> bool:
    """Whether the frame of a browser carries something that a user did."""
    if not frame.is_data or frame.length == 0:
        return False
    if not editor or frame.opcode != BINARY:
        return True
    return any(kind == _REGULAR and not any(call in body for call in _UNASKED) for kind, body in _messages(frame.head))


def _messages(head: bytes) -> Iterator[tuple[int, bytes]]:
    """VS Code's messages in a frame; the last one may be cut off."""
    at = 0
    while at + _MESSAGE.size <= len(head):
        kind, _, _, length = _MESSAGE.unpack_from(head, at)
        at += _MESSAGE.size
        yield kind, head[at : at + length]
        at += length


class Attention:
    """Tells of activity by `beat`, once an `interval` (seconds) and session at most, and never forgets the last."""

    def __init__(self, beat: Callable[[SessionId, str], Awaitable[None]], interval: float) -> None:
        self._beat = beat
        self._interval = interval
        self._quiet: dict[SessionId, asyncio.TimerHandle] = {}
        """Sessions whose last beat is not an interval ago."""
        self._again: dict[SessionId, str] = {}
        """Those of them that were active since, and by what."""
        self._tasks: set[asyncio.Task[None]] = set()

    def note(self, uuid: SessionId, source: str) -> None:
        """There was activity just now. Returns at once."""
        if uuid in self._quiet:
            self._again[uuid] = source
            return
        self._quiet[uuid] = asyncio.get_running_loop().call_later(self._interval, self._over, uuid)
        task = asyncio.ensure_future(self._tell(uuid, source))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _over(self, uuid: SessionId) -> None:
        del self._quiet[uuid]
        source = self._again.pop(uuid, None)
        if source is not None:
            self.note(uuid, source)

    async def _tell(self, uuid: SessionId, source: str) -> None:
        try:
            await self._beat(uuid, source)
        except SessionError as error:
            # Asleep or gone by now, or Redis is away: the next activity tells of itself.
            log.info("activity could not be noted: %s", error, extra={"uuid": uuid})

    async def close(self) -> None:
        """Tell what is untold, and end."""
        for handle in self._quiet.values():
            handle.cancel()
        await asyncio.gather(*self._tasks, *(self._tell(uuid, source) for uuid, source in self._again.items()))
