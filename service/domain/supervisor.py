"""Runs the parts of the process that must never end, and restarts those that do. The only restart policy there is.

A part is a coroutine function that runs until it is cancelled. It handles expected failures itself, such as a Redis
that does not answer. Any other exception is logged and counted, and the part restarts after a backoff.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from service.domain.backoff import Backoff

log = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]

_CANCEL_TIMEOUT = 5.0
"""Seconds that parts get to end after the first cancellation. The leader releases its lease in that time."""
_CANCEL_AGAIN = (10, 0.5)
"""How often they are cancelled after that, and the seconds in between: a library may lose a cancellation."""
_RETURNED = "it returned"


@dataclass(slots=True)
class _Part:
    began: float | None = None
    """When the current run began; None between two runs."""
    failing_since: float | None = None
    error: str = ""
    """The class of the last exception, never its text."""
    ended: bool = False
    """It is no longer restarted."""


@dataclass(frozen=True, slots=True)
class PartState:
    """The state of a part at one time."""

    failing: timedelta | None
    """How long it has been failing; None when it is healthy."""
    error: str
    """The class of its last exception; empty when there was none."""
    ended: bool
    """It does not run and is not restarted."""

    @property
    def failure(self) -> str | None:
        """A sentence for /health about what is wrong; None when nothing is."""
        if self.ended:
            return f"it has ended ({self.error}) and only a restart of the process brings it back"
        if self.failing is None:
            return None
        seconds = self.failing.total_seconds()
        return f"it has been failing for {seconds:.0f} s ({self.error}) and is restarted; the log has the reason"


class Supervisor:
    """A part that has been failing for longer than `limit` counts as dead.

    The delays between restarts grow from `first` to `longest` seconds. A part that has run for `steady` seconds has
    recovered: it counts as healthy, and its delays start at `first` again.
    """

    def __init__(
        self,
        *,
        limit: timedelta = timedelta(minutes=5),
        first: float = 0.2,
        longest: float = 10.0,
        steady: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._first = first
        self._longest = longest
        self._steady = steady
        self._clock = clock
        self._parts: dict[str, _Part] = {}
        self.restarts: Counter[str] = Counter()
        """By name, of every part that has ever run in this process."""

    @asynccontextmanager
    async def running(self, parts: Mapping[str, Work]) -> AsyncIterator[None]:
        """Run the parts until the context ends. A name must not be running already."""
        tasks = {self._start(name, work) for name, work in parts.items()}
        try:
            yield
        finally:
            for name in parts:
                self._parts.pop(name, None)
            await _end(tasks)

    def states(self) -> dict[str, PartState]:
        """The state of each part that should run now, by name."""
        now = self._clock()
        return {name: self._state(part, now) for name, part in self._parts.items()}

    def failures(self) -> dict[str, str | None]:
        """What is wrong with each part, for /health."""
        return {name: state.failure for name, state in self.states().items()}

    def dead(self) -> list[str]:
        """Parts that only a restart of the process can repair: /livez fails while there are any."""
        return [
            name
            for name, state in self.states().items()
            if state.ended or (state.failing is not None and state.failing > self._limit)
        ]

    def _state(self, part: _Part, now: float) -> PartState:
        recovered = part.began is not None and now - part.began >= self._steady
        since = None if recovered and not part.ended else part.failing_since
        failing = None if since is None else timedelta(seconds=now - since)
        return PartState(failing, part.error, part.ended)

    def _start(self, name: str, work: Work) -> "asyncio.Task[None]":
        part = self._parts[name] = _Part()
        self.restarts[name] += 0
        task = asyncio.create_task(self._forever(name, part, work), name=name)

        def ended(_: object) -> None:
            if self._parts.get(name) is part:
                part.ended, part.error = True, part.error or "cancelled"
                part.failing_since = part.failing_since or self._clock()
                log.critical("a part has ended and is not restarted", extra={"part": name})

        task.add_done_callback(ended)
        return task

    async def _forever(self, name: str, part: _Part, work: Work) -> None:
        backoff = Backoff(self._first, self._longest)
        while True:
            part.began = began = self._clock()
            part.error = await self._run(name, work)
            now = self._clock()
            if now - began >= self._steady:
                backoff.reset()
                part.failing_since = None
            if part.failing_since is None:
                part.failing_since = now
            part.began = None
            delay = backoff.next()
            log.error("%s: restarting it in %.1f s", part.error, delay, extra={"part": name})
            await asyncio.sleep(delay)
            self.restarts[name] += 1

    async def _run(self, name: str, work: Work) -> str:
        """Run the part once. Returns why it ended. Raises CancelledError only when this task itself was cancelled."""
        task = asyncio.current_task()
        error = _RETURNED
        try:
            await work()
        except asyncio.CancelledError as cancelled:
            if task is None or task.cancelling():
                raise
            error = _class(cancelled)  # something that the part awaited was cancelled
        except Exception as failure:
            error = _class(failure)
            log.exception("a part has failed", extra={"part": name})
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # the part has swallowed the cancellation
        return error


async def _end(tasks: "set[asyncio.Task[None]]") -> None:
    """Cancel the tasks until all have ended or the timeouts are over."""
    pending, (times, interval) = tasks, _CANCEL_AGAIN
    for seconds in (_CANCEL_TIMEOUT, *[interval] * times):
        for task in pending:
            task.cancel()
        if pending:
            _, pending = await asyncio.wait(pending, timeout=seconds)
    for task in pending:
        log.error("a part does not end after its cancellation", extra={"part": task.get_name()})


def _class(error: BaseException) -> str:
    """The name of the exception's class; for a group, that of its first member."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__
