"""Helm with a stopwatch: any Releases, each piece of whose work a Meter is told of."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.domain.metrics import HelmWork, Meter
from service.domain.names import SessionId
from service.domain.ports import Releases
from service.domain.session import Rhythm


class MeteredReleases:
    """See `service.domain.ports.Releases`."""

    def __init__(self, releases: Releases, meter: Meter) -> None:
        self._releases = releases
        self._meter = meter

    async def install(self, uuid: SessionId, user_id: str, rhythm: Rhythm) -> None:
        with self._timed(HelmWork.INSTALL):
            await self._releases.install(uuid, user_id, rhythm)

    async def uninstall(self, uuid: SessionId) -> None:
        with self._timed(HelmWork.UNINSTALL):
            await self._releases.uninstall(uuid)

    async def check(self) -> None:
        await self._releases.check()

    @contextmanager
    def _timed(self, work: HelmWork) -> Iterator[None]:
        started, well = time.monotonic(), False
        try:
            yield
            well = True
        finally:
            self._meter.helm_ran(work, time.monotonic() - started, well=well)
