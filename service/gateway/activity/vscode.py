"""Recognises by the messages of a VS Code whether its user is there.

An editor that nobody uses sends a lot: logs, requests for files that a build changes, replies to extensions. So only
messages count that are never sent without a user. The most useful one is sent by the editor itself: whether there were
keys or clicks within the last minute.

The protocols are those of microsoft/vscode: on one connection the page calls commands of channels
(src/vs/base/parts/ipc/common: ipc.net.ts, ipc.ts), on the other methods of the extension host
(src/vs/workbench/services/extensions/common/rpcProtocol.ts).
"""

import re
import struct
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

INSPECTED_BYTES = 16 * 1024
"""Bytes of each frame that are inspected. The editor puts several messages into one frame."""
_MESSAGE = struct.Struct("!BIII")
"""Kind, number, number acknowledged, length of what follows."""
_REGULAR = 1
_STRING, _ARRAY, _INTEGER = 1, 4, 6
_COMMAND = 100
_EVENT = b"\x04\x02\x06\xcc\x01\x06"
"""The beginning of an event that the server fires: `[204, number of the subscription]`."""
_PRINTED = re.compile(rb'.{2,8}?\{"id":\d{1,9},"event":(?:"|\{"data":")', re.DOTALL)
"""What follows when the event is that a terminal prints: number, type, length, and the terminal's id and text."""
_REQUESTS = range(1, 5)
_REQUEST = struct.Struct("!BIBB")
"""Kind, number, actor, length of the method's name."""
_METHOD = "$"
_WINDOW = "$onDidChangeWindowActive"
_UPLOAD = "remoteFilesystem.write"
"""A part of an upload."""
_USER_CALLS = frozenset(
    {
        "remoteterminal.$input",
        "remoteterminal.$createProcess",
        _UPLOAD,
        "$acceptEditorPropertiesChanged",  # cursor, selection, scrolling
        "$acceptTerminalInteraction",
        "$onMessage",  # from a page within the editor
        "$onWillRunFileOperation",
    }
)
"""Calls that only a user causes."""
_PRESENCE_SECONDS = 900.0
"""For how long a user counts as present without any other sign: the message that they left may have been missed."""


class Call(NamedTuple):
    """A command of a channel, such as `remoteterminal.$input`, or a method of the extension host, and its arguments."""

    name: str
    arguments: bytes


class Editor:
    """One WebSocket of an editor. `resumed`: it continues a connection that was lost."""

    def __init__(self, *, resumed: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._present_until = float("-inf")
        self._new = not resumed
        """A user has just opened it. The page only reports when they leave."""

    def shows_somebody(self, head: bytes) -> bool:
        """Whether a user is present, judging by the beginnings of this frame and earlier ones."""
        acted = False
        for name, arguments in calls(head):
            if name == _WINDOW:
                self._note_presence(b"true" in arguments)
            elif self._new and name.startswith(_METHOD):
                self._note_presence(True)
            acted |= name in _USER_CALLS
        present = self._present_until > self._clock()
        if present and acted:
            self._note_presence(True)
        return present or acted

    def _note_presence(self, present: bool) -> None:
        self._new = False
        self._present_until = self._clock() + _PRESENCE_SECONDS if present else float("-inf")


def calls(head: bytes) -> Iterator[Call]:
    """The calls in a frame, the last of which may be cut off. Replies and control messages are not calls."""
    for body in _bodies(head):
        call = _call(body)
        if call is not None:
            yield call


def uploads(head: bytes) -> bool:
    """Whether a frame contains a part of an upload, judging by the frame's beginning."""
    return any(name == _UPLOAD for name, _ in calls(head))


def prints(head: bytes) -> bool:
    """Whether a frame from an editor's server contains what a terminal prints, judging by the frame's beginning.

    An editor that nobody uses gets keepalives, acknowledgements, replies and calls of its extension host all the time.
    """
    return any(body.startswith(_EVENT) and _PRINTED.match(body, len(_EVENT)) for body in _bodies(head))


def _bodies(head: bytes) -> Iterator[bytes]:
    """The regular messages in a frame."""
    at = 0
    while at + _MESSAGE.size <= len(head):
        kind, _, _, length = _MESSAGE.unpack_from(head, at)
        at += _MESSAGE.size
        if kind == _REGULAR:
            yield head[at : at + length]
        at += length


def _call(body: bytes) -> Call | None:
    try:
        if body[0] == _ARRAY and body[1] == 4 and body[2] == _INTEGER:
            return _command(body)
        if body[0] in _REQUESTS:
            _, _, _, length = _REQUEST.unpack_from(body)
            end = _REQUEST.size + length
            method = body[_REQUEST.size : end].decode("ascii")
            return Call(method, body[end : end + 64]) if method.startswith(_METHOD) else None
    except (IndexError, ValueError, struct.error):
        pass  # cut off, or not a call
    return None


def _command(body: bytes) -> Call | None:
    """Parse `[kind, number, channel, command]`, each preceded by its type."""
    kind, at = _number(body, 3)
    if kind != _COMMAND or body[at] != _INTEGER:
        return None
    _, at = _number(body, at + 1)
    channel, at = _text(body, at)
    command, at = _text(body, at)
    return Call(f"{channel}.{command}", body[at : at + 64])


def _text(body: bytes, at: int) -> tuple[str, int]:
    if body[at] != _STRING:
        raise ValueError("not a string")
    length, at = _number(body, at + 1)
    return body[at : at + length].decode(), at + length


def _number(body: bytes, at: int) -> tuple[int, int]:
    """A number (seven bits per byte, the lowest first), and the offset of what follows."""
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
