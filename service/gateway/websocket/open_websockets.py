"""The WebSockets that are open: bounds them by session, and closes them when the process ends."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.metrics import RequestOutcome
from service.domain.names import SessionId
from service.gateway.errors import GatewayError, PageKind


class OpenWebSockets:
    """`limit`: how many one session may have."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_session: Counter[SessionId] = Counter()
        self._closing: set[asyncio.Future[None]] = set()
        """One of each that is open."""
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
        self._by_session[uuid] += 1
        try:
            yield
        finally:
            self._by_session[uuid] -= 1
            if not self._by_session[uuid]:
                del self._by_session[uuid]

    @contextmanager
    def opened(self) -> Iterator["asyncio.Future[None]"]:
        """A future for one WebSocket; when it is done, the WebSocket has to close."""
        closing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._is_closed:
            closing.set_result(None)
        self._closing.add(closing)
        try:
            yield closing
        finally:
            self._closing.discard(closing)

    async def close(self, seconds: float) -> None:
        """Close one after the other within that many seconds: if all closed at once, all would reconnect at once."""
        self._is_closed = True
        closing = list(self._closing)
        for number, each in enumerate(closing):
            if number:
                await asyncio.sleep(seconds / len(closing))
            if not each.done():
                each.set_result(None)
