"""The WebSockets that are open: bounds them by session, and closes them when the process ends or access ends."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from service.domain.counting import counted
from service.domain.metrics import RequestOutcome
from service.domain.names import SessionId
from service.gateway.errors import GatewayError, PageKind

Closing = asyncio.Future[tuple[int, str]]
"""Done when a WebSocket has to close; the close code, and the reason."""
RESTART = (1012, "the gateway restarts; connect again")
ACCESS_ENDED = (1008, "access to this workspace has ended")


class OpenWebSockets:
    """`limit`: how many one session may have."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_session: Counter[SessionId] = Counter()
        self._closing: dict[int, Closing] = {}
        """One of each that is open, by the identity of its handshake."""
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._closing)

    @contextmanager
    def place(self, uuid: SessionId) -> Iterator[None]:
        """Count one more of the session. Raises GatewayError when it has too many."""
        if self._by_session[uuid] >= self._limit:
            detail = "This workspace has reached its limit of open WebSockets. Close some of its tabs."
            raise GatewayError(
                429, "Too many requests", detail, retry_after=2, outcome=RequestOutcome.BUSY, page=PageKind.BUSY
            )
        with counted(self._by_session, uuid):
            yield

    @contextmanager
    def opened(self, handshake: web.BaseRequest) -> Iterator["Closing"]:
        """A future for one WebSocket; when it is done, the WebSocket has to close, with that code and reason."""
        closing: Closing = asyncio.get_running_loop().create_future()
        if self._is_closed:
            closing.set_result(RESTART)
        self._closing[id(handshake)] = closing
        try:
            yield closing
        finally:
            del self._closing[id(handshake)]

    def end(self, request: web.BaseRequest) -> None:
        """End the request at once, because its user's access has ended: close its WebSocket, or its connection."""
        closing = self._closing.get(id(request))
        if closing is None:
            if request.transport is not None:
                request.transport.abort()
        elif not closing.done():
            closing.set_result(ACCESS_ENDED)

    async def close(self, seconds: float) -> None:
        """Close one after the other within that many seconds: if all closed at once, all would reconnect at once."""
        self._is_closed = True
        closing = list(self._closing.values())
        for number, each in enumerate(closing):
            if number:
                await asyncio.sleep(seconds / len(closing))
            if not each.done():
                each.set_result(RESTART)
