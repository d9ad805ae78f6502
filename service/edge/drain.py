"""The two moments in which a process that has been told to end changes what it does."""

import asyncio


class Drain:
    """`begun`: load balancers hear that the process goes, and everything is still served. `over`: it closes."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
