"""Writes notes about sessions to Redis, at most one per session and interval."""

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import NamedTuple

from service.domain.errors import IndexIncomplete, SessionAsleep, SessionError, Unavailable
from service.domain.metrics import ActivitySource
from service.domain.names import SessionId

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Seconds between two notes of one session."""


class Note(NamedTuple):
    """What is noted. A later note replaces an earlier one."""

    at: float
    """When it was, in seconds of time.monotonic."""
    source: ActivitySource


class NoteWriter(ABC):
    """Writes the first note of an interval at once, and the latest of the others at its end.

    While Redis is away, the latest note is kept, and tried again at the end of each interval.
    """

    def __init__(self, name: str) -> None:
        """`name` says in the log what is noted."""
        self._name = name
        self._timers: dict[SessionId, asyncio.TimerHandle] = {}
        """Sessions with a note in the current interval."""
        self._pending: dict[SessionId, Note] = {}
        """Notes for the ends of intervals."""
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def _write(self, uuid: SessionId, note: Note) -> None:
        """Write it. Raises as the use case does."""

    async def close(self) -> None:
        """Write what is pending, and end."""
        self._end_intervals()
        await asyncio.gather(*self._tasks)
        self._end_intervals()
        await asyncio.gather(*(self._try(uuid, note) for uuid, note in self._pending.items()))

    def _has_note(self, uuid: SessionId) -> bool:
        """Whether the session has one in the current interval."""
        return uuid in self._timers

    def _add(self, uuid: SessionId, note: Note) -> None:
        """Returns at once."""
        if uuid in self._timers:
            self._keep(uuid, note)
            return
        self._begin_interval(uuid)
        task = asyncio.create_task(self._try_or_keep(uuid, note), name=self._name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end_intervals(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def _keep(self, uuid: SessionId, note: Note) -> None:
        self._pending[uuid] = max(note, self._pending.get(uuid, note))

    def _begin_interval(self, uuid: SessionId) -> None:
        self._timers[uuid] = asyncio.get_running_loop().call_later(INTERVAL, self._interval_over, uuid)

    def _interval_over(self, uuid: SessionId) -> None:
        del self._timers[uuid]
        note = self._pending.pop(uuid, None)
        if note is not None:
            self._add(uuid, note)

    async def _try_or_keep(self, uuid: SessionId, note: Note) -> None:
        if not await self._try(uuid, note):
            self._keep(uuid, note)
            if uuid not in self._timers:
                self._begin_interval(uuid)

    async def _try(self, uuid: SessionId, note: Note) -> bool:
        """Returns False if it may succeed later."""
        try:
            await self._write(uuid, note)
        except SessionAsleep:
            pass
        except (Unavailable, IndexIncomplete) as error:
            log.info("cannot note %s yet: %s", self._name, error, extra={"uuid": uuid})
            return False
        except SessionError as error:
            log.info("cannot note %s: %s", self._name, error, extra={"uuid": uuid})
        except Exception:
            log.exception("cannot note %s", self._name, extra={"uuid": uuid})
        return True
