"""The progress of a wake as server-sent events, for the waiting page."""

import asyncio
import contextlib
import json
import time

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse

from service.domain.errors import Unavailable
from service.domain.metrics import GatewayMetrics, RequestOutcome, Waiter
from service.domain.names import SessionId
from service.domain.ports import Progress
from service.domain.progress import Stage, events_after
from service.edge.event_stream import LAST_EVENT_ID, event_stream
from service.gateway.activity.rules import is_background
from service.gateway.errors import OWN_HEADERS, GatewayError
from service.gateway.proxy.pods import Upstream
from service.gateway.request_outcome import OutcomeRecorder
from service.gateway.waiting.pod_waiter import PodWaiter

PAGE_TIMEOUT = 3600.0
"""Seconds that a page waits at most: Kubernetes must not keep trying forever for a forgotten page."""
CHECK_INTERVAL = 1.0
"""Seconds between two checks of what delays the pod."""
HEARTBEAT = 10.0
"""Seconds between two comments on a stream, so that a browser that has gone is noticed. Progress is read as often: a
change may go unnoticed."""


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
            raise GatewayError(405, "Not allowed", "Use GET for the events of a wake.")
        begun = time.monotonic()
        with self._waiter.place(uuid):
            outcome.ended(RequestOutcome.OWN)
            # A page that merely reconnects does not wake the pod.
            wakes = not is_background(request)
            async with self._waiter.waiting_for(uuid, begun + PAGE_TIMEOUT, wakes=wakes, keeps_awake=True) as pod:
                response = await self._stream(request, uuid, pod)
                if pod.done() and not pod.cancelled() and pod.exception() is None:
                    self._metrics.wait_ended(Waiter.PAGE, time.monotonic() - begun)
                return response

    async def _stream(
        self, request: web.BaseRequest, uuid: SessionId, pod: "asyncio.Task[Upstream]"
    ) -> web.StreamResponse:
        last_id, warning, read_at = request.headers.get(LAST_EVENT_ID), "", 0.0
        async with event_stream(request, OWN_HEADERS, HEARTBEAT) as response:
            with self._progress.following(uuid) as changed:
                pod.add_done_callback(lambda _: changed.set())
                while not pod.done() and not self._closing.is_set():
                    if changed.is_set() or time.monotonic() - read_at > HEARTBEAT:
                        changed.clear()
                        read_at = time.monotonic()
                        last_id = await self._send_since(response, uuid, last_id)
                    if (reason := self._waiter.reason(uuid) or "") != warning:
                        warning = reason
                        await response.send(json.dumps({"reason": reason}), event="warning")
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(CHECK_INTERVAL):
                            await changed.wait()
            if pod.done():
                await self._send_since(response, uuid, last_id)
                await response.send(*_last(pod))
        return response

    async def _send_since(self, response: EventSourceResponse, uuid: SessionId, last_id: str | None) -> str | None:
        """Send the events after `last_id`; return the id of the last one."""
        try:
            events = events_after(await self._progress.events(uuid), last_id)
        except Unavailable:
            return last_id
        for event in events:
            last_id = event.id
            if event.stage is not Stage.FAILED:  # once waiting is pointless, the last event says so
                data = {"seconds": event.after.total_seconds(), "reason": event.reason}
                await response.send(json.dumps(data), id=event.id, event=event.stage.value)
        return last_id


def _last(pod: "asyncio.Task[Upstream]") -> tuple[str, None, str]:
    """Data, id and name of the last event."""
    error = pod.exception()
    if error is None:
        return "{}", None, "answers"
    title = error.title if isinstance(error, GatewayError) else "Your workspace could not be started"
    reason = str(error) or "A part of the system does not answer. Try again in a moment."
    return json.dumps({"title": title, "reason": reason}), None, "failed"
