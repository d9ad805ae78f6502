"""What several fakes share: an endless stream for each of several listeners."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def listen(listeners: list[asyncio.Queue[T]], *first: T) -> AsyncIterator[T]:
    """`first`, and then whatever is put for all listeners, for as long as somebody asks."""
    heard: asyncio.Queue[T] = asyncio.Queue()
    for each in first:
        heard.put_nowait(each)
    listeners.append(heard)
    try:
        while True:
            yield await heard.get()
    finally:
        listeners.remove(heard)
