"""The proxies that fault trials put between the service and its dependencies."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from devcluster.certificates import Authority
from faults.proxy import NONSENSE, NonsenseServer, TcpProxy


@asynccontextmanager
async def echo(prefix: bytes) -> AsyncIterator[int]:
    """A server that says each line again, after `prefix`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(prefix + line)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


class Line:
    """A connection that sends a line and reads the answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    @asynccontextmanager
    async def to(cls, port: int) -> AsyncIterator["Line"]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield cls(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def says(self, text: bytes, seconds: float = 5) -> bytes | None:
        """The answer; empty when the connection has ended, None when none comes."""
        self._writer.write(text + b"\n")
        try:
            return (await asyncio.wait_for(self._reader.readline(), seconds)).rstrip()
        except TimeoutError:
            return None
        except ConnectionError:
            return b""


async def test_a_proxy_forwards_in_both_directions() -> None:
    async with echo(b"1 ") as port, TcpProxy.to(port) as proxy, Line.to(proxy.port) as line:
        assert await line.says(b"hello") == b"1 hello"


async def test_a_half_open_proxy_forwards_nothing_and_new_connections_work() -> None:
    async with echo(b"1 ") as port, TcpProxy.to(port) as proxy, Line.to(proxy.port) as old:
        assert await old.says(b"hello") == b"1 hello"
        proxy.half_open()
        assert await old.says(b"hello", 0.2) is None
        async with Line.to(proxy.port) as new:
            assert await new.says(b"hello") == b"1 hello"


async def test_a_redirected_proxy_resets_open_connections() -> None:
    async with echo(b"1 ") as first, echo(b"2 ") as second, TcpProxy.to(first) as proxy, Line.to(proxy.port) as old:
        assert await old.says(b"hello") == b"1 hello"
        proxy.redirect(second)
        assert await old.says(b"hello") == b""
        async with Line.to(proxy.port) as new:
            assert await new.says(b"hello") == b"2 hello"


async def test_a_proxy_without_a_target_closes_new_connections() -> None:
    async with echo(b"1 ") as port:
        pass
    async with TcpProxy.to(port) as proxy, Line.to(proxy.port) as line:
        assert await line.says(b"hello") == b""


async def test_the_nonsense_server_speaks_tls_as_the_cluster_does_and_answers_anything(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server", user="server", hosts=["127.0.0.1"])
    context = ssl.create_default_context(cafile=str(authority.certificate))
    async with NonsenseServer.serving(certificate, key) as nonsense, aiohttp.ClientSession() as http:
        said = set()
        for _ in NONSENSE:
            url = f"https://127.0.0.1:{nonsense.port}/apis/apps/v1/deployments"
            async with http.post(url, data=b"x" * 1000, ssl=context) as answer:
                assert answer.status == 200
                said.add((answer.content_type, await answer.read()))
        assert said == set(NONSENSE)
        assert nonsense.requests == len(NONSENSE)
    await asyncio.sleep(0)
