"""The Cluster in memory, and the WorkloadCache that is never behind it."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from service.domain.errors import IdTaken, SessionReleased
from service.domain.names import SessionId
from service.domain.workload import UNASSIGNED, Assignment, ScaledBy, Workload


@dataclass
class MemoryCluster:
    """See `service.domain.ports.Cluster` and `WorkloadCache`: `workloads` is the whole cluster."""

    workloads: dict[SessionId, Workload] = field(default_factory=dict)
    listeners: list[Callable[[SessionId], None]] = field(default_factory=list)
    has_synced: bool = True
    agreeing: set[tuple[SessionId, str]] = field(default_factory=set)
    """Field managers that have set what helm has set, to the same values."""

    async def read(self, uuids: Sequence[SessionId]) -> dict[SessionId, Workload]:
        return {uuid: self.workloads.get(uuid) or Workload(uuid) for uuid in uuids}

    async def scan(self) -> AsyncIterator[Workload]:
        for workload in list(self.workloads.values()):
            yield workload

    async def find(self, user_id: str) -> SessionId | None:
        return next(
            (w.uuid for w in self.workloads.values() if w.user_id == user_id and (w.deployed or w.volume)), None
        )

    async def reserve(self, uuid: SessionId, user_id: str, assignment: Assignment = UNASSIGNED) -> None:
        present = self.workloads.get(uuid)
        if present is not None and present.deployed:
            if present.user_id != user_id:
                raise IdTaken(uuid)
            return
        base = present or Workload(uuid)
        fresh = replace(base, user_id=user_id, assignment=assignment, deployed=True, replicas=0)
        self.change(replace(fresh, created_at=datetime.now(UTC)))

    async def unreserve(self, uuid: SessionId) -> None:
        if uuid in self.workloads:
            left = self.workloads[uuid]
            self.keep(replace(left, deployed=False, assignment=replace(left.assignment, idle_times=None)))

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
        if uuid in self.workloads and self.workloads[uuid].has_scaler:
            self.change(replace(self.workloads[uuid], parked=parked))

    async def revoke(self, uuid: SessionId, at: datetime) -> None:
        if uuid in self.workloads and self.workloads[uuid].deployed:
            self.change(replace(self.workloads[uuid], revoked_at=at.replace(microsecond=0)))

    async def delete_volume(self, uuid: SessionId) -> None:
        if uuid in self.workloads:
            self.keep(replace(self.workloads[uuid], volume=False))

    async def disown(self, uuid: SessionId, managers: Collection[str]) -> bool:
        gone = {(uuid, manager) for manager in managers} & self.agreeing
        self.agreeing -= gone
        return bool(gone)

    async def check(self) -> None:
        pass

    async def check_keda(self) -> None:
        pass

    def keep(self, workload: Workload) -> None:
        """Store what is left of a workload, or remove it when nothing is left."""
        if workload.exists:
            self.workloads[workload.uuid] = workload
        else:
            self.workloads.pop(workload.uuid, None)
        self._notify(workload.uuid)

    # --- the WorkloadCache, which is never behind ---

    def workload(self, uuid: SessionId) -> Workload:
        return self.workloads.get(uuid) or Workload(uuid)

    def session_at(self, address: str) -> SessionId | None:
        found = [w.uuid for w in self.workloads.values() if w.pod is not None and w.pod.address == address]
        return found[0] if len(found) == 1 else None

    def uuids(self) -> Iterable[SessionId]:
        return list(self.workloads)

    def behind(self) -> timedelta | None:
        return None

    def subscribe(self, listener: Callable[[SessionId], None]) -> Callable[[], None]:
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)

    def change(self, workload: Workload) -> None:
        """Replace the workload and call the listeners."""
        self.workloads[workload.uuid] = workload
        self._notify(workload.uuid)

    def _notify(self, uuid: SessionId) -> None:
        for listener in [*self.listeners]:
            listener(uuid)
