"""The Queues in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from service.domain.errors import IndexIncomplete, SessionDeleting, SessionNotFound, SessionUnreadable
from service.domain.names import SessionId
from service.domain.queue_state import PushResult, QueueState
from service.domain.record import Record, RecordStatus, SleepRequest
from tests.fakes.listeners import listen

QUEUE_LIMIT = 3


@dataclass
class MemoryQueues:
    """See `service.domain.ports.Queues`; a test may move `clock`."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    sessions: dict[SessionId, Record] = field(default_factory=dict)
    index_is_complete: bool = False
    tokens: dict[SessionId, tuple[int, datetime | None]] = field(default_factory=dict)
    """Id -> tokens, and when they expire."""
    waiting: dict[SessionId, datetime] = field(default_factory=dict)
    """Pending wakes."""
    unreadable_queues: dict[SessionId, str] = field(default_factory=dict)
    """Queues that cannot be read, and why."""
    unreadable_records: dict[SessionId, str] = field(default_factory=dict)
    pushed_at: dict[SessionId, datetime] = field(default_factory=dict)
    listeners: list[asyncio.Queue[SessionId | None]] = field(default_factory=list)

    async def wake(self, uuid: SessionId, lease: timedelta) -> PushResult:
        first = uuid not in self.waiting
        length = await self.heartbeat(uuid, "wake", lease)
        self._take_back(uuid)
        return PushResult(length, first)

    async def heartbeat(self, uuid: SessionId, source: str, lease: timedelta, ago: timedelta = timedelta(0)) -> int:
        length = self._push(uuid, lease)
        at, before = self.clock() - ago, self.sessions[uuid].last_activity
        if before is None or at >= before:
            self.sessions[uuid] = replace(self.sessions[uuid], last_activity=at, activity_source=source)
        return length

    async def background(self, uuid: SessionId, lease: timedelta, limit: timedelta) -> bool:
        record, now = self.sessions.get(uuid), self.clock()
        if record is None or record.status is not RecordStatus.CREATED or uuid in self.unreadable_records:
            return False
        self.sessions[uuid] = record = replace(record, last_output=now)
        if limit <= timedelta(0):
            return False
        if record.last_activity is None:
            self.sessions[uuid] = record = replace(record, last_activity=now, activity_source="background")
        last = record.last_activity or now
        left = min(lease, last + limit - now)
        asked = record.sleep_request is not None and record.sleep_request.at > last
        if left <= timedelta(0) or asked or uuid in self.unreadable_queues:
            return False
        self._push(uuid, left)
        return True

    async def spare(self, uuid: SessionId, until: datetime) -> datetime:
        record = self._sparable(uuid)
        latest = max(until, record.spared_until or until)
        self.sessions[uuid] = replace(record, spared_until=latest, deletion_warning=None)
        return latest

    async def end_sparing(self, uuid: SessionId) -> None:
        self.sessions[uuid] = replace(self._sparable(uuid), spared_until=None)

    def _sparable(self, uuid: SessionId) -> Record:
        record = self.sessions.get(uuid)
        if record is None:
            raise SessionNotFound
        if record.status is RecordStatus.DELETING:
            raise SessionDeleting
        return record

    async def end_extension(self, uuid: SessionId, lease: timedelta) -> None:
        if uuid not in self.sessions:
            raise SessionNotFound
        self.sessions[uuid] = replace(self.sessions[uuid], kept_until=None)
        queue = self.queue(uuid)
        if queue.lease_until is not None:
            self.tokens[uuid] = (queue.tokens, min(queue.lease_until, self.clock() + lease))

    async def keep_awake(self, uuid: SessionId, until: datetime, lease: timedelta) -> datetime:
        self._push(uuid, lease)
        self._take_back(uuid)
        latest = max(until, self.sessions[uuid].kept_until or until)
        self.sessions[uuid] = replace(self.sessions[uuid], kept_until=latest)
        return latest

    async def announce_sleep(self, uuid: SessionId, within: timedelta) -> datetime | None:
        record, now = self.sessions.get(uuid), self.clock()
        if record is None:
            return None
        if record.sleep_due is None or not now < record.sleep_due <= now + within:
            record = self.sessions[uuid] = replace(record, sleep_due=now + within)
        return record.sleep_due

    async def clear(
        self, uuid: SessionId, *, asked: str | None = None, by: str = "", announced: datetime | None = None
    ) -> bool:
        if announced is not None and uuid in self.sessions and self.sessions[uuid].sleep_due != announced:
            return False
        self.drop(uuid)
        if uuid in self.sessions:
            ask = SleepRequest(self.clock(), asked, by or None) if asked else self.sessions[uuid].sleep_request
            self.sessions[uuid] = replace(
                self.sessions[uuid], kept_until=None, sleep_request=ask, sleep_due=None, renewed_until=None
            )
        return True

    async def read(self, uuids: Sequence[SessionId]) -> Mapping[SessionId, QueueState]:
        return {uuid: self.queue(uuid) for uuid in uuids}

    async def pending(self, age: timedelta, limit: int) -> Sequence[SessionId]:
        ordered = sorted(self.waiting, key=lambda uuid: self.waiting[uuid])
        return [uuid for uuid in ordered if self.waiting[uuid] <= self.clock() - age][:limit]

    async def renew(self, uuid: SessionId, lease: timedelta) -> None:
        record, since = self.sessions.get(uuid), self.waiting.get(uuid)
        if record is not None and since is not None and record.last_activity and record.last_activity >= since:
            self.sessions[uuid] = replace(record, renewed_until=self.clock() + lease)
        self._extend(uuid, max(1, self.queue(uuid).tokens), lease)
        self.waiting.setdefault(uuid, self.clock())

    async def settle(self, uuid: SessionId, seen: datetime) -> None:
        if uuid in self.waiting and self.waiting[uuid] < seen:
            del self.waiting[uuid]
            pushed = self.pushed_at.get(uuid)
            if pushed is not None and pushed >= seen:
                self.waiting[uuid] = pushed

    def pushes(self) -> AsyncIterator[SessionId | None]:
        return listen(self.listeners, None)

    def push_by_hand(self, uuid: SessionId, until: datetime | None = None) -> None:
        """What `redis-cli RPUSH` does, with or without an EXPIRE."""
        self.tokens[uuid] = (self.queue(uuid).tokens + 1, until)
        for heard in self.listeners:
            heard.put_nowait(uuid)

    def queue(self, uuid: SessionId) -> QueueState:
        if uuid in self.unreadable_queues:
            return QueueState(read_error=self.unreadable_queues[uuid])
        count, until = self.tokens.get(uuid, (0, None))
        if until is not None and until <= self.clock():
            count, until = 0, None
        return QueueState(count, until if count else None, self.waiting.get(uuid))

    def drop(self, uuid: SessionId) -> None:
        for part in (self.tokens, self.waiting, self.pushed_at, self.unreadable_queues):
            part.pop(uuid, None)

    def _take_back(self, uuid: SessionId) -> None:
        self.sessions[uuid] = replace(self.sessions[uuid], sleep_due=None)

    def _push(self, uuid: SessionId, lease: timedelta) -> int:
        record = self.sessions.get(uuid)
        if record is None:
            raise SessionNotFound if self.index_is_complete else IndexIncomplete
        if record.status is RecordStatus.DELETING:
            raise SessionDeleting
        if fault := self.unreadable_records.get(uuid) or self.unreadable_queues.get(uuid):
            raise SessionUnreadable(fault)
        length = min(self.queue(uuid).tokens + 1, QUEUE_LIMIT)
        self._extend(uuid, length, lease)
        self.pushed_at[uuid] = self.clock()
        self.waiting.setdefault(uuid, self.clock())
        for heard in self.listeners:
            heard.put_nowait(uuid)
        return length

    def _extend(self, uuid: SessionId, count: int, lease: timedelta) -> None:
        until = self.queue(uuid).lease_until
        new = self.clock() + lease
        self.tokens[uuid] = (count, max(until, new) if until else new)
