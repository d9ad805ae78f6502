"""A wake as server-sent events: what has happened so far, then what happens, until it is over or nobody listens."""

import asyncio
import contextlib
import logging
from datetime import UTC, datetime

from aiohttp import web

from service.domain.errors import Unavailable
from service.domain.names import SessionId
from service.domain.progress import later, over
from service.domain.session import Session
from service.web import request_id
from service.web.keys import PROGRESS, READINESS, STREAMS
from service.web.models import ProgressEvent

log = logging.getLogger(__name__)

HEARTBEAT = 15
"""Seconds of silence after which a comment is sent, so that no proxy takes the stream for a dead one."""
LAST_EVENT_ID = "Last-Event-ID"


async def answer(request: web.Request, session: Session) -> web.StreamResponse:
    """Stream the wake under way or the last one; of a session that has none, one event with its present phase."""
    uuid, after = session.record.uuid, request.headers.get(LAST_EVENT_ID)
    wake = await request.app[PROGRESS].wake(uuid)
    if after and (not wake or over(wake)) and not later(wake, after):
        return web.Response(status=204)  # makes an EventSource stop, which otherwise comes back for ever
    response = web.StreamResponse(headers={request_id.HEADER: request_id.current_request_id()})
    response.content_type = "text/event-stream"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would hold events back
    with contextlib.suppress(ConnectionResetError):
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        if wake:
            await _follow(request, response, uuid, after)
        else:
            present = ProgressEvent(phase=session.phase, at=datetime.now(UTC), seconds=None, reason=session.reason)
            await response.write(_encoded(present, None))
    return response


async def _follow(request: web.Request, response: web.StreamResponse, uuid: SessionId, after: str | None) -> None:
    progress, open_streams = request.app[PROGRESS], request.app[STREAMS]
    with progress.following(uuid) as news:
        open_streams.add(news)
        try:
            while not request.app[READINESS].draining:
                news.clear()
                wake = await progress.wake(uuid)
                for event in later(wake, after):
                    after = event.id
                    await response.write(_encoded(ProgressEvent.of(event), after))
                if not wake or over(wake):
                    return
                if not await _heard(request, news):
                    await response.write(b": still on the way\n\n")
        except Unavailable as unavailable:
            log.warning("a stream ends early for lack of %s; the client can resume it", unavailable.part)
        finally:
            open_streams.discard(news)


async def _heard(request: web.Request, news: asyncio.Event) -> bool:
    """Whether there were news before the next heartbeat is due. Raises ConnectionResetError when the client is gone."""
    for _ in range(HEARTBEAT):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                return await news.wait()
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError
    return False


def _encoded(event: ProgressEvent, id_: str | None) -> bytes:
    named = f"id: {id_}\n" if id_ else ""
    return f"{named}event: {event.phase.value}\ndata: {event.model_dump_json()}\n\n".encode()


async def drain(app: web.Application) -> None:
    """End all streams: the process is on its way out, and clients resume at another replica."""
    app[READINESS].draining = True
    for news in app[STREAMS]:
        news.set()
