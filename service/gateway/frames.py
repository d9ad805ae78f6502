"""Looks at WebSocket frames as they pass by, byte for byte, without holding them up or putting them together."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE = 0x0, 0x1, 0x2, 0x8


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
                yield frame

    def _read_header(self, data: bytes, at: int) -> int:
        """Take bytes of the header; where the payload begins, if all of the header is there."""
        header = self._header
        while at < len(data):
            missing = _size(header) - len(header)
            header += data[at : at + missing]
            at = min(len(data), at + missing)
            if len(header) == _size(header):
                self._open(bytes(header))
                header.clear()
                return at
        return at

    def _open(self, header: bytes) -> None:
        short = header[1] & 0x7F
        masked = header[1] & 0x80
        if short == 126:
            (self._left,) = struct.unpack_from("!H", header, 2)
        elif short == 127:
            (self._left,) = struct.unpack_from("!Q", header, 2)
        else:
            self._left = short
        self._mask = header[-4:] if masked else b""
        self._frame = Frame(header[0] & 0x0F, self._left, b"")


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


def close_frame(code: int, reason: str) -> bytes:
    """A server's close frame."""
    payload = struct.pack("!H", code) + reason.encode()[:123]
    return bytes([0x80 | CLOSE, len(payload)]) + payload
