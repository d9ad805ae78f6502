"""The lifecycle of the process: it starts, serves, drains on SIGTERM or SIGINT, closes, and always ends.

A signal during the start ends the process there. A process that serves drains first: load balancers learn that it ends,
and it still serves everything. Then it closes. A second signal ends it at once, and so does a shutdown that takes too
long.
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
"""Seconds that an interrupted start gets to end."""
_LAST_STEPS = 5.0
"""Seconds after the shutdown timeout, to release locks and close clients."""
_CANCEL_AGAIN = 0.5
_NAMED = 20


class Life:
    """`seconds`: how long it drains. `timeout`: how many seconds the shutdown may take after that."""

    def __init__(self, *, seconds: float, timeout: float) -> None:
        self._seconds = seconds
        self._timeout = timeout
        self.drain = Drain()
        self._doing = "starting"
        self._serving = False
        self._main: asyncio.Task[None] | None = None
        self._watchdog: threading.Timer | None = None

    async def run(self, main: Callable[["Life"], Coroutine[Any, Any, None]]) -> None:
        """Run `main` until it ends. `main` opens everything, calls `serve`, and closes everything after that."""
        loop = asyncio.get_running_loop()
        self._main = asyncio.create_task(main(self), name="main")
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        try:
            await self._main
        except asyncio.CancelledError:
            log.info("a signal interrupted the start")
        finally:
            # Tasks that are left must not keep the process alive either.
            self._end_within(_LAST_STEPS)

    def enter(self, doing: str) -> None:
        """Note what the process does from now on; the log says so if it has to be killed."""
        self._doing = doing

    async def serve(self) -> None:
        """Return when the process has drained and must close."""
        self._serving, self._doing = True, "serving"
        await self.drain.begun.wait()
        self._doing = "draining"
        log.info("draining: still serving requests, but /readyz answers 503", extra={"seconds": self._seconds})
        await asyncio.sleep(self._seconds)
        self._doing = "closing connections"
        self.drain.over.set()

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._watchdog is not None:
            log.warning("%s again: exiting at once", name, extra={"was": self._doing})
            os._exit(1)
        log.info("%s: shutting down", name)
        if self._serving:
            self._end_within(self._seconds + self._timeout + _LAST_STEPS)
            self.drain.begun.set()
        else:
            self._end_within(_START_ENDS)
            self._cancel()

    def _cancel(self) -> None:
        """Repeat until it has ended: a library may lose a cancellation."""
        if self._main is not None and not self._main.done():
            self._main.cancel()
            asyncio.get_running_loop().call_later(_CANCEL_AGAIN, self._cancel)

    def _end_within(self, seconds: float) -> None:
        """End the process after that time in any case, even if the event loop is blocked."""
        if self._watchdog is None:
            self._watchdog = threading.Timer(seconds, self._give_up, (asyncio.get_running_loop(), seconds))
            self._watchdog.daemon = True
            self._watchdog.start()

    def _give_up(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        names: list[str] = []
        with contextlib.suppress(RuntimeError):  # tasks may come and go in the loop's thread
            names = sorted(task.get_name() for task in asyncio.all_tasks(loop))
        log.critical(
            "the process did not exit within %.0f s; forcing it to exit",
            seconds,
            extra={"was": self._doing, "under_way": names[:_NAMED], "tasks": len(names)},
        )
        os._exit(1)


def run(main: Callable[[Life], Coroutine[Any, Any, None]], *, seconds: float, timeout: float) -> None:
    """Run the process until a signal ends it. Raises what `main` raises."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Life(seconds=seconds, timeout=timeout).run(main))
