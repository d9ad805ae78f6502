"""A session's history: its last wakes, sleeps, failures and revocations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.background_writer import BackgroundWriter
from service.domain.journal import Failed, HistoryEvent, JournalEntry, Ready, Revoked, Slept, Woken
from service.domain.ports import History
from service.domain.sleep_cause import SleepReason

LIMIT = 45
"""Journal entries kept per session: fifteen rounds of a wake, a ready pod and a sleep."""
POD_UID_LENGTH = 8
"""Characters of a pod's uid that are kept, enough to tell a session's last pods apart."""
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
        self._writer: BackgroundWriter[HistoryEvent] = BackgroundWriter("history", history.append)

    def note(self, entry: JournalEntry) -> None:
        if not isinstance(entry, HistoryEvent) or entry.uuid is None:
            return
        if isinstance(entry, Failed) and entry.doing != "wake":
            return
        self._writer.put(entry)

    async def run(self) -> None:
        """Write until cancelled, then write the remaining entries."""
        await self._writer.run()
