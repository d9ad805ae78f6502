"""The Releases in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

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

    async def install(
        self, uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment = UNASSIGNED
    ) -> None:
        self.installs += 1
        base = self.cluster.workloads.get(uuid) or Workload(uuid, replicas=1)
        revision = base.release.revision + 1 if base.release else 1
        release = Release(release_name(uuid), revision, ReleaseState.DEPLOYED, datetime.now(UTC))
        whole = replace(base, user_id=user_id, release=release, deployed=True, has_scaler=True, volume=True)
        self.cluster.change(replace(whole, idle_times=idle_times, assignment=assignment, chart="user-pod-0.1.0"))

    async def uninstall(self, uuid: SessionId) -> None:
        workload = self.cluster.workloads.get(uuid)
        if workload is not None:
            left = replace(workload, release=None, deployed=False, has_scaler=False, parked=False, replicas=0, ready=0)
            self.cluster.keep(replace(left, idle_times=None, last_active=None, chart=None, revoked_at=None))

    async def check(self) -> None:
        pass

    async def rendered(self) -> Mapping[str | None, Sequence[Mapping[str, Any]]]:
        return {None: self.objects, **self.objects_by_profile}
