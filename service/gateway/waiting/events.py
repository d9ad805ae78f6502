"""The progress of a wake as server-sent events, for the waiting page."""

import asyncio
import contextlib
import json
import time
from datetime import datetime

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse

from service.domain.clock import utc_now
from service.domain.errors import Unavailable
from service.domain.metrics import GatewayMetrics, RequestOutcome, Waiter
from service.domain.names import SessionId
from service.domain.ports import Progress
from service.domain.progress import Stage, events_after
from service.edge.event_stream import LAST_EVENT_ID, event_stream
from service.gateway.activity.rules import is_background
from service.gateway.errors import OWN_HEADERS, GatewayError, PageKind
from service.gateway.pages.pages import Text, next_step, text_for
from service.gateway.proxy.pods import Upstream
from service.gateway.request_outcome import OutcomeRecorder
from service.gateway.waiting.delays import Delay, DelayKind, is_late
from service.gateway.waiting.pod_waiter import PodWaiter
from service.gateway.waiting.wake_times import WakeTimes

PAGE_TIMEOUT = 3600.0
"""Seconds that a page waits at most: Kubernetes must not keep trying forever for a forgotten page."""
CHECK_INTERVAL = 1.0
"""Seconds between two checks of what delays the pod."""
HEARTBEAT = 10.0
"""Seconds between two comments on a stream, so that a browser that has gone is noticed. Progress is read as often: a
change may go unnoticed."""


class WakeEvents:
    """Streams wakes to waiting pages. When `closing` is set, the process ends and every stream does.

    `home` is the readers' start page.
    """

    def __init__(
        self,
        *,
        waiter: PodWaiter,
        progress: Progress,
        wake_times: WakeTimes,
        metrics: GatewayMetrics,
        closing: asyncio.Event,
        home: str | None = None,
    ) -> None:
        self._waiter = waiter
        self._progress = progress
        self._wake_times = wake_times
        self._metrics = metrics
        self._closing = closing
        self._home = home

    async def stream(self, request: web.BaseRequest, uuid: SessionId, outcome: OutcomeRecorder) -> web.StreamResponse:
        """The stages of the wake as they happen. The last event is `answers` when the pod responds, or `failed`.

        `expected` says how many seconds a wake usually takes. Events of type `warning` say what delays the pod for
        longer than an ordinary wake does, or that it takes longer than expected; an empty one says that this is over.
        `position` says how many sessions wait when many do. When the process ends, the stream ends early: the page
        reconnects to another replica, and resumes after the last event.
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
        read_at = 0.0
        async with event_stream(request, OWN_HEADERS, HEARTBEAT) as response:
            page = _WaitingPage(response, uuid, self._waiter, self._progress, request.headers.get(LAST_EVENT_ID))
            with self._progress.following(uuid) as changed:
                pod.add_done_callback(lambda _: changed.set())
                if (seconds := await self._wake_times.expected(uuid)) is not None:
                    page.usual = seconds
                    await response.send(json.dumps({"seconds": max(1, round(seconds))}), event="expected")
                while not pod.done() and not self._closing.is_set():
                    if changed.is_set() or time.monotonic() - read_at > HEARTBEAT:
                        changed.clear()
                        read_at = time.monotonic()
                        await page.tell_progress()
                    await page.tell_delay()
                    await page.tell_position()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(CHECK_INTERVAL):
                            await changed.wait()
            if pod.done():
                await page.tell_progress()
                await response.send(*_last(pod, text_for(request), self._home))
                if pod.exception() is None and page.accepted_at is not None:
                    self._wake_times.record((utc_now() - page.accepted_at).total_seconds())
        return response


class _WaitingPage:
    """One waiting page, and what it has been told so far."""

    def __init__(
        self, response: EventSourceResponse, uuid: SessionId, waiter: PodWaiter, progress: Progress, last_id: str | None
    ) -> None:
        self._response = response
        self._uuid = uuid
        self._waiter = waiter
        self._progress = progress
        self._last_id = last_id
        self._delay: Delay | None = None
        self._position: tuple[int, int] | None = None
        self._begun = time.monotonic()
        self.usual: float | None = None
        """Seconds that a wake usually takes, as the page was told."""
        self.accepted_at: datetime | None = None
        """When the wake was requested; None if the page has not seen the beginning."""

    async def tell_progress(self) -> None:
        """Send the events since the last one."""
        try:
            events = events_after(await self._progress.events(self._uuid), self._last_id)
        except Unavailable:
            return
        for event in events:
            self._last_id = event.id
            if event.stage is Stage.ACCEPTED:
                self.accepted_at = event.at
            # What Kubernetes retries is told once it lasts. Once waiting is pointless, the last event says so.
            if event.stage not in (Stage.FAILED, Stage.WARNING):
                data = {"seconds": event.after.total_seconds(), "reason": event.reason}
                await self._response.send(json.dumps(data), id=event.id, event=event.stage.value)

    async def tell_delay(self) -> None:
        delay = self._waiter.delay(self._uuid)
        if delay is None and is_late(time.monotonic() - self._begun, self.usual):
            delay = Delay(DelayKind.LATE, self._waiter.unanswered(self._uuid))
        if delay == self._delay:
            return
        self._delay = delay
        data = {"reason": delay.reason, "kind": delay.kind} if delay else {"reason": ""}
        await self._response.send(json.dumps(data), event="warning")

    async def tell_position(self) -> None:
        if (position := self._waiter.position(self._uuid)) == self._position:
            return
        self._position = position
        data = {"position": position[0], "count": position[1]} if position else {}
        await self._response.send(json.dumps(data), event="position")


def _last(pod: "asyncio.Task[Upstream]", text: Text, home: str | None) -> tuple[str, None, str]:
    """Data, id and name of the last event."""
    error = pod.exception()
    if error is None:
        return "{}", None, "answers"
    title = error.title if isinstance(error, GatewayError) else "Your workspace could not be started"
    reason = str(error) or "A part of the system does not answer. Try again in a moment."
    kind = error.page if isinstance(error, GatewayError) else PageKind.UNAVAILABLE
    page = {part: text(f"page.{kind}.{part}") for part in ("title", "text")} | {"next": text(next_step(kind, home))}
    return json.dumps({"title": title, "reason": reason, "page": page}), None, "failed"
