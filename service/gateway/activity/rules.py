"""What counts as activity of a user; docs/explanation/idleness.md explains the rules.

A page's companion reports input itself (`measured.py`). These rules are for browsers without one, and for programs.
Other traffic does not keep a pod awake: data from the pod, pings, an editor's own messages to its server. So neither an
unattended build nor a forgotten tab does.
"""

from enum import StrEnum

from aiohttp.web import BaseRequest
from multidict import istr

from service.gateway.activity.vscode import Editor, uploads
from service.gateway.websocket.frames import BINARY, TEXT, Frame

_EDITOR = "reconnectionToken"
"""In the query of VS Code's WebSockets."""
_RECONNECTS = "reconnection=true"
_SEC_PURPOSE, _PURPOSE = istr("Sec-Purpose"), istr("Purpose")
_SERVICE_WORKER, _LAST_EVENT_ID = istr("Service-Worker"), istr("Last-Event-ID")
_POLLED = frozenset({"/healthz", "/update/check", "/favicon.ico", "/manifest.json", "/robots.txt"})
"""Paths that browsers and editors request without their user."""


class ActivityMode(StrEnum):
    INPUT = "input"
    """What the user does: requests, and what a page sends over its WebSockets."""
    CONNECTION = "connection"
    """An open WebSocket too, for a time."""


def is_prefetch(request: BaseRequest) -> bool:
    """Whether a browser loads a page that its user has not asked for yet."""
    return "prefetch" in request.headers.get(_SEC_PURPOSE, request.headers.get(_PURPOSE, ""))


def is_background(request: BaseRequest) -> bool:
    """Whether the request comes without its user: such a request neither wakes a pod nor keeps it awake."""
    if is_prefetch(request):
        return True
    if _SERVICE_WORKER in request.headers:
        return True  # the browser checks for a new one
    if _LAST_EVENT_ID in request.headers:
        return True  # an event stream that reconnects
    path, _, query = request.raw_path.partition("?")
    return path in _POLLED or _RECONNECTS in query


def editor_of(request: BaseRequest) -> Editor | None:
    """The VS Code that opens this WebSocket; None for any other program."""
    query = request.raw_path.partition("?")[2]
    return Editor(resumed=_RECONNECTS in query) if _EDITOR in query else None


def is_editor(request: BaseRequest) -> bool:
    """Whether a VS Code opens this WebSocket."""
    return editor_of(request) is not None


def is_input(frame: Frame, editor: Editor | None) -> bool:
    """Whether a browser's frame shows that its user is there."""
    if not frame.is_data or frame.length == 0:
        return False
    if editor is None or frame.opcode == TEXT:
        return True
    # Continuations of a long message show nothing: its first frame has already been inspected.
    return frame.opcode == BINARY and editor.shows_somebody(frame.head)


def is_upload(frame: Frame, editor: Editor | None) -> bool:
    """Whether it is a part of an upload."""
    return editor is not None and frame.opcode == BINARY and uploads(frame.head)
