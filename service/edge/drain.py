"""The two stages of a process' shutdown."""

import asyncio


class Drain:
    """`begun`: /readyz tells load balancers to stop; everything is still served. `over`: connections close."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
