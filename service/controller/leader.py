"""Leader election, and the duties that one replica has for all sessions: resyncs, pending wakes, foreign pushes.

A lease in the cluster decides who leads. Two leaders for a moment do no harm, since every step may be done twice.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from service.controller.leadership import Leadership
from service.controller.reconciler import Reconciler
from service.domain.errors import NotificationsRefused, Unavailable
from service.domain.ports import Election, Queues, WorkloadCache
from service.domain.supervisor import Supervisor, Work

log = logging.getLogger(__name__)

_PENDING_BATCH = 1000
_RESYNC_BATCH = 500


class Leader:
    """`resync_interval`: how often every session is reconciled; `pending_interval`: how often those with pending wakes.

    `duties` run while this replica leads, by the names that they have as parts of the process.
    """

    def __init__(
        self,
        *,
        election: Election,
        leadership: Leadership,
        reconciler: Reconciler,
        queues: Queues,
        cache: WorkloadCache,
        resync_interval: timedelta,
        pending_interval: timedelta,
        duties: Mapping[str, Work] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._election = election
        self._leadership = leadership
        self._reconciler = reconciler
        self._queues = queues
        self._cache = cache
        self._resync_interval = resync_interval.total_seconds()
        self._pending_interval = pending_interval.total_seconds()
        self._supervisor = supervisor or Supervisor()
        self._duties: Mapping[str, Work] = {
            "resync": self._resync_forever,
            "pending wakes": self._enqueue_pending,
            "foreign pushes": self._enqueue_pushed,
            **(duties or {}),
        }
        self._answered = True
        """Whether the last election call had an answer."""
        self.listens: bool | None = None
        """Whether Redis notifies of foreign pushes; None while another replica leads."""

    @property
    def leads(self) -> bool:
        return self._leadership.held

    def remark(self) -> str | None:
        """A note for /health on something that is degraded but does not fail."""
        return NotificationsRefused.message if self.listens is False else None

    async def run(self) -> None:
        """Take part in the election until cancelled; lead while elected."""
        duration = self._election.lease_duration.total_seconds()
        renewed = -duration
        clock = asyncio.get_running_loop().time
        try:
            async with AsyncExitStack() as duties:
                while True:
                    asked, elected = clock(), await self._acquire_or_renew()
                    if elected is not None:
                        renewed = asked if elected else -duration
                    # Without an answer, the lease is ours until the other replicas consider it expired.
                    leads = clock() - renewed < duration * 2 / 3
                    if leads and not self.leads:
                        log.info("this replica leads")
                        await duties.enter_async_context(self._lead())
                    elif not leads and self.leads:
                        log.info("this replica no longer leads")
                        await duties.aclose()
                    await asyncio.sleep(duration / 5 * random.uniform(0.8, 1.2))  # noqa: S311 - only spreads the load
        finally:
            if clock() - renewed < duration:
                await self._release()

    async def _acquire_or_renew(self) -> bool | None:
        """Whether this replica is elected; None without an answer, which is logged once."""
        try:
            elected = await self._election.acquire_or_renew()
        except Unavailable as unavailable:
            if self._answered:
                log.warning("the leader is unknown until %s answers", unavailable.part)
            self._answered = False
            return None
        if not self._answered:
            log.info("the leader is known again")
        self._answered = True
        return elected

    async def _release(self) -> None:
        try:
            await asyncio.shield(asyncio.wait_for(self._election.release(), 2))
        except (Unavailable, TimeoutError):
            log.info("the lease could not be released; it will expire")

    @asynccontextmanager
    async def _lead(self) -> AsyncIterator[None]:
        """Run the duties beside the context."""
        try:
            async with self._supervisor.running(self._duties):
                self._leadership.held = True
                try:
                    yield
                finally:
                    # Before the duties end, which may take a moment: another replica may lead by then.
                    self._leadership.held = False
        finally:
            self.listens = None

    async def _resync_forever(self) -> None:
        while True:
            await self.resync()
            await asyncio.sleep(self._resync_interval * random.uniform(0.9, 1.1))  # noqa: S311 - only spreads the load

    async def resync(self) -> None:
        """Enqueue every session once."""
        for number, uuid in enumerate(self._cache.uuids(), 1):
            self._reconciler.resync(uuid)
            if number % _RESYNC_BATCH == 0:
                await asyncio.sleep(0.01)

    async def _enqueue_pending(self) -> None:
        while True:
            await asyncio.sleep(self._pending_interval)
            try:
                for uuid in await self._queues.pending(timedelta(seconds=self._pending_interval), _PENDING_BATCH):
                    self._reconciler.enqueue(uuid)
            except Unavailable as unavailable:
                log.warning("pending wakes wait until %s answers", unavailable.part)

    async def _enqueue_pushed(self) -> None:
        """Enqueue sessions that anybody pushed to; all of them when a subscription begins, as pushes were missed."""
        while True:
            pause = 1.0
            try:
                async for uuid in self._queues.pushes():
                    if uuid is None:
                        self.listens = True
                        await self.resync()
                    else:
                        self._reconciler.enqueue(uuid)
            except NotificationsRefused as refused:
                if self.listens is not False:
                    log.warning("%s", refused)
                self.listens = False
                pause = self._resync_interval
            except Unavailable as unavailable:
                log.info("foreign pushes are not noticed until %s answers", unavailable.part)
            await asyncio.sleep(pause)
