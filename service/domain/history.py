"""A session's history: its last wakes, sleeps, failures and revocations."""

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
from service.domain.journal import Failed, HistoryEvent, JournalEntry, Ready, Revoked, Slept, Woken
from service.domain.ports import History
from service.domain.sleep_cause import SleepReason

log = logging.getLogger(__name__)

LIMIT = 45
"""Journal entries kept per session: fifteen rounds of a wake, a ready pod and a sleep."""
POD_UID_LENGTH = 8
"""Characters of a pod's uid that are kept, enough to tell a session's last pods apart."""
_BUFFER = 2000
"""Journal entries that wait while Redis is away; beyond that the oldest are dropped."""
_FLUSH_TIMEOUT = 1.0
"""Seconds at the end of the process to write the remaining entries."""
_DEDUP_SECONDS = 10
"""Two entries without a pod are the same within this time: two replicas may both believe that they lead."""


def dedup_key(event: HistoryEvent) -> str:
    """Equal for two entries about the same event, different otherwise; contains no spaces."""
    match event:
        case Woken():
            return f"woken:{event.by}:{event.at.timestamp():.6f}"
        case Ready():
            return f"ready:{event.pod[:POD_UID_LENGTH]}"
        case Slept():
            return f"slept:{_life(event)}"
        case Revoked():
            return f"revoked:{event.at.timestamp():.6f}"
        case Failed():
            return f"failed:{_life(event)}:{event.reason.partition(':')[0].replace(' ', '-')[:40]}"


def _life(event: Slept | Failed) -> str:
    """Identifies the pod that the event is about."""
    return event.pod[:POD_UID_LENGTH] if event.pod else str(int(event.at.timestamp() // _DEDUP_SECONDS))


class Kind(StrEnum):
    WAKE = "wake"
    SLEEP = "sleep"
    FAILURE = "failure"
    REVOCATION = "revocation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a history. Durations are in seconds; fields that do not apply to the kind are None."""

    kind: Kind
    at: datetime
    """For a wake: when it was accepted."""
    request: str | None = None
    by: str | None = None
    """Who requested the wake or the revocation; None if nobody did, because the pod was replaced or restored."""
    ready_at: datetime | None = None
    """When the wake's pod was ready; None if it is not, or never was."""
    seconds: float | None = None
    """For a wake: from accepted to ready. For a sleep: how long the session was awake."""
    why: SleepReason | None = None
    idle_since: datetime | None = None
    interrupted: bool = False
    """For a sleep: a program was still working."""
    reason: str | None = None
    """For a failure: Kubernetes' own words."""


def entries(events: Iterable[HistoryEvent]) -> Sequence[Entry]:
    """The events as lines of a history, newest first: a wake and its ready pod are one line."""
    lines: list[Entry] = []
    wake: int | None = None
    """The index of the last wake's line, until the session sleeps again."""
    for event in sorted(events, key=lambda event: event.at):
        request = event.request if event.request != "-" else None
        match event:
            case Woken():
                wake = len(lines)
                lines.append(Entry(kind=Kind.WAKE, at=event.at, request=request, by=event.by))
            case Ready() if wake is not None and lines[wake].ready_at is None:
                after = (event.at - lines[wake].at).total_seconds()
                lines[wake] = replace(lines[wake], ready_at=event.at, seconds=after)
            case Ready():
                wake, began = len(lines), event.at - timedelta(seconds=event.seconds or 0)
                lines.append(Entry(kind=Kind.WAKE, at=began, ready_at=event.at, seconds=event.seconds))
            case Slept():
                awake = event.seconds
                if awake is None and wake is not None:
                    awake = (event.at - lines[wake].at).total_seconds()
                wake = None
                lines.append(
                    Entry(
                        kind=Kind.SLEEP,
                        at=event.at,
                        request=request,
                        seconds=awake,
                        why=event.why,
                        idle_since=event.idle_since,
                        interrupted=event.interrupted,
                    )
                )
            case Revoked():
                lines.append(Entry(kind=Kind.REVOCATION, at=event.at, request=request, by=event.by))
            case Failed():
                lines.append(Entry(kind=Kind.FAILURE, at=event.at, request=request, reason=event.reason))
    return lines[::-1]


class HistoryWriter:
    """A Journal that writes entries to the History in the background."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._buffer: deque[HistoryEvent] = deque()
        self._dropped = 0
        self._filled = asyncio.Event()

    def note(self, entry: JournalEntry) -> None:
        if not isinstance(entry, HistoryEvent) or entry.uuid is None:
            return
        if isinstance(entry, Failed) and entry.doing != "wake":
            return
        if len(self._buffer) >= _BUFFER:
            self._buffer.popleft()
            self._dropped += 1
        self._buffer.append(entry)
        self._filled.set()

    async def run(self) -> None:
        """Write until cancelled, then write the remaining entries."""
        try:
            await self._write_forever()
        finally:
            with contextlib.suppress(Unavailable, TimeoutError):
                async with asyncio.timeout(_FLUSH_TIMEOUT):
                    await self._write()

    async def _write_forever(self) -> None:
        backoff = Backoff(0.5, 15)
        while True:
            await self._filled.wait()
            self._filled.clear()
            try:
                await self._write()
                backoff.reset()
            except Unavailable as unavailable:
                if not backoff.failures:
                    log.warning("history is not written until %s answers", unavailable.part)
                await asyncio.sleep(backoff.next())
                self._filled.set()

    async def _write(self) -> None:
        if self._dropped:
            log.warning("entries are missing in histories", extra={"missing": self._dropped})
            self._dropped = 0
        while self._buffer:
            event = self._buffer[0]
            try:
                await self._history.append(event)
            except Unavailable:
                raise
            except Exception:
                log.exception("an entry is missing in its history", extra={"uuid": event.uuid})
            if self._buffer and self._buffer[0] is event:
                self._buffer.popleft()
