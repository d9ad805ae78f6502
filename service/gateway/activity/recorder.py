"""Extends a session's lease when its user is active."""

import asyncio
import contextlib
import time
from datetime import timedelta

from service.domain.activity import SessionActivity
from service.domain.metrics import ActivitySource, GatewayMetrics
from service.domain.names import SessionId
from service.gateway.activity import notes
from service.gateway.activity.notes import Note, NoteWriter


class ActivityRecorder(NoteWriter):
    """Sends at most one heartbeat per session and interval. The last activity is never lost."""

    def __init__(self, activity: SessionActivity, metrics: GatewayMetrics) -> None:
        super().__init__("activity")
        self._activity = activity
        self._metrics = metrics

    def record(self, uuid: SessionId, activity: ActivitySource, ago: float = 0.0) -> None:
        """Note that the user was active `ago` seconds ago. Returns at once."""
        self._add(uuid, Note(time.monotonic() - ago, activity))

    def record_upload(self, uuid: SessionId, begun: float) -> None:
        """Note that an upload makes progress. It counts once it takes long (`begun`: seconds of time.monotonic).

        A page saves by short uploads too, without its user.
        """
        if time.monotonic() - begun > notes.INTERVAL:
            self.record(uuid, ActivitySource.VISIT)

    async def record_while_open(self, uuid: SessionId, seconds: float) -> None:
        """Record an open connection as activity, for that long or until cancelled."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    self.record(uuid, ActivitySource.CONNECTION)
                    await asyncio.sleep(notes.INTERVAL)

    async def _write(self, uuid: SessionId, note: Note) -> None:
        await self._activity.heartbeat(uuid, note.source, ago=timedelta(seconds=time.monotonic() - note.at))
        self._metrics.activity_recorded(note.source)
