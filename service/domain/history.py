"""What is kept of a session's past: its last wakes, sleeps and failures, and how they are told."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.backoff import Backoff
from service.domain.errors import Unavailable
from service.domain.journal import HISTORY_EVENTS, Failed, HistoryEvent, JournalEntry, Ready, Slept, Woken
from service.domain.ports import History
from service.domain.sleep import SleepReason

log = logging.getLogger(__name__)

LIMIT = 45
"""Journal entries kept of a session: fifteen rounds of a wake, a ready pod and a sleep."""
_UNWRITTEN = 2000
"""Journal entries that wait while Redis is away; of more, the oldest are dropped."""
_FAREWELL = 1.0
"""Seconds at the end of the process to write what is left."""
POD = 8
"""Characters of a pod's uid that are kept: they tell a session's last pods apart."""
_SAME = 10
"""Seconds within which two replicas that believe to lead note the same journal entry, where no pod names it."""


def mark(event: HistoryEvent) -> str:
    """Equal for two notes of one journal entry, different otherwise; without spaces."""
    match event:
        case Woken():
            return f"woken:{event.by}:{event.at.timestamp():.6f}"
        case Ready():
            return f"ready:{event.pod[:POD]}"
        case Slept():
            return f"slept:{_place(event)}"
        case Failed():
            return f"failed:{_place(event)}:{event.reason.partition(':')[0].replace(' ', '-')[:40]}"


def _place(event: Slept | Failed) -> str:
    """Which of the session's lives it belongs to."""
    return event.pod[:POD] if event.pod else str(int(event.at.timestamp() // _SAME))


class Kind(StrEnum):
    WAKE = "wake"
    SLEEP = "sleep"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a history. Durations are in seconds; what does not belong to its kind is None."""

    kind: Kind
    at: datetime
    """Of a wake: when it was accepted."""
    request: str | None = None
    by: str | None = None
    """Who asked for the wake; None when nobody did: the pod was replaced or brought back."""
    ready_at: datetime | None = None
    """When the wake's pod was ready; None before, and when it never was."""
    seconds: float | None = None
    """Of a wake: from accepted to ready. Of a sleep: how long the session had been awake."""
    why: SleepReason | None = None
    idle_since: datetime | None = None
    reason: str | None = None
    """Of a failure: why, in Kubernetes' own words."""


def told(events: Iterable[HistoryEvent]) -> Sequence[Entry]:
    """The history that the events make, newest first: a wake and its ready pod are one entry."""
    entries: list[Entry] = []
    wake: int | None = None
    """Where the entry of the last wake is, until the session sleeps again."""
    for event in sorted(events, key=lambda event: event.at):
        request = event.request if event.request != "-" else None
        match event:
            case Woken():
                wake = len(entries)
                entries.append(Entry(kind=Kind.WAKE, at=event.at, request=request, by=event.by))
            case Ready() if wake is not None and entries[wake].ready_at is None:
                after = (event.at - entries[wake].at).total_seconds()
                entries[wake] = replace(entries[wake], ready_at=event.at, seconds=after)
            case Ready():
                wake, began = len(entries), event.at - timedelta(seconds=event.seconds or 0)
                entries.append(Entry(kind=Kind.WAKE, at=began, ready_at=event.at, seconds=event.seconds))
            case Slept():
                awake = event.seconds
                if awake is None and wake is not None:
                    awake = (event.at - entries[wake].at).total_seconds()
                wake = None
                entries.append(
                    Entry(
                        kind=Kind.SLEEP,
                        at=event.at,
                        request=request,
                        seconds=awake,
                        why=event.why,
                        idle_since=event.idle_since,
                    )
                )
            case Failed():
                entries.append(Entry(kind=Kind.FAILURE, at=event.at, request=request, reason=event.reason))
    return entries[::-1]


class HistoryWriter:
    """The Journal that keeps what happens in each session's History; nobody waits for Redis meanwhile."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._unwritten: deque[HistoryEvent] = deque()
        self._dropped = 0
        self._news = asyncio.Event()

    def note(self, happening: JournalEntry) -> None:
        if not isinstance(happening, HISTORY_EVENTS) or happening.uuid is None:
            return
        if isinstance(happening, Failed) and happening.doing != "wake":
            return
        if len(self._unwritten) >= _UNWRITTEN:
            self._unwritten.popleft()
            self._dropped += 1
        self._unwritten.append(happening)
        self._news.set()

    async def run(self) -> None:
        """Write until cancelled, and then, for a moment, what is left."""
        try:
            await self._write_for_ever()
        finally:
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._write()

    async def _write_for_ever(self) -> None:
        backoff = Backoff(0.5, 15)
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self._write()
                backoff.reset()
            except Unavailable as unavailable:
                if not backoff.failures:
                    log.warning("history waits for %s", unavailable.part)
                await asyncio.sleep(backoff.next())
                self._news.set()

    async def _write(self) -> None:
        if self._dropped:
            log.warning("happenings are missing in histories", extra={"missing": self._dropped})
            self._dropped = 0
        while self._unwritten:
            event = self._unwritten[0]
            try:
                await self._history.append(event)
            except Unavailable:
                raise
            except Exception:
                log.exception("a happening is missing in its history", extra={"uuid": event.uuid})
            if self._unwritten and self._unwritten[0] is event:
                self._unwritten.popleft()
