"""Decorates any Releases with metrics: how long each run of helm took, and how it ended."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from service.domain.idle_times import IdleTimes
from service.domain.metrics import HelmWork, ServiceMetrics
from service.domain.names import SessionId
from service.domain.ports import Releases
from service.domain.workload import UNASSIGNED, Assignment, Workload


class MeasuredReleases:
    """See `service.domain.ports.Releases`."""

    def __init__(self, releases: Releases, metrics: ServiceMetrics) -> None:
        self._releases = releases
        self._metrics = metrics

    async def install(
        self, uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment = UNASSIGNED
    ) -> None:
        with self._timed(HelmWork.INSTALL):
            await self._releases.install(uuid, user_id, idle_times, assignment)

    @property
    def target(self) -> str:
        return self._releases.target

    def revision(self, assignment: Assignment) -> str | None:
        return self._releases.revision(assignment)

    async def upgrade(self, workload: Workload) -> None:
        with self._timed(HelmWork.UPGRADE):
            await self._releases.upgrade(workload)

    async def rollback(self, uuid: SessionId, number: int) -> None:
        with self._timed(HelmWork.ROLLBACK):
            await self._releases.rollback(uuid, number)

    async def uninstall(self, uuid: SessionId) -> None:
        with self._timed(HelmWork.UNINSTALL):
            await self._releases.uninstall(uuid)

    async def check(self) -> None:
        await self._releases.check()

    async def rendered(self) -> Mapping[str | None, Sequence[Mapping[str, Any]]]:
        return await self._releases.rendered()

    @contextmanager
    def _timed(self, work: HelmWork) -> Iterator[None]:
        started, well = time.monotonic(), False
        try:
            yield
            well = True
        finally:
            self._metrics.helm_ran(work, time.monotonic() - started, well=well)
