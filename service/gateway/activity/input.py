"""Records a user's input on a WebSocket."""

from aiohttp import web

from service.domain.metrics import ActivitySource
from service.domain.names import SessionId
from service.gateway.activity.measured import browser_of
from service.gateway.activity.presence import CompanionPresence
from service.gateway.activity.recorder import ActivityRecorder
from service.gateway.activity.rules import editor_of, is_input, is_upload
from service.gateway.activity.vscode import INSPECTED_BYTES
from service.gateway.websocket.frames import Frame, FrameObserver


class InputRecorder(FrameObserver):
    """Sees what a browser or program sends over the WebSocket that `request` opens."""

    def __init__(
        self, request: web.BaseRequest, uuid: SessionId, activity: ActivityRecorder, presence: CompanionPresence
    ) -> None:
        self._uuid = uuid
        self._activity = activity
        self._presence = presence
        self._editor = editor_of(request)
        self._browser = browser_of(request)
        self.head_bytes = INSPECTED_BYTES if self._editor is not None else 0

    def on_frame(self, frame: Frame) -> None:
        if self._browser is None:
            if is_input(frame, self._editor):
                self._activity.record(self._uuid, ActivitySource.INPUT)
        elif is_upload(frame, self._editor):
            self._activity.record(self._uuid, ActivitySource.INPUT)
        elif not self._presence.is_here(self._uuid, self._browser) and is_input(frame, self._editor):
            self._presence.record(self._uuid, self._browser, ActivitySource.INPUT)
