"""What several fakes share: an endless stream for each of several listeners."""

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def listen(listeners: list[asyncio.Queue[T]], *first: T) -> AsyncIterator[T]:
    """Yield `first`, and then every item that is put for all listeners."""
    items: asyncio.Queue[T] = asyncio.Queue()
    for each in first:
        items.put_nowait(each)
    listeners.append(items)
    try:
        while True:
            yield await items.get()
    finally:
        listeners.remove(items)
