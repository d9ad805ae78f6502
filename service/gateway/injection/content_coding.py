"""Decodes and encodes a compressed body while it streams."""

import importlib
import zlib
from typing import Any, Protocol


def _library() -> Any:
    """ISA-L, which takes a third of the time; zlib on machines that it is not made for."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib


_GZIP, _ZLIB, _RAW = 31, 15, -15
"""What zlib calls the formats."""
_GZIP_BEGINS = (0x1F, 0x8B)
_FORMATS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
CODINGS = frozenset(_FORMATS)
_PIECE = 64 * 1024
"""Bytes that are decoded at once."""
_LEVEL = 1
"""Level 6 takes three times as long, and saves a tenth."""
_ZLIB_LIKE = _library()


class _Decoder(Protocol):
    eof: bool
    unconsumed_tail: bytes

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Encoder(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int, /) -> bytes: ...


class Malformed(Exception):
    """The body is not what its coding says."""


class Recoder:
    """One body in one of CODINGS, on its way through."""

    def __init__(self, coding: str) -> None:
        self._format = _FORMATS[coding]
        self._unread = b""
        self._decoder: _Decoder = _ZLIB_LIKE.decompressobj(self._format)
        self._is_new = True
        self._encoder: _Encoder = _ZLIB_LIKE.compressobj(_LEVEL, wbits=self._format)
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
        if self._is_new and not self._choose_format():
            return b""
        self._is_new = False
        try:
            piece = self._decoder.decompress(self._unread, _PIECE)
        except (_ZLIB_LIKE.error, zlib.error) as error:
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
        """Some servers leave out the two bytes that zlib begins with. Whether both have come. Raises Malformed."""
        if len(self._unread) < 2:
            return False
        first, second = self._unread[:2]
        if self._format == _GZIP:
            if (first, second) != _GZIP_BEGINS:
                raise Malformed("it does not begin as gzip does")  # ISA-L would wait for ten bytes
        elif first & 15 != 8 or (first << 8 | second) % 31:
            self._decoder = _ZLIB_LIKE.decompressobj(_RAW)
        return True
