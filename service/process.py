"""The life of the process: it starts, serves, drains on SIGTERM or SIGINT, closes, and always ends.

A signal during the start ends it there. While it serves, it drains first: load balancers hear that it goes, and
everything is still served. Then it closes. A second signal, or too long an end, ends it by force.
"""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from service.edge.drain import Drain

log = logging.getLogger(__name__)

_START_ENDS = 10.0
"""Seconds in which a start that was broken off must have ended."""
_LAST_STEPS = 5.0
"""Seconds beyond the shutdown timeout for what comes after the last request: giving back locks, closing clients."""
_CANCEL_AGAIN = 0.5
_NAMED = 20


class Life:
    """`seconds`: how long it drains; `timeout`: how long the end may take after that, in seconds too."""

    def __init__(self, *, seconds: float, timeout: float) -> None:
        self._seconds = seconds
        self._timeout = timeout
        self.drain = Drain()
        self.doing = "starting"
        """What the process is at, for the log line of an end by force."""
        self._serving = False
        self._main: asyncio.Task[None] | None = None
        self._watchdog: threading.Timer | None = None

    async def run(self, main: Callable[["Life"], Coroutine[Any, Any, None]]) -> None:
        """Run `main` until it ends. It calls `serve` when it is ready to, and closes everything after that."""
        loop = asyncio.get_running_loop()
        self._main = asyncio.create_task(main(self), name="main")
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            await self._main
        except asyncio.CancelledError:
            log.info("the start was broken off by a signal")
        finally:
            # What is left of the loop must not keep the process either.
            self._end_within(_LAST_STEPS)

    async def serve(self) -> None:
        """Return when the process has to close; it has drained by then."""
        self._serving, self.doing = True, "serving"
        await self.drain.begun.wait()
        self.doing = "draining"
        log.info("draining: everything is served, /readyz answers 503", extra={"seconds": self._seconds})
        await asyncio.sleep(self._seconds)
        self.doing = "closing connections"
        self.drain.over.set()

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._watchdog is not None:
            log.warning("%s again: ending at once", name, extra={"was": self.doing})
            os._exit(1)
        log.info("%s: the process ends", name)
        if self._serving:
            self._end_within(self._seconds + self._timeout + _LAST_STEPS)
            self.drain.begun.set()
        else:
            self._end_within(_START_ENDS)
            self._cancel()

    def _cancel(self) -> None:
        """Until it has ended: a library may lose a cancellation."""
        if self._main is not None and not self._main.done():
            self._main.cancel()
            asyncio.get_running_loop().call_later(_CANCEL_AGAIN, self._cancel)

    def _end_within(self, seconds: float) -> None:
        """From now on nothing keeps the process for longer, not even a loop that is blocked."""
        if self._watchdog is None:
            self._watchdog = threading.Timer(seconds, self._give_up, (asyncio.get_running_loop(), seconds))
            self._watchdog.daemon = True
            self._watchdog.start()

    def _give_up(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        names: list[str] = []
        with contextlib.suppress(RuntimeError):  # tasks may come and go in the loop's thread
            names = sorted(task.get_name() for task in asyncio.all_tasks(loop))
        log.critical(
            "the process did not end in %.0f s and is ended by force",
            seconds,
            extra={"was": self.doing, "under_way": names[:_NAMED], "tasks": len(names)},
        )
        os._exit(1)


def run(main: Callable[[Life], Coroutine[Any, Any, None]], *, seconds: float, timeout: float) -> None:
    """Run the process until it has been told to end. Raises what `main` raises."""

    async def lives() -> None:
        await Life(seconds=seconds, timeout=timeout).run(main)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(lives())
