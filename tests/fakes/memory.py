"""The ports without any part behind them, for tests of the domain: what the real ones promise, in short.

tests/contracts holds these and the real adapters to one suite.
"""

import asyncio
import bisect
from collections.abc import AsyncIterator, Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from service.domain.errors import (
    IdTaken,
    IndexIncomplete,
    SessionBusy,
    SessionDeleting,
    SessionNotFound,
    SessionReleased,
    SessionUnreadable,
)
from service.domain.history import LIMIT, POD, mark
from service.domain.journal import HistoryEvent, Woken
from service.domain.names import SessionId, release_name
from service.domain.ports import TICKETS
from service.domain.progress import LAST, Event, ProgressUpdate, Stage
from service.domain.session import (
    IdleTimes,
    PushResult,
    QueueState,
    Record,
    RecordStatus,
    Release,
    ReleaseState,
    ScaledBy,
    SleepRequest,
    Workload,
)
from service.domain.signing_key import SigningKey, StoredKeys

T = TypeVar("T")


async def _heard(listeners: list[asyncio.Queue[T]], *first: T) -> AsyncIterator[T]:
    """`first`, and then whatever is put for all listeners, for as long as somebody asks."""
    heard: asyncio.Queue[T] = asyncio.Queue()
    for each in first:
        heard.put_nowait(each)
    listeners.append(heard)
    try:
        while True:
            yield await heard.get()
    finally:
        listeners.remove(heard)


@dataclass
class MemoryStore:
    """See `service.domain.ports.Store`; the queue_states are those of `queues`."""

    queues: "MemoryQueues" = field(default_factory=lambda: MemoryQueues())  # noqa: PLW0108 - defined below
    progress: "MemoryProgress" = field(default_factory=lambda: MemoryProgress())  # noqa: PLW0108 - defined below
    history: "MemoryHistory" = field(default_factory=lambda: MemoryHistory())  # noqa: PLW0108 - defined below
    users: dict[str, SessionId] = field(default_factory=dict)
    ids: list[SessionId] = field(default_factory=list)
    held: set[SessionId] = field(default_factory=set)
    taken_over: set[SessionId] = field(default_factory=set)
    """Sessions whose session lock another process has taken, as a test wants it."""
    half: dict[SessionId, tuple[datetime, str | None]] = field(default_factory=dict)
    """Unfinished creates and deletes: since when, and whose create."""

    @property
    def unreadable(self) -> int:
        return len(self.queues.spoiled.keys() | self.queues.spoiled_records.keys())

    @property
    def sessions(self) -> dict[SessionId, Record]:
        return self.queues.sessions

    @property
    def is_whole(self) -> bool:
        return self.queues.is_whole

    @is_whole.setter
    def is_whole(self, whole: bool) -> None:
        self.queues.is_whole = whole

    async def owner(self, user_id: str) -> SessionId | None:
        if user_id not in self.users and not self.is_whole:
            raise IndexIncomplete
        return self.users.get(user_id)

    async def claim(self, user_id: str, candidate: SessionId) -> SessionId:
        if user_id in self.users:
            return self.users[user_id]
        record = self.sessions.get(candidate)
        if candidate in self.ids and (record is None or record.user_id != user_id):
            raise IdTaken(candidate)
        self.users[user_id] = candidate
        self._enter(candidate)
        self.half[candidate] = (datetime.now(UTC), user_id)
        return candidate

    async def disclaim(self, user_id: str, uuid: SessionId) -> None:
        if uuid not in self.sessions and self.users.get(user_id) == uuid:
            del self.users[user_id]
            self.ids.remove(uuid)
            self.half.pop(uuid, None)

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        return [(uuid, user_id) for user_id, uuid in self.users.items() if uuid not in self.sessions]

    async def unfinished(self, age: timedelta, limit: int) -> Sequence[tuple[SessionId, str | None]]:
        latest = datetime.now(UTC) - age
        return [(u, user) for u, (at, user) in self.half.items() if at <= latest and u not in self.held][:limit]

    async def finished(self, uuid: SessionId) -> None:
        self.half.pop(uuid, None)

    async def save(self, record: Record) -> None:
        self.half.pop(record.uuid, None)
        self.users.setdefault(record.user_id, record.uuid)
        self._enter(record.uuid)
        kept = self.sessions.get(record.uuid)
        self.queues.spoiled_records.pop(record.uuid, None)
        self.sessions[record.uuid] = replace(
            record,
            queue=QueueState(),
            kept_until=kept.kept_until if kept else None,
            sleep_request=kept.sleep_request if kept else None,
        )

    async def record(self, uuid: SessionId) -> Record:
        records = await self.records([uuid])
        if not records:
            raise SessionNotFound if self.is_whole else IndexIncomplete
        return records[0]

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        return [
            replace(self.sessions[u], queue=self.queues.queue(u), read_error=self.queues.spoiled_records.get(u))
            for u in uuids
            if u in self.sessions
        ]

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        start = bisect.bisect_right(self.ids, after) if after else 0
        return self.ids[start : start + limit]

    async def deleting(self, uuid: SessionId, *, keep_data: bool) -> None:
        if uuid not in self.sessions:
            raise SessionNotFound
        self.sessions[uuid] = replace(self.sessions[uuid], status=RecordStatus.DELETING, keep_data=keep_data)
        self.half[uuid] = (datetime.now(UTC), None)

    async def released(self, uuid: SessionId, at: datetime | None) -> datetime | None:
        if uuid not in self.sessions:
            raise SessionNotFound
        since = at and (self.sessions[uuid].released_at or at)
        self.sessions[uuid] = replace(self.sessions[uuid], released_at=since)
        return since

    async def forget(self, uuid: SessionId) -> None:
        record = self.sessions.pop(uuid, None)
        self.half.pop(uuid, None)
        self.queues.spoiled_records.pop(uuid, None)
        self.queues.drop(uuid)
        self.progress.drop(uuid)
        self.history.kept.pop(uuid, None)
        if uuid in self.ids:
            self.ids.remove(uuid)
        if record is not None and self.users.get(record.user_id) == uuid:
            del self.users[record.user_id]

    async def whole(self) -> bool:
        return self.is_whole

    async def mark_whole(self) -> None:
        self.is_whole = True

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


@dataclass
class MemoryTickets:
    """See `service.domain.ports.Tickets`; `clock` may be moved by a test."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    tickets: dict[SessionId, dict[str, datetime]] = field(default_factory=dict)
    """Id -> digests of open tickets, and when their life ends."""
    former_secret: str | None = None

    async def put(self, digest: str, uuid: SessionId, life: timedelta) -> None:
        live = {each: ends for each, ends in self.tickets.get(uuid, {}).items() if ends > self.clock()}
        live[digest] = self.clock() + life
        self.tickets[uuid] = dict(list(live.items())[-TICKETS:])

    async def take(self, digest: str, uuid: SessionId) -> bool:
        ends = self.tickets.get(uuid, {}).pop(digest, None)
        return ends is not None and ends > self.clock()

    async def drop_secret(self) -> None:
        self.former_secret = None


@dataclass
class MemorySigningKeys:
    """See `service.domain.ports.SigningKeys`: replicas of one service share it."""

    keys: Sequence[SigningKey] = ()
    version: int = 0
    reads: int = 0

    async def read(self) -> StoredKeys:
        self.reads += 1
        return StoredKeys(self.keys, str(self.version) if self.version else None)

    async def replace(self, keys: Sequence[SigningKey], version: str | None) -> bool:
        if version != (str(self.version) if self.version else None):
            return False
        self.keys, self.version = tuple(keys), self.version + 1
        return True


QUEUE_LIMIT = 3


@dataclass
class MemoryQueues:
    """See `service.domain.ports.Queues`; `clock` may be moved by a test."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    sessions: dict[SessionId, Record] = field(default_factory=dict)
    is_whole: bool = False
    tokens: dict[SessionId, tuple[int, datetime | None]] = field(default_factory=dict)
    """Id -> tokens, and when they expire."""
    waiting: dict[SessionId, datetime] = field(default_factory=dict)
    """Pending wakes."""
    spoiled: dict[SessionId, str] = field(default_factory=dict)
    """Queues that cannot be read, and why."""
    spoiled_records: dict[SessionId, str] = field(default_factory=dict)
    pushed_at: dict[SessionId, datetime] = field(default_factory=dict)
    listeners: list[asyncio.Queue[SessionId | None]] = field(default_factory=list)

    async def wake(self, uuid: SessionId, lease: timedelta) -> PushResult:
        first = uuid not in self.waiting
        return PushResult(await self.heartbeat(uuid, "wake", lease), first)

    async def heartbeat(self, uuid: SessionId, source: str, lease: timedelta) -> int:
        length = self._push(uuid, lease)
        self.sessions[uuid] = replace(self.sessions[uuid], last_activity=self.clock(), activity_source=source)
        return length

    async def keep_awake(self, uuid: SessionId, until: datetime, lease: timedelta) -> datetime:
        self._push(uuid, lease)
        latest = max(until, self.sessions[uuid].kept_until or until)
        self.sessions[uuid] = replace(self.sessions[uuid], kept_until=latest)
        return latest

    async def clear(self, uuid: SessionId, *, asked: str | None = None) -> None:
        self.drop(uuid)
        if uuid in self.sessions:
            ask = SleepRequest(self.clock(), asked) if asked else self.sessions[uuid].sleep_request
            self.sessions[uuid] = replace(self.sessions[uuid], kept_until=None, sleep_request=ask)

    async def read(self, uuids: Sequence[SessionId]) -> Mapping[SessionId, QueueState]:
        return {uuid: self.queue(uuid) for uuid in uuids}

    async def pending(self, age: timedelta, limit: int) -> Sequence[SessionId]:
        ordered = sorted(self.waiting, key=lambda uuid: self.waiting[uuid])
        return [uuid for uuid in ordered if self.waiting[uuid] <= self.clock() - age][:limit]

    async def renew(self, uuid: SessionId, lease: timedelta) -> None:
        self._extend(uuid, max(1, self.queue(uuid).tokens), lease)
        self.waiting.setdefault(uuid, self.clock())

    async def settle(self, uuid: SessionId, seen: datetime) -> None:
        if uuid in self.waiting and self.waiting[uuid] < seen:
            del self.waiting[uuid]
            pushed = self.pushed_at.get(uuid)
            if pushed is not None and pushed >= seen:
                self.waiting[uuid] = pushed

    def pushes(self) -> AsyncIterator[SessionId | None]:
        return _heard(self.listeners, None)

    def push_by_hand(self, uuid: SessionId, until: datetime | None = None) -> None:
        """What `redis-cli RPUSH` does, with or without an EXPIRE."""
        self.tokens[uuid] = (self.queue(uuid).tokens + 1, until)
        for heard in self.listeners:
            heard.put_nowait(uuid)

    def queue(self, uuid: SessionId) -> QueueState:
        if uuid in self.spoiled:
            return QueueState(read_error=self.spoiled[uuid])
        count, until = self.tokens.get(uuid, (0, None))
        if until is not None and until <= self.clock():
            count, until = 0, None
        return QueueState(count, until if count else None, self.waiting.get(uuid))

    def drop(self, uuid: SessionId) -> None:
        for part in (self.tokens, self.waiting, self.pushed_at, self.spoiled):
            part.pop(uuid, None)

    def _push(self, uuid: SessionId, lease: timedelta) -> int:
        record = self.sessions.get(uuid)
        if record is None:
            raise SessionNotFound if self.is_whole else IndexIncomplete
        if record.status is RecordStatus.DELETING:
            raise SessionDeleting
        if fault := self.spoiled_records.get(uuid) or self.spoiled.get(uuid):
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


@dataclass
class MemoryProgress:
    """See `service.domain.ports.Progress`."""

    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    wakes: dict[SessionId, list[Event]] = field(default_factory=dict)
    flags: list[tuple[SessionId, asyncio.Event]] = field(default_factory=list)
    count: int = 0

    async def note(self, uuid: SessionId, *news: ProgressUpdate) -> bool:
        taken = [self._note(uuid, each) for each in news]
        return any(taken)

    async def wake(self, uuid: SessionId) -> Sequence[Event]:
        return list(self.wakes.get(uuid, ()))

    @contextmanager
    def following(self, uuid: SessionId) -> Iterator[asyncio.Event]:
        entry = (uuid, asyncio.Event())
        self.flags.append(entry)
        try:
            yield entry[1]
        finally:
            self.flags = [each for each in self.flags if each is not entry]

    def drop(self, uuid: SessionId) -> None:
        self.wakes.pop(uuid, None)
        self._tell(uuid)

    def _note(self, uuid: SessionId, news: ProgressUpdate) -> bool:
        wake = self.wakes.get(uuid, [])
        stages = {event.stage for event in wake}
        if news.stage is Stage.ACCEPTED and (not wake or stages & LAST):
            wake, stages = self.wakes.setdefault(uuid, []), set()
            wake.clear()
        elif not wake or stages & {Stage.READY, Stage.ASLEEP}:
            return False
        if not any(_same(event, news) for event in wake):
            now, self.count = self.clock(), self.count + 1
            began = wake[0].at if wake else now
            wake.append(
                Event(
                    f"{int(now.timestamp() * 1000)}-{self.count}", news.stage, now, now - began, news.reason, news.final
                )
            )
            self._tell(uuid)
        return True

    def _tell(self, uuid: SessionId) -> None:
        for followed, flag in self.flags:
            if followed == uuid:
                flag.set()


def _same(event: Event, news: ProgressUpdate) -> bool:
    """Whether the news are noted already: each stage once, each warning, a failure once more when it is final."""
    if event.stage is not news.stage:
        return False
    return event.reason == news.reason if news.stage is Stage.WARNING else event.final or not news.final


@dataclass
class MemoryHistory:
    """See `service.domain.ports.History`; `sessions` are those that have a record."""

    sessions: Container[SessionId] = ()
    kept: dict[SessionId, list[HistoryEvent]] = field(default_factory=dict)
    """The newest first."""

    async def append(self, event: HistoryEvent) -> bool:
        if event.uuid is None or event.uuid not in self.sessions:
            return False
        events = self.kept.setdefault(event.uuid, [])
        if any(mark(event) == mark(each) for each in events):
            return False
        if not isinstance(event, Woken) and event.pod is not None:
            event = replace(event, pod=event.pod[:POD])
        events.insert(0, replace(event, user=None))
        del events[LIMIT:]
        return True

    async def events(self, uuid: SessionId) -> Sequence[HistoryEvent]:
        return list(self.kept.get(uuid, ()))


@dataclass
class MemoryCluster:
    """See `service.domain.ports.Cluster` and `WorkloadCache`: the workloads are all there is."""

    workloads: dict[SessionId, Workload] = field(default_factory=dict)
    listeners: list[Callable[[SessionId], None]] = field(default_factory=list)

    async def read(self, uuids: Sequence[SessionId]) -> dict[SessionId, Workload]:
        return {uuid: self.workloads.get(uuid) or Workload(uuid) for uuid in uuids}

    async def scan(self) -> AsyncIterator[Workload]:
        for workload in list(self.workloads.values()):
            yield workload

    async def find(self, user_id: str) -> SessionId | None:
        return next(
            (w.uuid for w in self.workloads.values() if w.user_id == user_id and (w.deployed or w.volume)), None
        )

    async def reserve(self, uuid: SessionId, user_id: str) -> None:
        present = self.workloads.get(uuid)
        if present is not None and present.deployed:
            if present.user_id != user_id:
                raise IdTaken(uuid)
            return
        base = present or Workload(uuid)
        self.change(replace(base, user_id=user_id, deployed=True, replicas=0, created_at=datetime.now(UTC)))

    async def unreserve(self, uuid: SessionId) -> None:
        if uuid in self.workloads:
            self.keep(replace(self.workloads[uuid], deployed=False))

    async def scale(self, uuid: SessionId, replicas: int) -> None:
        if uuid not in self.workloads or not self.workloads[uuid].deployed:
            raise SessionReleased
        workload = self.workloads[uuid]
        by = ScaledBy.SERVICE if replicas != workload.replicas else workload.scaled_by
        self.change(replace(workload, replicas=replicas, ready=min(workload.ready, replicas), scaled_by=by))

    async def park(self, uuid: SessionId) -> None:
        self._pause(uuid, parked=True)

    async def unpark(self, uuid: SessionId) -> None:
        self._pause(uuid, parked=False)

    def _pause(self, uuid: SessionId, *, parked: bool) -> None:
        if uuid in self.workloads and self.workloads[uuid].scaled:
            self.change(replace(self.workloads[uuid], parked=parked))

    async def delete_volume(self, uuid: SessionId) -> None:
        if uuid in self.workloads:
            self.keep(replace(self.workloads[uuid], volume=False))

    async def check(self) -> None:
        pass

    async def check_keda(self) -> None:
        pass

    def keep(self, workload: Workload) -> None:
        """Store what is left of a workload; nothing left is no entry."""
        if workload.anything:
            self.workloads[workload.uuid] = workload
        else:
            self.workloads.pop(workload.uuid, None)
        self._tell(workload.uuid)

    # --- the WorkloadCache on it, never behind ---

    def workload(self, uuid: SessionId) -> Workload:
        return self.workloads.get(uuid) or Workload(uuid)

    def uuids(self) -> Iterable[SessionId]:
        return list(self.workloads)

    def behind(self) -> timedelta | None:
        return None

    def subscribe(self, listener: Callable[[SessionId], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def change(self, workload: Workload) -> None:
        """Put the workload in the place of what was there, and tell the listeners."""
        self.workloads[workload.uuid] = workload
        self._tell(workload.uuid)

    def _tell(self, uuid: SessionId) -> None:
        for listener in [*self.listeners]:
            listener(uuid)


@dataclass
class MemoryPodEvents:
    """See `service.domain.ports.PodEvents`: tells what a test tells it."""

    listeners: list[asyncio.Queue[tuple[SessionId, str, ProgressUpdate]]] = field(default_factory=list)

    def news(self) -> AsyncIterator[tuple[SessionId, str, ProgressUpdate]]:
        return _heard(self.listeners)

    def tell(self, uuid: SessionId, pod_uid: str, news: ProgressUpdate) -> None:
        for heard in self.listeners:
            heard.put_nowait((uuid, pod_uid, news))


@dataclass
class MemoryReleases:
    """See `service.domain.ports.Releases`: installs into a MemoryCluster, volume included, and counts."""

    cluster: MemoryCluster
    installs: int = 0

    async def install(self, uuid: SessionId, user_id: str, idle_times: IdleTimes) -> None:
        self.installs += 1
        base = self.cluster.workloads.get(uuid) or Workload(uuid, replicas=1)
        revision = base.release.revision + 1 if base.release else 1
        release = Release(release_name(uuid), revision, ReleaseState.DEPLOYED, datetime.now(UTC))
        whole = replace(base, user_id=user_id, release=release, deployed=True, scaled=True, volume=True)
        self.cluster.change(replace(whole, idle_times=idle_times, chart="user-pod-0.1.0"))

    async def uninstall(self, uuid: SessionId) -> None:
        workload = self.cluster.workloads.get(uuid)
        if workload is not None:
            left = replace(workload, release=None, deployed=False, scaled=False, parked=False, replicas=0, ready=0)
            self.cluster.keep(replace(left, idle_times=None, last_active=None, chart=None))

    async def check(self) -> None:
        pass


@dataclass
class MemoryElection:
    """See `service.domain.ports.Election`: candidates of one election share `lease`."""

    identity: str
    term: timedelta = timedelta(seconds=10)
    lease: dict[str, datetime] = field(default_factory=dict)
    """The holder, and until when."""
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    async def stand(self) -> bool:
        others = [until for holder, until in self.lease.items() if holder != self.identity]
        if any(until > self.clock() for until in others):
            return False
        self.lease.clear()
        self.lease[self.identity] = self.clock() + self.term
        return True

    async def resign(self) -> None:
        self.lease.pop(self.identity, None)
