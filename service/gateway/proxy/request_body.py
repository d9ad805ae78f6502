"""The body of a request, streamed to the pod."""

import asyncio
from collections.abc import AsyncIterator, Callable

from aiohttp import hdrs, web

from service.edge.aiohttp_internals.heads import send_continue
from service.gateway.errors import GatewayError


class Stalled(Exception):
    """A body has stopped arriving."""


class RequestBody:
    """Read once, starting when the pod wants it.

    Raises Stalled when nothing comes for `stall_timeout` seconds while the pod waits, and web.RequestPayloadError when
    chunks are malformed. `on_chunk` is called with every piece that comes.
    """

    def __init__(self, request: web.BaseRequest, stall_timeout: float, on_chunk: Callable[[], None] | None) -> None:
        self._request = request
        self._stall_timeout = stall_timeout
        self._on_chunk = on_chunk
        self.started = False
        self.stalled = False
        self.malformed = False

    def raise_for_client(self) -> None:
        """Raises GatewayError if the client failed to send the whole body."""
        if self.stalled:
            raise GatewayError(408, "Too slow", "The request body stopped arriving.")
        if self.malformed:
            raise GatewayError(400, "Bad request", "The body of the request is malformed.")

    async def stream(self) -> AsyncIterator[bytes]:
        self.started = True
        if self._request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await send_continue(self._request)
        while chunk := await self._read():
            if self._on_chunk is not None:
                self._on_chunk()
            yield chunk

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self._stall_timeout):
                return await self._request.content.readany()
        except TimeoutError:
            self.stalled = True
            raise Stalled from None
        except web.RequestPayloadError:
            self.malformed = True
            raise
