"""Whether somebody is there: what counts as activity, and its way to the session's lease.

docs/explanation/idleness.md says what counts. Everything else that passes (what the pod sends, pings, an editor's own
traffic with its server) keeps no pod awake, so neither a build that runs without its user nor a forgotten tab does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum

from aiohttp.web import BaseRequest
from multidict import istr

from service.domain.errors import SessionError
from service.domain.names import SessionId
from service.gateway.activity.vscode import Editor
from service.gateway.websocket.frames import BINARY, TEXT, Frame

log = logging.getLogger(__name__)

_EDITOR = "reconnectionToken"
"""In the query of a VS Code's WebSockets."""
_RECONNECTS = "reconnection=true"
_SEC_PURPOSE, _PURPOSE = istr("Sec-Purpose"), istr("Purpose")
_SERVICE_WORKER, _LAST_EVENT_ID = istr("Service-Worker"), istr("Last-Event-ID")
_POLLED = frozenset({"/healthz", "/update/check", "/favicon.ico", "/manifest.json", "/robots.txt"})
"""Paths that are asked for without anybody's doing."""


class Mode(StrEnum):
    INPUT = "input"
    """What the user does: requests, and what a page sends over its WebSockets."""
    CONNECTION = "connection"
    """An open WebSocket is enough, for a time."""


def is_prefetch(request: BaseRequest) -> bool:
    """Whether a browser asks for what its user may want to see, and has not asked for."""
    return "prefetch" in request.headers.get(_SEC_PURPOSE, request.headers.get(_PURPOSE, ""))


def is_background(request: BaseRequest) -> bool:
    """Whether the request comes by itself: such a one neither wakes nor keeps awake."""
    if is_prefetch(request):
        return True
    if _SERVICE_WORKER in request.headers:
        return True  # the browser looks whether there is a new one
    if _LAST_EVENT_ID in request.headers:
        return True  # a stream of events that was cut off
    path, _, query = request.raw_path.partition("?")
    return path in _POLLED or _RECONNECTS in query


def editor(request: BaseRequest) -> Editor | None:
    """What watches the WebSocket, if it is one of a VS Code."""
    query = request.raw_path.partition("?")[2]
    return Editor(resumed=_RECONNECTS in query) if _EDITOR in query else None


def is_input(frame: Frame, watched: Editor | None) -> bool:
    """Whether the frame of a browser tells of a user."""
    if not frame.is_data or frame.length == 0:
        return False
    if watched is None or frame.opcode == TEXT:
        return True
    # What a long message goes on with tells nothing: its beginning has told.
    return frame.opcode == BINARY and watched.shows_somebody(frame.head)


class ActivityRecorder:
    """Tells of activity by `heartbeat`, at most once per `interval` (seconds) and session, and forgets none."""

    def __init__(self, heartbeat: Callable[[SessionId, str], Awaitable[None]], interval: float) -> None:
        self._heartbeat = heartbeat
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
            await self._heartbeat(uuid, source)
        except SessionError as error:
            # Asleep or gone by now, or Redis is away: the next activity tells of itself.
            log.info("activity could not be noted: %s", error, extra={"uuid": uuid})
        except Exception:
            log.exception("activity could not be noted", extra={"uuid": uuid})

    async def close(self) -> None:
        """Tell what is untold, and end."""
        for handle in self._quiet.values():
            handle.cancel()
        await asyncio.gather(*self._tasks, *(self._tell(uuid, source) for uuid, source in self._again.items()))
