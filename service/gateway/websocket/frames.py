"""Looks at WebSocket frames as they pass by, byte for byte, without holding them up or putting them together."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

CONTINUATION, TEXT, BINARY, CLOSE, PONG = 0x0, 0x1, 0x2, 0x8, 0xA
FIN = 0x80
BREATH = 128
"""So many frames are looked at in one go, within a millisecond: a flood of tiny ones shall hold up nobody else."""


@dataclass(slots=True)
class Frame:
    """`head`: the beginning of the payload, unmasked, as far as it was asked for."""

    opcode: int
    length: int
    head: bytes

    @property
    def is_data(self) -> bool:
        """Whether it carries something of the application's, and is no ping, pong or close."""
        return self.opcode < CLOSE


class Frames:
    """One direction of one connection. `keep`: so many bytes of every payload are wanted."""

    def __init__(self, keep: int = 0) -> None:
        self._keep = keep
        self._header = bytearray()
        self._left = 0
        """Bytes of the payload still to come."""
        self._frame: Frame | None = None
        self._mask = b""
        self._head = bytearray()
        self.at = 0
        """Where in the data the frame ended that was seen last."""

    @property
    def between(self) -> bool:
        """Whether the last byte seen was the last of a frame: only there may a frame be put in."""
        return self._frame is None and not self._header

    def seen(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` ends, in their order."""
        at, size = 0, len(data)
        while at < size:
            if self._frame is None:
                at = self._read_header(data, at)
            if self._frame is None:
                return
            took = min(self._left, size - at)
            wanted = self._keep - len(self._head)
            if wanted > 0:
                self._head += data[at : at + min(took, wanted)]
            at += took
            self._left -= took
            if not self._left:
                frame, self._frame = self._frame, None
                frame.head = _unmasked(bytes(self._head), self._mask)
                self._head.clear()
                self.at = at
                yield frame

    def _read_header(self, data: bytes, at: int) -> int:
        """Take bytes of the header; where the payload begins, if all of the header is there."""
        at, header = _taken(self._header, data, at)
        if header:
            self._left, self._mask = _told(header)
            self._frame = Frame(header[0] & 0x0F, self._left, b"")
        return at


@dataclass(slots=True)
class Part:
    """Some of a frame's payload, unmasked: all frames come as one part or several, empty ones too."""

    first: int
    """The header's first byte."""
    length: int
    """Of the whole frame."""
    is_masked: bool
    data: bytes
    begins: bool
    ends: bool

    @property
    def is_final(self) -> bool:
        """Whether its frame is the last, or only, one of its message."""
        return bool(self.first & FIN)

    @property
    def reserved(self) -> int:
        """The bits that mean nothing unless an extension gives them a meaning."""
        return self.first & 0x70

    @property
    def opcode(self) -> int:
        return self.first & 0x0F

    @property
    def is_control(self) -> bool:
        return self.opcode >= CLOSE


class Parts:
    """One direction of one connection, taken apart as it comes, so that no frame is too long."""

    def __init__(self) -> None:
        self._header = bytearray()
        self._part: Part | None = None
        """The last one, of a frame that has not ended."""
        self._left = 0
        self._mask = b""

    def read(self, data: bytes) -> Iterator[Part]:
        at, size = 0, len(data)
        while at < size:
            begins = self._part is None
            if self._part is None:
                at, header = _taken(self._header, data, at)
                if not header:
                    return
                self._left, self._mask = _told(header)
                self._part = Part(header[0], self._left, bool(self._mask), b"", begins=True, ends=False)
            took = min(self._left, size - at)
            self._left -= took
            part = replace(self._part, data=_unmasked(data[at : at + took], self._mask), begins=begins)
            part.ends = not self._left
            self._part = None if part.ends else part
            turn = took % 4
            self._mask = self._mask[turn:] + self._mask[:turn]
            at += took
            yield part


def _taken(header: bytearray, data: bytes, at: int) -> tuple[int, bytes]:
    """Move bytes from `data` to `header`; where the payload begins, and the header once all of it is there."""
    while at < len(data):
        missing = _size(header) - len(header)
        header += data[at : at + missing]
        at = min(len(data), at + missing)
        if len(header) == _size(header):
            whole = bytes(header)
            header.clear()
            return at, whole
    return at, b""


def _told(header: bytes) -> tuple[int, bytes]:
    """Length of the payload, and its mask or nothing."""
    short = header[1] & 0x7F
    length = short
    if short == 126:
        (length,) = struct.unpack_from("!H", header, 2)
    elif short == 127:
        (length,) = struct.unpack_from("!Q", header, 2)
    return length, header[-4:] if header[1] & 0x80 else b""


def _size(header: bytearray) -> int:
    """How long the header is, as far as its bytes so far tell."""
    if len(header) < 2:
        return 2
    extra = {126: 2, 127: 8}.get(header[1] & 0x7F, 0)
    return 2 + extra + (4 if header[1] & 0x80 else 0)


def _unmasked(data: bytes, mask: bytes) -> bytes:
    if not mask or not data:
        return data
    stream = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


def frame(first: int, payload: bytes, mask: bytes = b"") -> bytes:
    """The frame whose header begins with the byte `first`. A client has to give a mask of four bytes."""
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        header = struct.pack("!BB", first, bit | size)
    elif size < 2**16:
        header = struct.pack("!BBH", first, bit | 126, size)
    else:
        header = struct.pack("!BBQ", first, bit | 127, size)
    return header + mask + _unmasked(payload, mask)


def close_frame(code: int, reason: str, mask: bytes = b"") -> bytes:
    return frame(FIN | CLOSE, struct.pack("!H", code) + reason.encode()[:123], mask)
