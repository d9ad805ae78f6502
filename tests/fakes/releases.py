"""The Releases in memory."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from service.domain.errors import SessionBroken, SessionError
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId, release_name
from service.domain.release import Release, ReleaseState
from service.domain.workload import UNASSIGNED, Assignment, Workload
from tests.fakes.cluster import MemoryCluster


@dataclass
class MemoryReleases:
    """See `service.domain.ports.Releases`: installs into a MemoryCluster, with the volume, and counts the installs."""

    cluster: MemoryCluster
    installs: int = 0
    objects: Sequence[Mapping[str, Any]] = ({"kind": "NetworkPolicy"},)
    """What the chart renders without a profile."""
    objects_by_profile: Mapping[str | None, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    target: str = "first"
    of_profiles: dict[str | None, str | None] = field(default_factory=dict)
    """The revisions of sessions with a profile, where they are others than the target."""
    failing: dict[SessionId, SessionError] = field(default_factory=dict)
    """Sessions whose upgrades fail half-way."""
    upgrades: list[SessionId] = field(default_factory=list)
    rollbacks: list[SessionId] = field(default_factory=list)
    revisions: dict[tuple[SessionId, int], str | None] = field(default_factory=dict)
    """The revision of the chart and its values in each of helm's revisions."""
    at_work: int = 0
    most_at_work: int = 0
    seconds: float = 0
    """How long an upgrade takes."""

    async def install(
        self, uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment = UNASSIGNED
    ) -> None:
        self.installs += 1
        base = self.cluster.workloads.get(uuid) or Workload(uuid, replicas=1)
        number = base.release.revision + 1 if base.release else 1
        release = Release(release_name(uuid), number, ReleaseState.DEPLOYED, datetime.now(UTC))
        whole = replace(base, user_id=user_id, release=release, deployed=True, has_scaler=True, volume=True)
        revision = self.revisions[uuid, number] = self.revision(assignment)
        whole = replace(whole, installed_revision=number, revision=revision)
        self.cluster.change(replace(whole, idle_times=idle_times, assignment=assignment, chart="user-pod-0.1.0"))

    def revision(self, assignment: Assignment) -> str | None:
        return self.of_profiles.get(assignment.profile, self.target)

    async def upgrade(self, workload: Workload) -> None:
        uuid, revision = workload.uuid, self.revision(workload.assignment)
        if revision is None:
            raise SessionBroken
        self.upgrades.append(uuid)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            self._put(uuid, ReleaseState.PENDING_UPGRADE, revision=self.cluster.workload(uuid).revision)
            await asyncio.sleep(self.seconds)
            if uuid in self.failing:
                self._end(uuid, ReleaseState.FAILED, revision)
                raise self.failing[uuid]
            self._end(uuid, ReleaseState.DEPLOYED, revision)
        finally:
            self.at_work -= 1

    async def rollback(self, uuid: SessionId, number: int) -> None:
        self.rollbacks.append(uuid)
        before = self.revisions[uuid, number]
        self._put(uuid, ReleaseState.PENDING_ROLLBACK, revision=self.cluster.workload(uuid).revision)
        await asyncio.sleep(0)
        self._end(uuid, ReleaseState.DEPLOYED, before)

    def _put(self, uuid: SessionId, state: ReleaseState, *, revision: str | None) -> None:
        """Begin a revision of helm's."""
        workload = self.cluster.workload(uuid)
        number = workload.release.revision + 1 if workload.release else 1
        release = Release(release_name(uuid), number, state, datetime.now(UTC))
        self.cluster.change(replace(workload, release=release, revision=revision))

    def _end(self, uuid: SessionId, state: ReleaseState, revision: str | None) -> None:
        workload = self.cluster.workload(uuid)
        assert workload.release is not None
        number, installed = workload.release.revision, workload.installed_revision
        self.revisions[uuid, number] = revision
        self.cluster.change(
            replace(
                workload,
                release=replace(workload.release, state=state, modified_at=datetime.now(UTC)),
                installed_revision=number if state is ReleaseState.DEPLOYED else installed,
                revision=revision,
            )
        )

    async def uninstall(self, uuid: SessionId) -> None:
        workload = self.cluster.workloads.get(uuid)
        if workload is not None:
            left = replace(workload, release=None, deployed=False, has_scaler=False, parked=False, replicas=0, ready=0)
            left = replace(left, idle_times=None, last_active=None, chart=None, revoked_at=None, revision=None)
            labels = replace(left.assignment, idle_times=None)
            self.cluster.keep(replace(left, installed_revision=None, assignment=labels))

    async def check(self) -> None:
        pass

    async def rendered(self) -> Mapping[str | None, Sequence[Mapping[str, Any]]]:
        return {None: self.objects, **self.objects_by_profile}
