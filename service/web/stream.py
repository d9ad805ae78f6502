"""The progress of a wake as server-sent events: what has happened so far, and what happens until the wake is over."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from service.domain.counting import counted
from service.domain.errors import Unavailable
from service.domain.names import SessionId
from service.domain.ports import Progress
from service.domain.progress import events_after, has_ended
from service.domain.request_context import current_request_id
from service.domain.session import Session
from service.edge.event_stream import LAST_EVENT_ID, event_stream, wait_for_change
from service.edge.readiness import Readiness
from service.web import request_id
from service.web.models import ProgressEvent
from service.web.problems import RequestRefused

log = logging.getLogger(__name__)

HEARTBEAT = 15
"""Seconds between two comments. Progress is read as often: a change may go unnoticed."""
_TICK = 1.0
"""Seconds between two looks whether the client is there, and may be."""


class Admission(Protocol):
    async def still_admits(self, request: web.Request) -> bool:
        """Whether the request would be let in now."""


class EventStreams:
    """The open streams: at most `total`, and `per_session` of one session."""

    def __init__(
        self, progress: Progress, readiness: Readiness, gate: Admission | None, *, total: int, per_session: int
    ) -> None:
        """Without a `gate`, everybody is admitted."""
        self._progress = progress
        self._readiness = readiness
        self._gate = gate
        self._total = total
        self._per_session = per_session
        self._open: Counter[SessionId] = Counter()
        self._changes: set[asyncio.Event] = set()
        """Wakes each stream that follows a wake."""

    async def respond(self, request: web.Request, session: Session) -> web.StreamResponse:
        """Stream the current or the last wake; if there is none, one event with the session's phase.

        Raises RequestRefused when there are too many streams.
        """
        uuid, last_id = session.record.uuid, request.headers.get(LAST_EVENT_ID)
        wake = await self._progress.events(uuid)
        if last_id and (not wake or has_ended(wake)) and not events_after(wake, last_id):
            return web.Response(status=204)  # makes an EventSource stop; otherwise it reconnects forever
        headers = {request_id.HEADER: current_request_id()}
        with self._place(uuid):
            async with event_stream(request, headers, HEARTBEAT) as response:
                if wake:
                    await self._follow(request, response, uuid, last_id)
                else:
                    now = datetime.now(UTC)
                    event = ProgressEvent(
                        phase=session.phase, at=now, seconds=None, reason=session.reason, final=session.final
                    )
                    await _send(response, event, None)
            return response

    async def end(self, _app: web.Application) -> None:
        """End all streams: the process ends, and clients resume at another replica."""
        self._readiness.close()
        for changed in self._changes:
            changed.set()

    @contextmanager
    def _place(self, uuid: SessionId) -> Iterator[None]:
        if self._open[uuid] >= self._per_session:
            raise RequestRefused("too-many-streams-of-session", "too many streams of this session's events are open")
        if self._open.total() >= self._total:
            raise RequestRefused("too-many-streams", "too many streams of events are open; ask another replica")
        with counted(self._open, uuid):
            yield

    async def _follow(
        self, request: web.Request, response: EventSourceResponse, uuid: SessionId, last_id: str | None
    ) -> None:
        with self._progress.following(uuid) as changed:
            self._changes.add(changed)
            try:
                while not self._readiness.closing and await self._is_admitted(request):
                    changed.clear()
                    wake = await self._progress.events(uuid)
                    for event in events_after(wake, last_id):
                        last_id = event.id
                        await _send(response, ProgressEvent.of(event), last_id)
                    if not wake or has_ended(wake):
                        return
                    await self._changed(request, changed)
            except Unavailable as error:
                log.warning("a stream ends early because %s is unavailable; the client can resume it", error.part)
            finally:
                self._changes.discard(changed)

    async def _changed(self, request: web.Request, changed: asyncio.Event) -> None:
        """Wait for a change, for HEARTBEAT, or until the client may no longer listen.

        Raises ConnectionResetError when the client is gone.
        """
        for _ in range(HEARTBEAT):
            if await wait_for_change(request, changed, _TICK) or not await self._is_admitted(request):
                return

    async def _is_admitted(self, request: web.Request) -> bool:
        """A client that is not reconnects, and is told why."""
        return self._gate is None or await self._gate.still_admits(request)


async def _send(response: EventSourceResponse, event: ProgressEvent, id_: str | None) -> None:
    await response.send(event.model_dump_json(), id=id_, event=event.phase.value)
