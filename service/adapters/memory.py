"""The ports without any part behind them, for tests of the domain: what the real ones promise, in short.

tests/contracts holds these and the real adapters to one suite.
"""

import bisect
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from service.domain.errors import (
    IdTaken,
    IndexIncomplete,
    SessionBusy,
    SessionDeleting,
    SessionNotFound,
    SessionReleased,
)
from service.domain.names import SessionId, release_name
from service.domain.session import Record, RecordStatus, Release, ReleaseState, Workload

QUEUE_LIMIT = 3


@dataclass
class MemoryStore:
    """See `service.domain.ports.Store`; `clock` gives seconds and may be moved by a test."""

    lease: timedelta = timedelta(seconds=15)
    clock: Callable[[], float] = time.time
    users: dict[str, SessionId] = field(default_factory=dict)
    ids: list[SessionId] = field(default_factory=list)
    sessions: dict[SessionId, Record] = field(default_factory=dict)
    queues: dict[SessionId, tuple[int, float]] = field(default_factory=dict)
    """Id -> tokens and when they expire."""
    held: set[SessionId] = field(default_factory=set)
    is_whole: bool = False

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
        return candidate

    async def disclaim(self, user_id: str, uuid: SessionId) -> None:
        if uuid not in self.sessions and self.users.get(user_id) == uuid:
            del self.users[user_id]
            self.ids.remove(uuid)

    async def claims(self) -> Sequence[tuple[SessionId, str]]:
        return [(uuid, user_id) for user_id, uuid in self.users.items() if uuid not in self.sessions]

    async def save(self, record: Record) -> None:
        self.users.setdefault(record.user_id, record.uuid)
        self._enter(record.uuid)
        self.sessions[record.uuid] = replace(record, queue_length=0)

    async def record(self, uuid: SessionId) -> Record:
        records = await self.records([uuid])
        if not records:
            raise SessionNotFound if self.is_whole else IndexIncomplete
        return records[0]

    async def records(self, uuids: Sequence[SessionId]) -> Sequence[Record]:
        return [replace(self.sessions[u], queue_length=self._length(u)) for u in uuids if u in self.sessions]

    async def page(self, after: str, limit: int) -> Sequence[SessionId]:
        start = bisect.bisect_right(self.ids, after) if after else 0
        return self.ids[start : start + limit]

    async def deleting(self, uuid: SessionId, *, keep_data: bool) -> None:
        if uuid not in self.sessions:
            raise SessionNotFound
        self.sessions[uuid] = replace(self.sessions[uuid], status=RecordStatus.DELETING, keep_data=keep_data)

    async def forget(self, uuid: SessionId) -> None:
        record = self.sessions.pop(uuid, None)
        self.queues.pop(uuid, None)
        if uuid in self.ids:
            self.ids.remove(uuid)
        if record is not None and self.users.get(record.user_id) == uuid:
            del self.users[record.user_id]

    async def wake(self, uuid: SessionId) -> int:
        if uuid not in self.sessions:
            raise SessionNotFound
        if self.sessions[uuid].status is RecordStatus.DELETING:
            raise SessionDeleting
        now = self.clock()
        length = min(self._length(uuid) + 1, QUEUE_LIMIT)
        self.queues[uuid] = (length, now + self.lease.total_seconds())
        self.sessions[uuid] = replace(self.sessions[uuid], last_activity=datetime.fromtimestamp(now, UTC))
        return length

    async def hush(self, uuid: SessionId) -> None:
        self.queues.pop(uuid, None)

    async def whole(self) -> bool:
        return self.is_whole

    async def mark_whole(self) -> None:
        self.is_whole = True

    @asynccontextmanager
    async def working(self, uuid: SessionId) -> AsyncIterator[None]:
        if uuid in self.held:
            raise SessionBusy(retry_after=1)
        self.held.add(uuid)
        try:
            yield
        finally:
            self.held.remove(uuid)

    async def ping(self) -> None:
        pass

    def _enter(self, uuid: SessionId) -> None:
        if uuid not in self.ids:
            bisect.insort(self.ids, uuid)

    def _length(self, uuid: SessionId) -> int:
        tokens, until = self.queues.get(uuid, (0, 0.0))
        return tokens if self.clock() < until else 0


@dataclass
class MemoryCluster:
    """See `service.domain.ports.Cluster`: the workloads are all there is."""

    workloads: dict[SessionId, Workload] = field(default_factory=dict)

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
        self.workloads[uuid] = replace(base, user_id=user_id, deployed=True, replicas=0, created_at=datetime.now(UTC))

    async def unreserve(self, uuid: SessionId) -> None:
        if uuid in self.workloads:
            self.keep(replace(self.workloads[uuid], deployed=False))

    async def put_to_sleep(self, uuid: SessionId) -> None:
        if uuid not in self.workloads or not self.workloads[uuid].deployed:
            raise SessionReleased
        self.workloads[uuid] = replace(self.workloads[uuid], replicas=0, ready=0)

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


@dataclass
class MemoryReleases:
    """See `service.domain.ports.Releases`: installs into a MemoryCluster, volume included, and counts."""

    cluster: MemoryCluster
    installs: int = 0

    async def install(self, uuid: SessionId, user_id: str) -> None:
        self.installs += 1
        base = self.cluster.workloads.get(uuid) or Workload(uuid, replicas=1)
        revision = base.release.revision + 1 if base.release else 1
        release = Release(release_name(uuid), revision, ReleaseState.DEPLOYED, datetime.now(UTC))
        self.cluster.workloads[uuid] = replace(
            base, user_id=user_id, release=release, deployed=True, scaled=True, volume=True, chart="user-pod-0.1.0"
        )

    async def uninstall(self, uuid: SessionId) -> None:
        workload = self.cluster.workloads.get(uuid)
        if workload is not None:
            self.cluster.keep(replace(workload, release=None, deployed=False, scaled=False, replicas=0, ready=0))

    async def check(self) -> None:
        pass
