"""What the gateway needs of aiohttp's client beyond its public face, in one place.

- A target goes out byte for byte. yarl, which the client takes targets from, drops an empty query (`/x?`).
- Headers go out byte for byte (heads.py).
- An early answer is heard. A pod may answer (413, 401, a redirect) and close while the upload is still under way. The
  client then finds that it cannot write, and gives the request up without looking whether an answer is there.

tests/gateway/test_client.py fails when a new aiohttp behaves differently.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine
from functools import partial
from typing import Any, cast

from aiohttp import (
    ClientConnectionError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from multidict import CIMultiDict, istr
from yarl import URL

from service.gateway.heads import HeadWriter

_LEFT = 2**20
"""Bytes that are read at most from a connection that has broken."""
_AT_ONCE = 2**16


class _Pod(ResponseHandler):
    """The client's side of a connection to a pod."""

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None and self.transport is not None:
            self._read_rest(self.transport)
        super().connection_lost(exc)

    def _read_rest(self, transport: asyncio.Transport) -> None:
        """Take in what the pod said before the connection broke.

        An event loop that cannot write any more closes at once, also when an answer waits to be read: the pod that
        answers early and closes resets the connection, for there is more of the upload than it has read.
        """
        connection, taken = transport.get_extra_info("socket"), 0
        with contextlib.suppress(OSError):
            while taken < _LEFT and (data := os.read(connection.fileno(), _AT_ONCE)):
                taken += len(data)
                self.data_received(data)


class _Request(ClientRequest):
    target = "/"
    """What is asked for, as it stands."""

    async def send(self, conn: Connection) -> ClientResponse:
        """As in aiohttp, without what the gateway never uses, with `target` and a writer that keeps bytes."""
        protocol = conn.protocol
        if protocol is None:
            raise ClientConnectionError("the connection is closed")
        writer = HeadWriter(protocol, self.loop)
        if self.chunked is not None:
            writer.enable_chunking()
        await writer.write_headers(f"{self.method} {self.target} HTTP/1.1", self.headers)
        task: asyncio.Task[None] | None = None
        if self._body or protocol.writing_paused:
            task = asyncio.create_task(self.write_bytes(writer, conn, self._get_content_length()))
            self._writer = task
        else:
            writer.set_eof()
        return self.response_class(
            self.method,
            self.original_url,
            writer=task,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write the body; when the pod ends the connection meanwhile, `connection_lost` tells what came of it."""
        protocol = conn.protocol
        try:
            if self._body:
                await self._body.write_with_length(writer, content_length)
            await writer.write_eof()
        except Exception as error:  # noqa: BLE001 - whatever it is, the waiting request gets it
            if protocol is None or protocol.transport is None:
                return  # closed by ourselves, or lost: the request knows of it
            if protocol.transport.is_closing():
                protocol.force_close()
                return
            protocol.set_exception(ClientConnectionError(f"the body broke off: {error!r}"), error)
        except BaseException:
            conn.close()  # half of a request has been sent
            raise


class PodClient:
    """HTTP/1.1 to one origin, over connections that are kept for `idle` seconds. Headers are sent as given."""

    def __init__(self, origin: str, *, connect_timeout: float, idle: float, head_limit: int, read: int) -> None:
        """`head_limit`: bytes of one header; `read`: bytes of an answer that are read ahead."""
        connector = TCPConnector(limit=0, keepalive_timeout=idle, ttl_dns_cache=None)
        connector._factory = partial(_Pod, loop=asyncio.get_running_loop())  # type: ignore[assignment]  # noqa: SLF001
        self._origin = URL(origin)
        self._http = ClientSession(
            connector=connector,
            request_class=_Request,
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=None, sock_connect=connect_timeout),
            auto_decompress=False,
            trust_env=False,
            max_line_size=head_limit,
            max_field_size=head_limit,
            read_bufsize=read,
        )

    def request(
        self,
        method: str,
        target: str,
        headers: CIMultiDict[str],
        *,
        data: AsyncIterator[bytes] | None,
        skip: list[istr] | None,
    ) -> Coroutine[Any, Any, ClientResponse]:
        """`skip`: headers that the client must not add."""

        async def aimed(request: ClientRequest, send: Any) -> ClientResponse:
            cast("_Request", request).target = target
            return cast("ClientResponse", await send(request))

        return self._http.request(
            method,
            self._origin,
            headers=headers,
            data=data,
            skip_auto_headers=skip,
            allow_redirects=False,
            middlewares=(aimed,),
        )

    async def close(self) -> None:
        await self._http.close()
