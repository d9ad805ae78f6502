"""Notes that a program in the pod works without its user: a terminal prints, a file is downloaded.

Whether that keeps the pod awake, and how long after the last activity, the session's idle times say
(`IdleTimes.background`). It is noted in any case: whoever comes back after a sleep can be told that something was
interrupted. docs/explanation/idleness.md has the rules.
"""

import time
from collections.abc import Callable

from aiohttp import web

from service.domain.activity import SessionActivity
from service.domain.metrics import ActivitySource, GatewayMetrics
from service.domain.names import SessionId
from service.gateway.activity.notes import Note, NoteWriter
from service.gateway.activity.rules import is_editor
from service.gateway.activity.vscode import prints
from service.gateway.websocket.frames import Frame, FrameObserver

_LATE = 10.0
"""Seconds that a note may be late."""
_WINDOW = 5.0
_PIECES, _BYTES = 3, 1024
"""So many messages, or so much data, within a window of so many seconds: a keepalive is less, a build is more."""
_LONG = 5.0
"""Seconds after which the rest of a response is a download, and not a page that loads."""
_INSPECTED = 8 * 1024
"""Bytes of each frame from an editor that are inspected."""
_KERNEL = "/api/kernels/"
"""In the path of Jupyter's WebSockets to a kernel. They also carry a kernel's state, which says nothing."""
_KERNEL_OUTPUT = (b'"stream"', b'"display_data"', b'"update_display_data"', b'"execute_result"')
_KERNEL_BYTES = 1024
"""Bytes of each message from a kernel that are inspected: its type comes early."""


class BackgroundRecorder(NoteWriter):
    """Notes at most once per session and interval that a program works."""

    def __init__(self, activity: SessionActivity, metrics: GatewayMetrics) -> None:
        super().__init__("background work")
        self._activity = activity
        self._metrics = metrics

    def record(self, uuid: SessionId) -> None:
        """Note that a program in the session's pod works. Returns at once."""
        if not self._has_note(uuid):
            self._add(uuid, Note(time.monotonic(), ActivitySource.BACKGROUND))

    async def _write(self, uuid: SessionId, note: Note) -> None:
        if time.monotonic() - note.at > _LATE:
            return  # it would be noted as of now
        if await self._activity.background(uuid):
            self._metrics.activity_recorded(note.source)


class OutputMeter:
    """Tells work from a keepalive by its amount. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = float("-inf")
        self._pieces = self._bytes = 0

    def is_work(self, size: int) -> bool:
        """Count a piece of that many bytes. Returns whether it is part of a program's work."""
        now = self._clock()
        if now - self._since > _WINDOW:
            self._since, self._pieces, self._bytes = now, 0, 0
        self._pieces += 1
        self._bytes += size
        return self._pieces >= _PIECES or self._bytes >= _BYTES


class OutputObserver(FrameObserver):
    """Sees what a pod sends over one WebSocket."""

    def __init__(self, recorder: BackgroundRecorder, uuid: SessionId) -> None:
        self._recorder = recorder
        self._uuid = uuid
        self._meter = OutputMeter()

    def on_frame(self, frame: Frame) -> None:
        if frame.is_data and frame.length and self._is_work(frame):
            self._recorder.record(self._uuid)

    def _is_work(self, frame: Frame) -> bool:
        return self._meter.is_work(frame.length)


class EditorOutputObserver(OutputObserver):
    """The same for a VS Code, which talks to its page all the time: only what a terminal prints counts."""

    head_bytes = _INSPECTED

    def _is_work(self, frame: Frame) -> bool:
        return prints(frame.head)


class KernelOutputObserver(OutputObserver):
    """The same for a kernel of Jupyter: only what a cell prints or shows counts."""

    head_bytes = _KERNEL_BYTES

    def _is_work(self, frame: Frame) -> bool:
        return any(kind in frame.head for kind in _KERNEL_OUTPUT)


def output_observer(request: web.BaseRequest, recorder: BackgroundRecorder, uuid: SessionId) -> OutputObserver:
    """What sees the frames that the pod sends over the WebSocket that this request opens."""
    if is_editor(request):
        return EditorOutputObserver(recorder, uuid)
    is_kernel = _KERNEL in request.raw_path.partition("?")[0]
    return (KernelOutputObserver if is_kernel else OutputObserver)(recorder, uuid)


class Download:
    """Sees the body of one response."""

    def __init__(self, recorder: BackgroundRecorder, uuid: SessionId) -> None:
        self._recorder = recorder
        self._uuid = uuid
        self._begun = time.monotonic()
        self._meter = OutputMeter()

    def on_chunk(self, size: int) -> None:
        """The client has taken that many bytes more. Returns at once."""
        if time.monotonic() - self._begun > _LONG and self._meter.is_work(size):
            self._recorder.record(self._uuid)
