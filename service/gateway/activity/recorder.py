"""Extends a session's lease when its user is active."""

import asyncio
import contextlib
import logging
import time
from datetime import timedelta
from operator import itemgetter

from service.domain.activity import SessionActivity
from service.domain.errors import SessionAsleep, SessionError
from service.domain.metrics import ActivitySource, GatewayMetrics
from service.domain.names import SessionId
from service.gateway.activity.rules import Program, Sender, is_input
from service.gateway.activity.vscode import INSPECTED_BYTES
from service.gateway.websocket.frames import Frame, FrameObserver

log = logging.getLogger(__name__)

_Last = tuple[float, ActivitySource]
"""When the user was last active (seconds of time.monotonic), and how."""
INTERVAL = 5.0
"""Seconds between two heartbeats of one session."""


class ActivityRecorder:
    """Sends at most one heartbeat per session and interval. The last activity of an interval is never lost."""

    def __init__(self, activity: SessionActivity, metrics: GatewayMetrics) -> None:
        self._activity = activity
        self._metrics = metrics
        self._timers: dict[SessionId, asyncio.TimerHandle] = {}
        """Sessions with a heartbeat in the current interval."""
        self._pending: dict[SessionId, _Last] = {}
        """Those of them that have been active since."""
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, uuid: SessionId, activity: ActivitySource, ago: float = 0.0) -> None:
        """Note that the user was active `ago` seconds ago. Returns at once."""
        now = time.monotonic()
        self._record(uuid, (now - ago, activity))

    def record_upload(self, uuid: SessionId, begun: float) -> None:
        """Note that an upload makes progress. It counts once it takes long (`begun`: seconds of time.monotonic).

        A page saves by short uploads too, without its user.
        """
        if time.monotonic() - begun > INTERVAL:
            self.record(uuid, ActivitySource.VISIT)

    def _record(self, uuid: SessionId, last: "_Last") -> None:
        if uuid in self._timers:
            self._pending[uuid] = max(last, self._pending.get(uuid, last), key=itemgetter(0))
            return
        self._timers[uuid] = asyncio.get_running_loop().call_later(INTERVAL, self._interval_over, uuid)
        task = asyncio.create_task(self._send(uuid, last), name="activity")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def record_while_open(self, uuid: SessionId, seconds: float) -> None:
        """Record an open connection as activity, for that long or until cancelled."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self.record(uuid, ActivitySource.CONNECTION)
                    await asyncio.sleep(INTERVAL)

    async def close(self) -> None:
        """Send what is pending, and end."""
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*self._tasks, *(self._send(uuid, last) for uuid, last in self._pending.items()))

    def _interval_over(self, uuid: SessionId) -> None:
        del self._timers[uuid]
        last = self._pending.pop(uuid, None)
        if last is not None:
            self._record(uuid, last)

    async def _send(self, uuid: SessionId, last: "_Last") -> None:
        at, activity = last
        try:
            with contextlib.suppress(SessionAsleep):
                await self._activity.heartbeat(uuid, activity, ago=timedelta(seconds=time.monotonic() - at))
                self._metrics.activity_recorded(activity)
        except SessionError as error:
            # The session is gone, or Redis is unavailable: the next activity makes up for it.
            log.info("cannot record activity: %s", error, extra={"uuid": uuid})
        except Exception:
            log.exception("cannot record activity", extra={"uuid": uuid})


class InputRecorder(FrameObserver):
    """Records a user's input on one WebSocket."""

    def __init__(self, activity: ActivityRecorder, uuid: SessionId, sender: Sender) -> None:
        self._activity = activity
        self._uuid = uuid
        self._sender = sender
        self.head_bytes = 0 if isinstance(sender, Program) else INSPECTED_BYTES

    def on_frame(self, frame: Frame) -> None:
        if is_input(frame, self._sender):
            self._activity.record(self._uuid, ActivitySource.INPUT)
