"""Heads of requests and answers as bytes: whatever bytes a header came with, it leaves with the same.

aiohttp reads a header as UTF-8 and keeps every other byte (Latin-1 in a file name) as a surrogate, but leaves those out
when it writes. So heads that are not ASCII are written here. This is the one place that touches aiohttp's writer.
"""

from collections.abc import Mapping

from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict


class HeadWriter(StreamWriter):
    """A StreamWriter that writes heads byte for byte."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        await super().write_headers(status_line, headers)
        keep_bytes(self, status_line, headers)


def keep_bytes(writer: AbstractStreamWriter, first: str, headers: Mapping[str, str]) -> None:
    """Put the true bytes in place of those that `writer` has made of the same head, checked, and not sent yet."""
    if not first.isascii() or not all(map(str.isascii, headers.values())):
        writer._headers_buf = as_bytes(first, headers)  # type: ignore[attr-defined]  # noqa: SLF001


def as_bytes(first: str, headers: Mapping[str, str]) -> bytes:
    """The head with `first` as its first line. The caller has checked that no control byte ends a line early."""
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
