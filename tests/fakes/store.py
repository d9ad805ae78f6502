"""The Store and its SessionLocks in memory."""

import bisect
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from service.domain.errors import IdTaken, IndexIncomplete, SessionBusy, SessionInUse, SessionNotFound
from service.domain.expiry import Expired, ExpiryWarning
from service.domain.names import SessionId
from service.domain.queue_state import QueueState
from service.domain.record import Record, RecordStatus
from service.domain.wanted import NOTHING_WANTED, Wanted
from tests.fakes.history import MemoryHistory
from tests.fakes.progress import MemoryProgress
from tests.fakes.queues import MemoryQueues


@dataclass
class MemoryStore:
    """See `service.domain.ports.Store`; the queue states come from `queues`."""

    queues: MemoryQueues = field(default_factory=MemoryQueues)
    progress: MemoryProgress = field(default_factory=MemoryProgress)
    history: MemoryHistory = field(default_factory=MemoryHistory)
    users: dict[str, SessionId] = field(default_factory=dict)
    ids: list[SessionId] = field(default_factory=list)
    held: set[SessionId] = field(default_factory=set)
    taken_over: set[SessionId] = field(default_factory=set)
    """Sessions whose lock another process has taken over, as set by a test."""
    half: dict[SessionId, tuple[datetime, str | None]] = field(default_factory=dict)
    """Unfinished creates and deletes: since when, and the user of a create."""
    wishes: dict[SessionId, Wanted] = field(default_factory=dict)
    """What unfinished creates want."""
    rounds: tuple[datetime, datetime] | None = None
    """Of checks for expiry: since when without a gap, and the last one."""

    @property
    def unreadable(self) -> int:
        return len(self.queues.unreadable_queues.keys() | self.queues.unreadable_records.keys())

    @property
    def sessions(self) -> dict[SessionId, Record]:
        return self.queues.sessions

    @property
    def index_is_complete(self) -> bool:
        return self.queues.index_is_complete

    @index_is_complete.setter
    def index_is_complete(self, whole: bool) -> None:
        self.queues.index_is_complete = whole

    async def owner(self, user_id: str) -> SessionId | None:
        if user_id not in self.users and not self.index_is_complete:
            raise IndexIncomplete
        return self.users.get(user_id)

    async def claim(self, user_id: str, candidate: SessionId, wanted: Wanted = NOTHING_WANTED) -> SessionId:
        if user_id in self.users:
            return self.users[user_id]
        record = self.sessions.get(candidate)
        if candidate in self.ids and (record is None or record.user_id != user_id):
            raise IdTaken(candidate)
        self.users[user_id] = candidate
        self._enter(candidate)
        self.half[candidate] = (datetime.now(UTC), user_id)
        self.wishes[candidate] = wanted
        return candidate

    async def wanted(self, uuid: SessionId) -> Wanted | None:
        _since, user = self.half.get(uuid, (None, None))
        return self.wishes[uuid] if user is not None else None

    async def release_claim(self, user_id: str, uuid: SessionId) -> None:
        if uuid not in self.sessions and self.users.get(user_id) == uuid:
            del self.users[user_id]
            self.ids.remove(uuid)
            self.half.pop(uuid, None)

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        return [(uuid, user_id) for user_id, uuid in self.users.items() if uuid not in self.sessions]

    async def unfinished(self, age: timedelta, limit: int) -> Sequence[tuple[SessionId, str | None]]:
        latest = datetime.now(UTC) - age
        return [(u, user) for u, (at, user) in self.half.items() if at <= latest and u not in self.held][:limit]

    async def mark_finished(self, uuid: SessionId) -> None:
        self.half.pop(uuid, None)

    async def save(self, record: Record) -> None:
        self.half.pop(record.uuid, None)
        self.users.setdefault(record.user_id, record.uuid)
        self._enter(record.uuid)
        kept = self.sessions.get(record.uuid)
        self.queues.unreadable_records.pop(record.uuid, None)
        self.sessions[record.uuid] = replace(
            record,
            queue=QueueState(),
            last_output=kept.last_output if kept else None,
            kept_until=kept.kept_until if kept else None,
            sleep_request=kept.sleep_request if kept else None,
            spared_until=kept.spared_until if kept else None,
            deletion_warning=kept.deletion_warning if kept else None,
        )

    async def record(self, uuid: SessionId) -> Record:
        records = await self.records([uuid])
        if not records:
            raise SessionNotFound if self.index_is_complete else IndexIncomplete
        return records[0]

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        return [
            replace(self.sessions[u], queue=self.queues.queue(u), read_error=self.queues.unreadable_records.get(u))
            for u in uuids
            if u in self.sessions
        ]

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        start = bisect.bisect_right(self.ids, after) if after else 0
        return self.ids[start : start + limit]

    async def note_warning(self, uuid: SessionId, warning: ExpiryWarning | None) -> None:
        if uuid in self.sessions:
            self.sessions[uuid] = replace(self.sessions[uuid], deletion_warning=warning)

    async def note_round(self, gap: timedelta, known: datetime | None = None) -> tuple[datetime, datetime]:
        now = datetime.now(UTC)
        since, last = self.rounds or (now, now)
        lost = known is not None and (self.rounds is None or last < known)
        if lost or not timedelta(0) <= now - last <= gap:
            since = now
        self.rounds = since, now
        return since, now

    async def mark_deleting(self, uuid: SessionId, *, keep_data: bool, expired: Expired | None = None) -> None:
        if uuid not in self.sessions:
            raise SessionNotFound
        if expired is not None and not self._still(uuid, expired):
            raise SessionInUse
        reason = expired.warning.reason if expired else self.sessions[uuid].expired
        before, now = self.sessions[uuid], datetime.now(UTC)
        since = before.deleting_since if before.status is RecordStatus.DELETING else now
        self.sessions[uuid] = replace(
            before, status=RecordStatus.DELETING, keep_data=keep_data, deleting_since=since, expired=reason
        )
        self.half[uuid] = (datetime.now(UTC), None)

    def _still(self, uuid: SessionId, expired: Expired) -> bool:
        record, since = self.sessions[uuid], expired.idle_since
        if record.status is not RecordStatus.CREATED or record.deletion_warning != expired.warning:
            return False
        if record.spared_until is not None and record.spared_until > datetime.now(UTC):
            return False
        used = (record.last_activity, record.last_output, record.kept_until)
        return since is None or not (
            self.queues.queue(uuid).is_wanted or any(at is not None and at > since for at in used)
        )

    async def note_released(self, uuid: SessionId, at: datetime | None) -> datetime | None:
        if uuid not in self.sessions:
            raise SessionNotFound
        since = at and (self.sessions[uuid].released_at or at)
        self.sessions[uuid] = replace(self.sessions[uuid], released_at=since)
        return since

    async def forget(self, uuid: SessionId) -> None:
        record = self.sessions.pop(uuid, None)
        self.half.pop(uuid, None)
        self.queues.unreadable_records.pop(uuid, None)
        self.queues.drop(uuid)
        self.progress.drop(uuid)
        self.history.kept.pop(uuid, None)
        if uuid in self.ids:
            self.ids.remove(uuid)
        if record is not None and self.users.get(record.user_id) == uuid:
            del self.users[record.user_id]

    async def index_complete(self) -> bool:
        return self.index_is_complete

    async def mark_index_complete(self) -> None:
        self.index_is_complete = True

    @asynccontextmanager
    async def lock(self, uuid: SessionId) -> AsyncIterator["MemoryLock"]:
        if uuid in self.held:
            raise SessionBusy(retry_after=1)
        self.held.add(uuid)
        try:
            yield MemoryLock(self, uuid)
        finally:
            self.held.remove(uuid)

    async def ping(self) -> None:
        pass

    def _enter(self, uuid: SessionId) -> None:
        if uuid not in self.ids:
            bisect.insort(self.ids, uuid)


@dataclass
class MemoryLock:
    """See `service.domain.ports.SessionLock`."""

    store: MemoryStore
    uuid: SessionId

    async def confirm(self) -> None:
        if self.uuid in self.store.taken_over:
            raise SessionBusy(retry_after=1)
