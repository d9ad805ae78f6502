"""Decodes and encodes a compressed body while it streams."""

import zlib

_GZIP, _ZLIB, _RAW = 31, 15, -15
"""What zlib calls the formats."""
_FORMATS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
CODINGS = frozenset(_FORMATS)
_PIECE = 64 * 1024
"""Bytes that are decoded at once."""
_LEVEL = 1
"""Level 6 takes three times as long, and saves a tenth."""


class Malformed(Exception):
    """The body is not what its coding says."""


class Recoder:
    """One body in one of CODINGS, on its way through."""

    def __init__(self, coding: str) -> None:
        self._format = _FORMATS[coding]
        self._unread = b""
        self._decoder = zlib.decompressobj(self._format)
        self._is_new = True
        self._encoder = zlib.compressobj(_LEVEL, wbits=self._format)
        self._is_flushed = True

    @property
    def is_over(self) -> bool:
        """Whether the body has come to its own end. What follows is ignored, as browsers do."""
        return self._decoder.eof

    def feed(self, data: bytes) -> None:
        """More of the body has come."""
        if not self.is_over:
            self._unread += data

    def read(self) -> bytes:
        """Decode some of what has come; nothing if more must come first, or at the end. Raises Malformed."""
        if self.is_over:
            return b""  # zlib would keep whatever follows
        if self._is_new and self._format == _ZLIB and not self._choose_format():
            return b""
        self._is_new = False
        try:
            piece = self._decoder.decompress(self._unread, _PIECE)
        except zlib.error as error:
            raise Malformed(str(error)) from error
        self._unread = self._decoder.unconsumed_tail
        return piece

    def encode(self, data: bytes) -> bytes:
        """May return nothing yet."""
        self._is_flushed = False
        return self._encoder.compress(data)

    def flush(self) -> bytes:
        """What a browser needs beside what has been returned to decode all that has been encoded."""
        if self._is_flushed:
            return b""
        self._is_flushed = True
        return self._encoder.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """The end of the body. If the pod's had no proper end, neither has ours."""
        return self._encoder.flush(zlib.Z_FINISH) if self._decoder.eof else self.flush()

    def _choose_format(self) -> bool:
        """Some servers leave out the two bytes that zlib begins with. Whether both have come."""
        if len(self._unread) < 2:
            return False
        first, second = self._unread[:2]
        if first & 15 != 8 or (first << 8 | second) % 31:
            self._decoder = zlib.decompressobj(_RAW)
        return True
