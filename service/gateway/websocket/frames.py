"""Reads WebSocket frames (RFC 6455) as they pass by, without delaying, buffering or changing them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE = 0x0, 0x1, 0x2, 0x8
FIN = 0x80
_MASKED = 0x80
_MAX_CONTROL_PAYLOAD = 125


@dataclass(slots=True)
class Frame:
    """`length`: bytes of the payload; `head`: its first bytes, unmasked, as many as the reader was told to keep."""

    opcode: int
    length: int
    head: bytes

    @property
    def is_data(self) -> bool:
        """Whether it carries application data; pings, pongs and closes do not."""
        return self.opcode < CLOSE


class FrameObserver:
    """Sees the frames of one direction. This one ignores them."""

    head_bytes = 0
    """How many bytes of each payload it wants to see."""

    def on_frame(self, frame: Frame) -> None:
        """A frame has passed. Returns at once."""


class FrameReader:
    """One direction of one connection. `keep`: how many bytes of each payload to keep."""

    def __init__(self, keep: int = 0) -> None:
        self._keep = keep
        self._header = bytearray()
        self._left = 0
        """Bytes of the payload still to come."""
        self._frame: Frame | None = None
        self._mask = b""
        self._head = bytearray()
        self.end = 0
        """Offset in the data being read at which the last complete frame ended."""

    @property
    def at_boundary(self) -> bool:
        """Whether the last byte read ended a frame. Only there can a frame be inserted."""
        return self._frame is None and not self._header

    def read(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that `data` completes, in order."""
        at, size = 0, len(data)
        while at < size:
            if self._frame is None:
                at = self._read_header(data, at)
            if self._frame is None:
                return
            taken = min(self._left, size - at)
            wanted = self._keep - len(self._head)
            if wanted > 0:
                self._head += data[at : at + min(taken, wanted)]
            at += taken
            self._left -= taken
            if not self._left:
                frame, self._frame = self._frame, None
                frame.head = unmask(bytes(self._head), self._mask)
                self._head.clear()
                self.end = at
                yield frame

    def _read_header(self, data: bytes, at: int) -> int:
        """Read header bytes from offset `at`; return the offset of what follows them."""
        header = self._header
        while at < len(data):
            missing = _header_size(header) - len(header)
            header += data[at : at + missing]
            at = min(len(data), at + missing)
            if len(header) == _header_size(header):
                self._left, self._mask = _parse_header(header)
                self._frame = Frame(header[0] & 0x0F, self._left, b"")
                header.clear()
                break
        return at


def _header_size(header: bytearray) -> int:
    """Size of the complete header in bytes, as far as the bytes at hand show."""
    if len(header) < 2:
        return 2
    extra = {126: 2, 127: 8}.get(header[1] & 0x7F, 0)
    return 2 + extra + (4 if header[1] & _MASKED else 0)


def _parse_header(header: bytearray) -> tuple[int, bytes]:
    """Length of the payload, and its mask (empty when it is not masked)."""
    length = header[1] & 0x7F
    if length == 126:
        (length,) = struct.unpack_from("!H", header, 2)
    elif length == 127:
        (length,) = struct.unpack_from("!Q", header, 2)
    return length, bytes(header[-4:]) if header[1] & _MASKED else b""


def unmask(data: bytes, mask: bytes) -> bytes:
    """Apply the mask; masking and unmasking are the same operation."""
    if not mask or not data:
        return data
    stream = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


def close_frame(code: int, reason: str) -> bytes:
    """A close as a server sends it, unmasked. A reason that is too long is cut."""
    payload = (struct.pack("!H", code) + reason.encode())[:_MAX_CONTROL_PAYLOAD]
    return bytes([FIN | CLOSE, len(payload)]) + payload
