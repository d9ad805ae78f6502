"""A wake as server-sent events: what has happened so far, then what happens, until it is over or nobody listens."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from aiohttp import ClientConnectionResetError, web
from aiohttp_sse import EventSourceResponse, sse_response

from service.domain.errors import Unavailable
from service.domain.names import SessionId
from service.domain.progress import later, over
from service.domain.request_context import current_request_id
from service.domain.session import Session
from service.web import request_id
from service.web.keys import PROGRESS, READINESS, STREAM_ROOM, STREAMS
from service.web.models import ProgressEvent
from service.web.problems import BadRequest

log = logging.getLogger(__name__)

HEARTBEAT = 15
"""Seconds between two comments, so that no proxy takes the stream for a dead one; also the longest wait for news."""
LAST_EVENT_ID = "Last-Event-ID"


class Room:
    """Bounds how many streams are open: at once in all, and of one session."""

    def __init__(self, most: int, per_session: int) -> None:
        self._most = most
        self._per_session = per_session
        self._open: Counter[SessionId] = Counter()

    @contextmanager
    def taken(self, uuid: SessionId) -> Iterator[None]:
        """Have room for one more meanwhile. Raises BadRequest when there is none."""
        if self._open[uuid] >= self._per_session:
            raise BadRequest(429, "too-many-streams-of-session", "this session's events are followed by too many")
        if self._open.total() >= self._most:
            raise BadRequest(503, "too-many-streams", "too many streams of events are open; ask another replica")
        self._open[uuid] += 1
        try:
            yield
        finally:
            self._open[uuid] -= 1
            if not self._open[uuid]:
                del self._open[uuid]


async def answer(request: web.Request, session: Session) -> web.StreamResponse:
    """Stream the wake under way or the last one; of a session that has none, one event with its present phase."""
    uuid, after = session.record.uuid, request.headers.get(LAST_EVENT_ID)
    wake = await request.app[PROGRESS].wake(uuid)
    if after and (not wake or over(wake)) and not later(wake, after):
        return web.Response(status=204)  # makes an EventSource stop, which otherwise comes back for ever
    headers = {request_id.HEADER: current_request_id()}
    with request.app[STREAM_ROOM].taken(uuid):
        return await _answer(request, session, headers, after, known=bool(wake))


async def _answer(
    request: web.Request, session: Session, headers: dict[str, str], after: str | None, *, known: bool
) -> web.StreamResponse:
    if request.transport is None:
        raise ClientConnectionResetError  # which aiohttp-sse does not expect
    async with sse_response(request, headers=headers, sep="\n", ping_interval=HEARTBEAT) as response:
        # Whoever is gone, or takes nothing any more, need not be told so.
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            if known:
                await _follow(request, response, session.record.uuid, after)
            else:
                now = datetime.now(UTC)
                present = ProgressEvent(
                    phase=session.phase, at=now, seconds=None, reason=session.reason, final=session.final
                )
                await _send(response, present, None)
    return response


async def _follow(request: web.Request, response: EventSourceResponse, uuid: SessionId, after: str | None) -> None:
    progress, open_streams = request.app[PROGRESS], request.app[STREAMS]
    with progress.following(uuid) as news:
        open_streams.add(news)
        try:
            while not request.app[READINESS].closing:
                news.clear()
                wake = await progress.wake(uuid)
                for event in later(wake, after):
                    after = event.id
                    await _send(response, ProgressEvent.of(event), after)
                if not wake or over(wake):
                    return
                await _heard(request, news)
        except Unavailable as unavailable:
            log.warning("a stream ends early for lack of %s; the client can resume it", unavailable.part)
        finally:
            open_streams.discard(news)


async def _heard(request: web.Request, news: asyncio.Event) -> None:
    """Wait for news, or for as long as they may be missed. Raises ConnectionResetError when the client is gone."""
    for _ in range(HEARTBEAT):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await news.wait()
                return
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError


async def _send(response: EventSourceResponse, event: ProgressEvent, id_: str | None) -> None:
    await response.send(event.model_dump_json(), id=id_, event=event.phase.value)


async def drain(app: web.Application) -> None:
    """End all streams: the process is on its way out, and clients resume at another replica."""
    if READINESS in app:  # else the start did not come that far
        app[READINESS].draining = app[READINESS].closing = True
    for news in app[STREAMS]:
        news.set()
