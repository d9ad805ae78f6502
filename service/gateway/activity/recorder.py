"""Extends a session's lease when its user is active."""

import asyncio
import contextlib
import logging

from service.domain.activity import SessionActivity
from service.domain.errors import SessionAsleep, SessionError
from service.domain.metrics import ActivitySource, GatewayMetrics
from service.domain.names import SessionId
from service.gateway.activity.rules import is_input
from service.gateway.activity.vscode import INSPECTED_BYTES, Editor
from service.gateway.websocket.frames import Frame, FrameObserver

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two heartbeats of one session."""


class ActivityRecorder:
    """Sends at most one heartbeat per session and interval. The last activity of an interval is never lost."""

    def __init__(self, activity: SessionActivity, metrics: GatewayMetrics) -> None:
        self._activity = activity
        self._metrics = metrics
        self._timers: dict[SessionId, asyncio.TimerHandle] = {}
        """Sessions with a heartbeat in the current interval."""
        self._pending: dict[SessionId, ActivitySource] = {}
        """Those of them that have been active since."""
        self._tasks: set[asyncio.Task[None]] = set()

    def record(self, uuid: SessionId, activity: ActivitySource) -> None:
        """Note that the user is active now. Returns at once."""
        if uuid in self._timers:
            self._pending[uuid] = activity
            return
        self._timers[uuid] = asyncio.get_running_loop().call_later(INTERVAL, self._interval_over, uuid)
        task = asyncio.create_task(self._send(uuid, activity), name="activity")
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
        await asyncio.gather(*self._tasks, *(self._send(uuid, activity) for uuid, activity in self._pending.items()))

    def _interval_over(self, uuid: SessionId) -> None:
        del self._timers[uuid]
        activity = self._pending.pop(uuid, None)
        if activity is not None:
            self.record(uuid, activity)

    async def _send(self, uuid: SessionId, activity: ActivitySource) -> None:
        try:
            with contextlib.suppress(SessionAsleep):
                await self._activity.heartbeat(uuid, activity)
                self._metrics.activity_recorded(activity)
        except SessionError as error:
            # The session is gone, or Redis is unavailable: the next activity makes up for it.
            log.info("cannot record activity: %s", error, extra={"uuid": uuid})
        except Exception:
            log.exception("cannot record activity", extra={"uuid": uuid})


class InputRecorder(FrameObserver):
    """Records a user's input on one WebSocket."""

    def __init__(self, activity: ActivityRecorder, uuid: SessionId, editor: Editor | None) -> None:
        self._activity = activity
        self._uuid = uuid
        self._editor = editor
        self.head_bytes = INSPECTED_BYTES if editor else 0

    def on_frame(self, frame: Frame) -> None:
        if is_input(frame, self._editor):
            self._activity.record(self._uuid, ActivitySource.INPUT)
