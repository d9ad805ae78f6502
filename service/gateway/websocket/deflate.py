"""Compression of a WebSocket between browser and gateway (permessage-deflate, RFC 7692); the pod knows nothing of it.

Both sides forget after each message what they have compressed (`no_context_takeover`), so that a quiet connection costs
nothing more than one without compression. Neither aiohttp nor `websockets` can be used for it: they put whole messages
together, and whoever does that must bound them or run out of memory. Here everything goes on in pieces.
"""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from service.gateway.websocket.frames import BINARY, BREATH, CONTINUATION, FIN, PONG, Frame, Part, Parts, frame

COMPRESSED = 0x40
"""The reserved bit that the extension gives a meaning: on a message's first frame, all of it is compressed."""
_NAME = "permessage-deflate"
_WINDOW = 12
"""Bits of how far the compressor looks back: 4 KB, with which a message in the making takes 33 KB. A larger window made
the text of logs no smaller."""
_LEAST_WINDOW = 9
"""zlib knows no smaller one."""
_MEMORY = 5
_LEAST = 64
"""Bytes below which a message is not worth it."""
_PIECE = 2**16
"""Bytes after which a frame is cut: no more is ever held, however much is sent, or unpacked."""
_TAIL = b"\x00\x00\xff\xff"
"""Ends every compressed message, and is left away."""


class Violation(Exception):
    """One side does not keep to the protocol; the text is for the other side's eyes too."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What was agreed on: the header's value, and how far the compressor may look back."""

    text: str
    window: int = _WINDOW


def gathered(frames: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer and longer pieces, of one frame or several, but not of too many."""
    held, count = bytearray(), 0
    for each in frames:
        held += each
        count += 1
        if len(held) >= _PIECE or count >= BREATH:
            yield bytes(held)
            held.clear()
            count = 0
    if held:
        yield bytes(held)


def agreed(offers: Iterable[str]) -> Agreement | None:
    """The first of a browser's offers that can be kept; None: nothing is compressed."""
    for offer in ",".join(offers).split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name.lower() == _NAME and (agreement := _agreement(parameters)):
            return agreement
    return None


def _agreement(parameters: list[str]) -> Agreement | None:
    text, window, seen = f"{_NAME}; server_no_context_takeover; client_no_context_takeover", _WINDOW, set()
    for parameter in parameters:
        name, _, value = (part.strip().strip('"') for part in parameter.partition("="))
        if name in seen:
            return None
        seen.add(name)
        match name, value:
            case (("server_no_context_takeover" | "client_no_context_takeover" | "client_max_window_bits"), ""):
                pass
            case "client_max_window_bits", "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15":
                pass
            case "server_max_window_bits", "9" | "10" | "11" | "12" | "13" | "14" | "15":
                window = min(_WINDOW, int(value))
                text += f"; server_max_window_bits={window}"
            case _:
                return None
    return Agreement(text, window)


class Packer:
    """From the pod to the browser: messages are compressed, fragments stay fragments, long frames are cut into more."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._parts = Parts()
        self._rules = _Rules(masked=False, allowed=0)
        self._out = _Out(mask=lambda: b"")
        self._packer: zlib._Compress | None = None

    def carry(self, data: bytes) -> Iterator[bytes]:
        """Whole frames, made of those that `data` holds parts of."""
        for part in self._parts.read(data):
            if part.begins:
                self._rules.check(part)
            if part.is_control:
                yield from self._out.control(part)
                continue
            if part.begins and part.opcode != CONTINUATION:
                self._begin(part)
            yield from self._out.put(self._packer.compress(part.data) if self._packer else part.data)
            if part.ends:
                yield self._out.end(self._rest(part), final=part.is_final)

    def _begin(self, part: Part) -> None:
        self._packer = None
        if not part.is_final or part.length >= _LEAST:
            self._packer = zlib.compressobj(zlib.Z_BEST_SPEED, zlib.DEFLATED, -self._window, _MEMORY)
        self._out.begin(part.opcode, COMPRESSED if self._packer else 0)

    def _rest(self, part: Part) -> bytes:
        if not self._packer:
            return b""
        rest = self._packer.flush(zlib.Z_SYNC_FLUSH)
        if not part.is_final:
            return rest
        self._packer = None
        # There is nothing to flush at the end of a message whose last fragment is empty; a block must begin for the
        # tail all the same.
        return rest.removesuffix(_TAIL) if rest else b"\x00"


class Unpacker:
    """From the browser to the pod. `sent` is called with every frame, and gets `keep` bytes of its unpacked payload."""

    def __init__(self, keep: int, sent: Callable[[Frame], None]) -> None:
        self._keep = keep
        self._sent = sent
        self._parts = Parts()
        self._rules = _Rules(masked=True, allowed=COMPRESSED)
        self._out = _Out(mask=lambda: os.urandom(4))
        self._packed: _Packed | None = None
        self._seen = Frame(BINARY, 0, b"")

    def carry(self, data: bytes) -> Iterator[bytes]:
        """Whole frames, made of those that `data` holds parts of."""
        for part in self._parts.read(data):
            if part.begins:
                self._rules.check(part)
            if part.is_control:
                yield from self._out.control(part)
                if part.ends:
                    self._sent(Frame(part.opcode, part.length, b""))
                continue
            if part.begins:
                self._begin(part)
            for piece in self._unpacked(part):
                self._seen.length += len(piece)
                self._seen.head += piece[: max(0, self._keep - len(self._seen.head))]
                yield from self._out.put(piece)
            if part.ends:
                self._sent(self._seen)
                yield self._out.end(b"", final=part.is_final)

    def _begin(self, part: Part) -> None:
        self._seen = Frame(part.opcode, 0, b"")
        if part.opcode != CONTINUATION:
            self._packed = _Packed() if part.reserved else None
            self._out.begin(part.opcode, 0)

    def _unpacked(self, part: Part) -> Iterator[bytes]:
        if self._packed is None:
            yield part.data
            return
        try:
            yield from self._packed.pieces(part.data)
            if part.ends and part.is_final:
                yield from self._packed.pieces(_TAIL)
                self._packed = None
        except zlib.error:
            raise Violation("a message cannot be unpacked") from None


class _Packed:
    """A compressed message on its way, unpacked by no more than a piece at a time."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while not self._zlib.eof:
            piece = self._zlib.decompress(data, _PIECE)
            yield piece
            data = self._zlib.unconsumed_tail or self._zlib.unused_data
            if not data and len(piece) < _PIECE:
                return
        # A block that calls itself the last may be followed by the beginning of an empty one, and by nothing else.
        if data not in (b"", b"\x00", _TAIL):
            raise Violation("a compressed message goes on after its end")


class _Rules:
    """Refuses frames that may not be there. `allowed`: the reserved bit that a message may begin with."""

    def __init__(self, *, masked: bool, allowed: int) -> None:
        self._masked = masked
        self._allowed = allowed
        self._within = False
        """In a message that goes on after its last frame."""

    def check(self, part: Part) -> None:
        starts = not part.is_control and part.opcode != CONTINUATION
        if part.is_masked != self._masked:
            raise Violation("a frame is masked that must not be, or is not and must")
        if part.reserved not in ((0, self._allowed) if starts else (0,)):
            raise Violation("a reserved bit is set")
        if part.is_control:
            if part.length > 125 or not part.is_final or part.opcode > PONG:
                raise Violation("a control frame that cannot be")
            return
        if part.opcode > BINARY or starts == self._within:
            raise Violation("a frame that belongs to no message")
        self._within = not part.is_final


class _Out:
    """Frames as they are put together, cut before they get long."""

    def __init__(self, mask: Callable[[], bytes]) -> None:
        self._mask = mask
        self._first = CONTINUATION
        self._payload = bytearray()
        self._control = bytearray()

    def begin(self, opcode: int, bits: int) -> None:
        """A message; each of its frames is ended by `end`."""
        self._first = opcode | bits

    def put(self, data: bytes) -> Iterator[bytes]:
        self._payload += data
        if len(self._payload) >= _PIECE:
            yield self._cut(0)

    def end(self, data: bytes, *, final: bool) -> bytes:
        self._payload += data
        return self._cut(FIN if final else 0)

    def control(self, part: Part) -> Iterator[bytes]:
        """Control frames go between those of a message, as they are."""
        self._control += part.data
        if part.ends:
            yield frame(part.first, bytes(self._control), self._mask())
            self._control.clear()

    def _cut(self, fin: int) -> bytes:
        cut = frame(fin | self._first, bytes(self._payload), self._mask())
        self._first = CONTINUATION
        self._payload.clear()
        return cut
