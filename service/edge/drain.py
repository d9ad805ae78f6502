"""The two stages in which a process ends."""

import asyncio


class Drain:
    """`begun`: load balancers learn that the process ends; everything is still served. `over`: connections close."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
