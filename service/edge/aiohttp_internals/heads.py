"""Writes heads of requests and responses byte for byte: whatever bytes a header came with, it leaves with the same.

aiohttp reads headers as UTF-8, with every other byte (Latin-1 in a file name) as a surrogate, but drops those when it
writes. So heads that are not ASCII are written here.
"""

from collections.abc import Mapping

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from multidict import CIMultiDict

__all__ = ["ExactResponse", "HeadWriter", "StreamWriter"]


class HeadWriter(StreamWriter):
    """A StreamWriter that writes heads byte for byte."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        await super().write_headers(status_line, headers)
        _keep_bytes(self, status_line, headers)


class ExactResponse(web.StreamResponse):
    """A response with the headers that it is given and no others, written byte for byte."""

    def send_head_with_body(self, wanted: bool) -> None:
        """Send the head together with the first of the body, or else at once."""
        self._send_headers_immediately = not wanted

    def switch_protocols(self) -> None:
        """It announces a switch of protocols: what is written afterwards is not part of an HTTP body."""
        self._length_check = False

    def complete_headers(self, request: web.BaseRequest) -> None:
        """Override to change the headers just before they are written."""

    async def _write_headers(self) -> None:
        request, writer = self._req, self._payload_writer
        if request is None or writer is None:
            raise RuntimeError("the response is not prepared")
        version = request.version
        first, headers = f"HTTP/{version[0]}.{version[1]} {self.status} {self.reason}", self.headers
        await writer.write_headers(first, headers)
        _keep_bytes(writer, first, headers)
        if self._send_headers_immediately:
            writer.send_headers()

    async def _prepare_headers(self) -> None:
        added = [name for name in (hdrs.CONTENT_TYPE, hdrs.SERVER) if name not in self.headers]
        await super()._prepare_headers()
        for name in added:
            self.headers.popall(name, None)
        if self._req is not None:
            self.complete_headers(self._req)


async def send_continue(request: web.BaseRequest) -> None:
    """Send the interim response that tells the client to send its body."""
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # the response itself has not begun


def _keep_bytes(writer: AbstractStreamWriter, first: str, headers: Mapping[str, str]) -> None:
    """Replace the head that `writer` has checked and serialised, and not sent yet, by its true bytes."""
    if not first.isascii() or not all(map(str.isascii, headers.values())):
        writer._headers_buf = head_bytes(first, headers)  # type: ignore[attr-defined]  # noqa: SLF001


def head_bytes(first: str, headers: Mapping[str, str]) -> bytes:
    """The head with `first` as its first line. It has been checked: no control character ends a line early."""
    lines = [first, *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")
