"""A document on its way to the browser. Only its head is held back, until the place for a script is known."""

import asyncio
import contextlib
from typing import Protocol

from aiohttp import ClientError, ClientPayloadError

from service.gateway.injection.content_coding import Malformed, Recoder
from service.gateway.injection.head_scanner import HeadScanner

_HELD = 64 * 1024
"""Bytes of a document after which no more is held back."""
_HELD_ENCODED = 4 * _HELD
"""The same as they come: a hostile pod may send any number of bytes that decode to none."""
_LARGE = 16 * 1024 * 1024
"""Bytes beyond which a document that is encoded anew must not take much of the CPU."""
_PAUSE = 0.004
"""Seconds before each further piece of it, of which one takes about a millisecond."""
_PLACE_TIMEOUT = 10.0
"""Seconds to wait for the place. A browser shows nothing of what is before it."""
_HEAD_TIMEOUT = 0.25
"""Seconds to wait for the rest of the head, which may declare a policy."""


class Body(Protocol):
    """The body of a response."""

    async def readany(self) -> bytes:
        """Whatever has come, at least a byte; nothing at the end. Raises ClientError, RuntimeError if closed."""


class Document(Body):
    """A body, with something inserted. Unless `insert` is called, it leaves byte for byte as it came.

    `recoder`: for a body that is encoded. `large`: held by one large document at a time, for a piece. Otherwise a pod
    could keep the gateway busy with a few bytes that decode to gigabytes.
    """

    def __init__(self, body: Body, recoder: Recoder | None, large: asyncio.Lock) -> None:
        self.head = HeadScanner()
        self.is_empty = False
        """It has ended, with nothing to show."""
        self._body = body
        self._recoder = recoder
        self._large = large
        self._decoded = 0
        self._received = b""
        """What is held back, as it came."""
        self._text = b""
        """The same, decoded."""
        self._inserted = False
        self._over = False

    async def read_head(self) -> None:
        """Read until the head is over, or longer than is held back."""
        try:
            # Whatever breaks off the body will do so again when the rest is read.
            with contextlib.suppress(TimeoutError, ClientError, RuntimeError):
                await self._read_head()
            self.head.scan(self._text, last=True)
        except Malformed:
            self.head = HeadScanner()
        self.is_empty = self._over and self.head.place is None
        self._over = False

    def insert(self, data: bytes, place: int) -> None:
        """Insert the data into the head, which has been read."""
        self._text = self._text[:place] + data + self._text[place:]
        self._inserted = True

    async def readany(self) -> bytes:
        held, self._received, self._text = (self._text if self._inserted else self._received), b"", b""
        if self._recoder is None or not self._inserted:
            return held or await self._body.readany()
        try:
            return await self._recoded(self._recoder, held)
        except Malformed as error:
            raise ClientPayloadError("the body is not what its coding says") from error

    async def _read_head(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_PLACE_TIMEOUT) as timeout:
            while not self._is_enough():
                data = await self._body.readany()
                if not data:
                    self._over = True
                    return
                had_place = self.head.place is not None
                self._receive(data)
                if self.head.place is not None and not had_place:
                    timeout.reschedule(loop.time() + _HEAD_TIMEOUT)

    def _is_enough(self) -> bool:
        return self.head.complete or len(self._text) >= _HELD or len(self._received) >= _HELD_ENCODED

    def _receive(self, data: bytes) -> None:
        self._received += data
        if self._recoder is None:
            self._text += data
        else:
            self._recoder.feed(data)
            while len(self._text) < _HELD and (piece := self._recoder.read()):
                self._text += piece
        self.head.scan(self._text)

    async def _recoded(self, recoder: Recoder, held: bytes) -> bytes:
        """What is held back and what follows, encoded anew."""
        data = recoder.encode(held) if held else b""
        while len(data) < _HELD and not self._over:
            if piece := recoder.read():
                await self._take_turn(len(piece))
                data += recoder.encode(piece)
            elif data := data + recoder.flush():
                break
            elif not recoder.is_over and (received := await self._body.readany()):
                recoder.feed(received)
            else:
                self._over, data = True, recoder.finish()
        return data

    async def _take_turn(self, size: int) -> None:
        """Let others run before a piece of that size."""
        self._decoded += size
        if self._decoded < _LARGE:
            await asyncio.sleep(0)
            return
        async with self._large:
            await asyncio.sleep(_PAUSE)
