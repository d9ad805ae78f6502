"""Server-sent events. aiohttp-sse handles the wire format, comments and stalled clients."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import ClientConnectionResetError, web
from aiohttp_sse import EventSourceResponse

LAST_EVENT_ID = "Last-Event-ID"


@asynccontextmanager
async def event_stream(
    request: web.BaseRequest, headers: Mapping[str, str], heartbeat: float
) -> AsyncIterator[EventSourceResponse]:
    """Send events by the response's `send` until the context ends, then return the response from the handler.

    A comment is sent every `heartbeat` seconds, so that no proxy takes the connection for dead. The context also ends
    when `send` finds that the client is gone or reads nothing any more.
    """
    if request.transport is None:
        raise ClientConnectionResetError  # aiohttp-sse does not expect this
    response = EventSourceResponse(sep="\n", ping_interval=heartbeat)
    response.headers.update(headers)
    await response.prepare(request)
    with contextlib.suppress(ConnectionResetError, TimeoutError):
        async with response:
            yield response


async def wait_for_change(request: web.BaseRequest, changed: asyncio.Event, seconds: float) -> bool:
    """Whether it is set within that time. If not, raises ConnectionResetError when the client is gone."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await changed.wait()
    if request.transport is None or request.transport.is_closing():
        raise ConnectionResetError
    return False
