"""The progress of a wake as server-sent events, for the waiting page."""

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence

from aiohttp import hdrs, web

from service.domain.errors import Unavailable
from service.domain.metrics import GatewayMetrics, RequestOutcome, Waiter
from service.domain.names import SessionId
from service.domain.ports import Progress
from service.domain.progress import Event, Stage, later
from service.gateway.activity.rules import is_background
from service.gateway.errors import OWN_HEADERS, GatewayError
from service.gateway.proxy.pods import Upstream
from service.gateway.request_outcome import OutcomeRecorder
from service.gateway.waiting.pod_waiter import PodWaiter

PAGE_TIMEOUT = 3600.0
"""Seconds that a page waits at most: Kubernetes must not keep trying for ever for a page that is forgotten."""
CHECK_INTERVAL = 1.0
"""Seconds between two checks of what delays the pod."""
_HEARTBEAT = 10.0
"""Seconds between two comments on a stream, so that a browser that has gone is noticed."""


class WakeEvents:
    """Streams wakes to waiting pages. When `closing` is set, the process ends and every stream does."""

    def __init__(
        self, *, waiter: PodWaiter, progress: Progress, metrics: GatewayMetrics, closing: asyncio.Event
    ) -> None:
        self._waiter = waiter
        self._progress = progress
        self._metrics = metrics
        self._closing = closing

    async def stream(self, request: web.BaseRequest, uuid: SessionId, outcome: OutcomeRecorder) -> web.StreamResponse:
        """The stages of the wake as they happen. The last event is `answers` when the pod responds, or `failed`.

        Events of type `warning` say what delays the pod; an empty one says that nothing does any more. When the process
        ends, the stream ends early: the page reconnects to another replica, and resumes after the last event.
        """
        if request.method != hdrs.METH_GET:
            raise GatewayError(405, "Not allowed", "Ask for the news of a wake by GET.")
        begun = time.monotonic()
        with self._waiter.place(uuid):
            outcome.ended(RequestOutcome.OWN)
            # A page that reconnects by itself wakes nobody.
            wakes = not is_background(request)
            async with self._waiter.waiting_for(uuid, begun + PAGE_TIMEOUT, wakes=wakes, keeps_awake=True) as pod:
                response = await self._stream(request, uuid, pod)
                if pod.done() and not pod.cancelled() and pod.exception() is None:
                    self._metrics.waited(Waiter.PAGE, time.monotonic() - begun)
                return response

    async def _stream(
        self, request: web.BaseRequest, uuid: SessionId, pod: "asyncio.Task[Upstream]"
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={**OWN_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        last_id, warning, sent_at = request.headers.get("Last-Event-ID"), "", time.monotonic()
        with contextlib.suppress(ConnectionResetError), self._progress.following(uuid) as changed:
            changed.set()
            while not pod.done():
                output = b""
                if changed.is_set() or time.monotonic() - sent_at > _HEARTBEAT:
                    changed.clear()
                    events = await self._since(uuid, last_id)
                    last_id = events[-1].id if events else last_id
                    output = b"".join(map(_event, events)) or b": still waiting\n\n"
                if (reason := self._waiter.reason(uuid) or "") != warning:
                    warning = reason
                    output += f"event: warning\ndata: {json.dumps({'reason': reason})}\n\n".encode()
                if output:
                    sent_at = time.monotonic()
                    await response.write(output)
                await _first(pod, changed)
                if self._closing.is_set() and not pod.done():
                    await response.write_eof()
                    return response
            events = await self._since(uuid, last_id)
            await response.write(b"".join(map(_event, events)) + _last(pod))
            await response.write_eof()
        return response

    async def _since(self, uuid: SessionId, last_id: str | None) -> Sequence[Event]:
        try:
            return later(await self._progress.wake(uuid), last_id)
        except Unavailable:
            return []


async def _first(pod: "asyncio.Task[Upstream]", changed: asyncio.Event) -> None:
    """Wait for either, or for CHECK_INTERVAL."""
    change = asyncio.ensure_future(changed.wait())
    try:
        await asyncio.wait((pod, change), timeout=CHECK_INTERVAL, return_when=asyncio.FIRST_COMPLETED)
    finally:
        change.cancel()


def _last(pod: "asyncio.Task[Upstream]") -> bytes:
    error = pod.exception()
    if error is None:
        return b"event: answers\ndata: {}\n\n"
    title = error.title if isinstance(error, GatewayError) else "Your workspace could not be started"
    reason = str(error) or "A part of the system does not answer. Try again in a moment."
    return f"event: failed\ndata: {json.dumps({'title': title, 'reason': reason})}\n\n".encode()


def _event(event: Event) -> bytes:
    if event.stage is Stage.FAILED:
        return b""  # the last event says so, once it makes no sense to wait any longer
    data = json.dumps({"seconds": event.after.total_seconds(), "reason": event.reason})
    return f"id: {event.id}\nevent: {event.stage.value}\ndata: {data}\n\n".encode()
