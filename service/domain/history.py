"""A session's history: its last wakes, sleeps, failures, upgrades and revocations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from service.domain.background_writer import BackgroundWriter
from service.domain.expiry import ExpiryReason
from service.domain.journal import (
    ExpiryAnnounced,
    Failed,
    HistoryEvent,
    JournalEntry,
    Ready,
    Revoked,
    Slept,
    Upgraded,
    Woken,
)
from service.domain.ports import History
from service.domain.sleep_cause import SleepReason

LIMIT = 45
"""Journal entries kept per session: fifteen rounds of a wake, a ready pod and a sleep."""
POD_UID_LENGTH = 8
"""Characters of a pod's uid that are kept, enough to tell a session's last pods apart."""
_REPLACED_WITHIN = timedelta(minutes=2)
"""After an upgrade. The pod before may take half a minute to end."""
_DEDUP_SECONDS = 10
"""Two entries without a pod are the same within this time: two replicas may both believe that they lead."""


def dedup_key(event: HistoryEvent) -> str:  # noqa: PLR0911 - one for each kind
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
        case Upgraded():
            return f"upgraded:{event.at.timestamp():.6f}"
        case ExpiryAnnounced():
            return f"expires:{event.why}:{event.due.timestamp():.0f}"
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
    UPGRADE = "upgrade"
    DELETION_WARNING = "deletion-warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a history. Durations are in seconds; fields that do not apply to the kind are None."""

    kind: Kind
    at: datetime
    """For a wake: when it was accepted. For an upgrade: when it began."""
    request: str | None = None
    by: str | None = None
    """Who requested the wake, sleep, revocation or upgrade; None if nobody did: the pod was replaced or restored, or
    nobody used it."""
    ready_at: datetime | None = None
    """When the wake's pod was ready; None if it is not, or never was. For an upgrade: when the pod was that replaced
    the one before, if it did that."""
    seconds: float | None = None
    """For a wake: from accepted to ready. For an upgrade: how long the new pod took. For a sleep: how long the
    session was awake."""
    why: SleepReason | None = None
    idle_since: datetime | None = None
    interrupted: bool = False
    """For a sleep: a program was still working."""
    reason: str | None = None
    """For a failure: Kubernetes' own words. For a warning: when and why the session will be deleted."""


def _announced(event: ExpiryAnnounced) -> str:
    why = "of its age" if event.why is ExpiryReason.LIFETIME else "nobody has used it for a long time"
    return f"it will be deleted on {event.due:%Y-%m-%d at %H:%M UTC} because {why}"


def entries(events: Iterable[HistoryEvent]) -> Sequence[Entry]:
    """The events as lines of a history, newest first. A wake, or an upgrade, and its ready pod are one line."""
    lines = _Lines()
    for event in sorted(events, key=lambda event: event.at):
        lines.add(event)
    return lines.lines[::-1]


class _Lines:
    """Lines, oldest first."""

    def __init__(self) -> None:
        self.lines: list[Entry] = []
        self._wake: int | None = None
        """The index of the last wake's line, until the session sleeps again."""
        self._upgrade: tuple[int, datetime] | None = None
        """The index of the last upgrade's line, and until when a new pod is its work; until it has one."""

    def add(self, event: HistoryEvent) -> None:
        """Add an event that is not older than those before."""
        request = event.request if event.request != "-" else None
        match event:
            case Woken():
                self._wake, self._upgrade = len(self.lines), None
                self.lines.append(Entry(kind=Kind.WAKE, at=event.at, request=request, by=event.by))
            case Ready():
                self._add_ready(event)
            case Slept():
                self._add_sleep(event, request)
            case Revoked():
                self.lines.append(Entry(kind=Kind.REVOCATION, at=event.at, request=request, by=event.by))
            case Upgraded():
                self._upgrade = len(self.lines), event.at + timedelta(seconds=event.seconds) + _REPLACED_WITHIN
                self.lines.append(Entry(kind=Kind.UPGRADE, at=event.at, request=request, by=event.by))
            case ExpiryAnnounced():
                self.lines.append(Entry(kind=Kind.DELETION_WARNING, at=event.at, reason=_announced(event)))
            case Failed():
                self.lines.append(Entry(kind=Kind.FAILURE, at=event.at, request=request, reason=event.reason))

    def _add_ready(self, event: Ready) -> None:
        """The ready pod is that of the wake or the upgrade before, or nobody asked for it."""
        began = event.at - timedelta(seconds=event.seconds or 0)
        if self._wake is not None and self.lines[self._wake].ready_at is None:
            wake = self.lines[self._wake]
            after = (event.at - wake.at).total_seconds()
            self.lines[self._wake] = replace(wake, ready_at=event.at, seconds=after)
        elif self._upgrade is not None and began <= self._upgrade[1]:
            number, self._upgrade = self._upgrade[0], None
            self.lines[number] = replace(self.lines[number], ready_at=event.at, seconds=event.seconds)
        else:
            self._wake = len(self.lines)
            self.lines.append(Entry(kind=Kind.WAKE, at=began, ready_at=event.at, seconds=event.seconds))

    def _add_sleep(self, event: Slept, request: str | None) -> None:
        awake = event.seconds
        if awake is None and self._wake is not None:
            awake = (event.at - self.lines[self._wake].at).total_seconds()
        self._wake = self._upgrade = None
        self.lines.append(
            Entry(
                kind=Kind.SLEEP,
                at=event.at,
                request=request,
                by=event.by,
                seconds=awake,
                why=event.why,
                idle_since=event.idle_since,
                interrupted=event.interrupted,
            )
        )


class HistoryWriter:
    """A Journal that writes entries to the History in the background."""

    def __init__(self, history: History) -> None:
        self._writer: BackgroundWriter[HistoryEvent] = BackgroundWriter("history", history.append)

    def note(self, entry: JournalEntry) -> None:
        if not isinstance(entry, HistoryEvent) or entry.uuid is None:
            return
        if isinstance(entry, Failed) and entry.doing not in ("wake", "upgrade"):
            return
        self._writer.put(entry)

    async def run(self) -> None:
        """Write until cancelled, then write the remaining entries."""
        await self._writer.run()
