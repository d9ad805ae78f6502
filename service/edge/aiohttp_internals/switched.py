"""Takes over a connection that has switched protocols, so that its bytes are no longer parsed as HTTP."""

import asyncio

from aiohttp import StreamReader, web
from aiohttp.connector import Connection

from service.edge.aiohttp_internals.heads import StreamWriter


class _Feed:
    """Takes the place of the HTTP parser."""

    def __init__(self, reader: StreamReader) -> None:
        self._reader = reader

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self._reader.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self._reader.feed_eof()


def client_streams(request: web.BaseRequest, read_ahead: int) -> tuple[StreamReader, StreamWriter]:
    """The client's connection, after a response that switches protocols. `read_ahead` is in bytes."""
    loop, protocol = asyncio.get_running_loop(), request.protocol
    reader = StreamReader(protocol, read_ahead, loop=loop)
    protocol.set_parser(_Feed(reader))  # type: ignore[arg-type]  # it only calls these two methods
    return reader, StreamWriter(protocol, loop)


def server_streams(connection: Connection, read_ahead: int) -> tuple[StreamReader, StreamWriter] | None:
    """The connection of a ClientResponse with status 101; None when it is closed already."""
    loop, protocol = asyncio.get_running_loop(), connection.protocol
    if protocol is None:
        return None
    reader = StreamReader(protocol, read_ahead, loop=loop)
    protocol.set_parser(_Feed(reader), reader)
    return reader, StreamWriter(protocol, loop)
