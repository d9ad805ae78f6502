"""Waits for a condition, up to a deadline."""

import asyncio
from collections.abc import Callable


async def until(condition: Callable[[], bool], seconds: float = 5) -> None:
    """Raises TimeoutError when the condition does not come true in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - there is no event for what tests wait for
            await asyncio.sleep(0.005)
