"""One tab's connection to the gateway."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from datetime import UTC, datetime

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from service.gateway.companion import messages
from service.gateway.companion.messages import LONGEST, Message, parse
from service.gateway.websocket.open_websockets import ACCESS_ENDED, Closing

_HEARTBEAT = 40.0
"""Seconds between two pings, so that no proxy takes the connection for dead, and a tab that has gone is noticed."""
_CLOSE_TIMEOUT = 2.0
_MESSAGES, _PERIOD = 60, 10.0
"""So many messages may come within so many seconds, pings included. A companion sends one or two."""
_UNSENT = 32
"""Messages that may wait for a tab that does not read."""


class Tab:
    """Sends what it is given in order, and passes on what the page says. One that floods or never reads is closed."""

    def __init__(self, transport: asyncio.Transport | None) -> None:
        """`transport` is the connection's."""
        self._transport = transport
        self._socket = web.WebSocketResponse(
            heartbeat=_HEARTBEAT, timeout=_CLOSE_TIMEOUT, autoping=False, compress=False, max_msg_size=LONGEST
        )
        self._unsent: asyncio.Queue[str] = asyncio.Queue(_UNSENT)
        self._period_began = 0.0
        self._received = 0

    @property
    def response(self) -> web.WebSocketResponse:
        return self._socket

    def send(self, message: str) -> None:
        """Returns at once. A tab that does not take its messages is closed."""
        try:
            self._unsent.put_nowait(message)
        except asyncio.QueueFull:
            if self._transport is not None:
                self._transport.abort()  # a close frame would wait behind what is not taken

    async def run(self, on_message: Callable[[Message], None], closing: Closing) -> None:
        """Serve the tab until it closes, or until `closing` is done."""
        reading = asyncio.create_task(self._read(on_message), name="companion reads")
        writing = asyncio.create_task(self._write(), name="companion writes")
        tasks = (reading, writing)
        code: int = WSCloseCode.POLICY_VIOLATION
        try:
            await asyncio.wait((*tasks, closing), return_when=asyncio.FIRST_COMPLETED)
            if closing.done():
                code = closing.result()[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(ConnectionResetError, TimeoutError):
            if closing.done() and closing.result() == ACCESS_ENDED:
                async with asyncio.timeout(_CLOSE_TIMEOUT):
                    await self._socket.send_str(messages.access_ended(datetime.now(UTC)))
            await self._socket.close(code=code)

    async def _read(self, on_message: Callable[[Message], None]) -> None:
        while True:
            received = await self._socket.receive()
            if received.type not in _ALIVE or self._too_many():
                return
            if received.type is WSMsgType.PING:
                await self._socket.pong(received.data)
            elif (message := _message(received)) is not None:
                on_message(message)

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            while True:
                await self._socket.send_str(await self._unsent.get())

    def _too_many(self) -> bool:
        now = time.monotonic()
        if now - self._period_began > _PERIOD:
            self._period_began, self._received = now, 0
        self._received += 1
        return self._received > _MESSAGES


_ALIVE = frozenset({WSMsgType.TEXT, WSMsgType.PING, WSMsgType.PONG})
"""Everything else ends the connection: closes, errors, and binary messages, which no companion sends."""


def _message(received: WSMessage) -> Message | None:
    return parse(received.data) if received.type is WSMsgType.TEXT else None
