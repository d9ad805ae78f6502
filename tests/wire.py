"""Bytes to a port and back, for requests that no HTTP client would make."""

import asyncio
import json
import logging
import struct
import traceback
from dataclasses import dataclass
from typing import Any


def frame(first: int, payload: bytes, mask: bytes = b"") -> bytes:
    """A WebSocket frame whose header begins with the byte `first`. A client must mask, with four bytes."""
    size, bit = len(payload), 0x80 if mask else 0
    if size < 126:
        header = struct.pack("!BB", first, bit | size)
    elif size < 2**16:
        header = struct.pack("!BBH", first, bit | 126, size)
    else:
        header = struct.pack("!BBQ", first, bit | 127, size)
    return header + mask + (bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"].partition(";")[0] == "application/problem+json", self
        return dict(json.loads(self.body))


async def said(port: int, *pieces: bytes, seconds: float = 5) -> bytes:
    """Everything that the port answers to these bytes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    got = b""
    try:
        async with asyncio.timeout(seconds):
            try:
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.01)  # so that they arrive one by one
                while more := await reader.read(2**16):
                    got += more
            except ConnectionError:
                got += await _rest(reader)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)
    return got


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """What had come before the connection was reset."""
    return bytes(getattr(reader, "_buffer", b""))


async def asked(port: int, *pieces: bytes, seconds: float = 5) -> Answer:
    """The one answer to these bytes, after which the port closes the connection."""
    answer, rest = split(await said(port, *pieces, seconds=seconds))
    assert not rest, rest
    return answer


def split(got: bytes) -> tuple[Answer, bytes]:
    """The first answer, and what comes after it."""
    head, found, rest = got.partition(b"\r\n\r\n")
    assert found, got
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    length = int(headers.get("content-length", 0))
    return Answer(int(line.split(" ")[1]), headers, rest[:length]), rest[length:]


def logged(records: list[logging.LogRecord]) -> str:
    """All that a log could show of these records: texts, values beside them, tracebacks."""
    return "\n".join(
        f"{record.getMessage()} {record.__dict__!r}"
        + ("".join(traceback.format_exception(record.exc_info[1])) if record.exc_info else "")
        for record in records
    )
