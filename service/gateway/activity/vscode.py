"""Whether somebody is at a VS Code, told by what its page says to its server over a WebSocket.

An editor that nobody touches says a lot: it keeps logs, looks after files that a build changes, answers extensions. So
only what is never said without a user counts. Most of it is one thing that the editor tells by itself: whether there
were keys or clicks within the last minute.

The protocols are those of microsoft/vscode: on one connection the page calls commands of channels
(src/vs/base/parts/ipc/common: ipc.net.ts, ipc.ts), on the other methods of the extension host
(src/vs/workbench/services/extensions/common/rpcProtocol.ts).
"""

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
_REQUESTS = range(1, 5)
_REQUEST = struct.Struct("!BIBB")
"""Kind, number, actor, length of the method's name."""
_METHOD = "$"
_WINDOW = "$onDidChangeWindowActive"
_DOINGS = frozenset(
    {
        "remoteterminal.$input",
        "remoteterminal.$createProcess",
        "remoteFilesystem.write",  # a part of an upload
        "$acceptEditorPropertiesChanged",  # cursor, selection, scrolling
        "$acceptTerminalInteraction",
        "$onMessage",  # from a page within the editor
        "$onWillRunFileOperation",
    }
)
"""Calls that come of a user's doing."""
_TRUSTED = 900.0
"""Seconds that somebody counts as being there without any other sign: the word that they left may have been missed."""


class Call(NamedTuple):
    """A command of a channel, `remoteterminal.$input`, or a method of the extension host, and what it is given."""

    name: str
    given: bytes


class Editor:
    """One WebSocket of an editor. `resumed`: it goes on with a connection that was lost."""

    def __init__(self, *, resumed: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._there_until = float("-inf")
        self._new = not resumed
        """It has just been opened, by somebody, of whom the page will tell only that they left."""

    def shows_somebody(self, head: bytes) -> bool:
        """Whether somebody is there, as far as this frame's beginning and those before it tell."""
        acts = False
        for name, given in calls(head):
            if name == _WINDOW:
                self._note_presence(b"true" in given)
            elif self._new and name.startswith(_METHOD):
                self._note_presence(True)
            acts |= name in _DOINGS
        there = self._there_until > self._clock()
        if there and acts:
            self._note_presence(True)
        return there or acts

    def _note_presence(self, there: bool) -> None:
        self._new = False
        self._there_until = self._clock() + _TRUSTED if there else float("-inf")


def calls(head: bytes) -> Iterator[Call]:
    """What the page asks for in a frame; the last may be cut off. Answers and the protocol's upkeep are none."""
    at = 0
    while at + _MESSAGE.size <= len(head):
        kind, _, _, length = _MESSAGE.unpack_from(head, at)
        at += _MESSAGE.size
        call = _call(head[at : at + length]) if kind == _REGULAR else None
        if call is not None:
            yield call
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
        pass  # cut off, or something else
    return None


def _command(body: bytes) -> Call | None:
    """Of `[what, number, channel, command]`, each with its type before it."""
    what, at = _number(body, 3)
    if what != _COMMAND or body[at] != _INTEGER:
        return None
    _, at = _number(body, at + 1)
    channel, at = _text(body, at)
    command, at = _text(body, at)
    return Call(f"{channel}.{command}", body[at : at + 64])


def _text(body: bytes, at: int) -> tuple[str, int]:
    if body[at] != _STRING:
        raise ValueError("no text")
    length, at = _number(body, at + 1)
    return body[at : at + length].decode(), at + length


def _number(body: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; and where what follows begins."""
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
