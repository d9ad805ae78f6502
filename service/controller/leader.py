"""What one replica does for all sessions: it follows every change, listens for foreign pushes, and sweeps.

Which one is decided by a lease in the cluster. Two leaders for a moment do no harm, since every step may be done twice.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

from service.controller.reconciler import Reconciler
from service.domain.errors import NotificationsRefused, Unavailable
from service.domain.ports import Election, Queues, WorkloadCache
from service.domain.supervisor import Supervisor, Work

log = logging.getLogger(__name__)

_PENDING_AT_ONCE = 1000
_SWEEP_BATCH = 500


class Leader:
    """`sweep`: how often everything is looked at, whatever was missed; `pending`: how often unsettled wakes are.

    `duties` of others run while this replica leads, by the names that they have as parts of the process.
    """

    def __init__(
        self,
        *,
        election: Election,
        reconciler: Reconciler,
        queues: Queues,
        cache: WorkloadCache,
        sweep: timedelta,
        pending: timedelta,
        duties: Mapping[str, Work] | None = None,
        supervisor: Supervisor | None = None,
    ) -> None:
        self._election = election
        self._reconciler = reconciler
        self._queues = queues
        self._cache = cache
        self._sweep = sweep.total_seconds()
        self._pending = pending.total_seconds()
        self._supervisor = supervisor or Supervisor()
        self._duties: Mapping[str, Work] = {
            "sweeps": self._sweeps,
            "pending wakes": self._pendings,
            "foreign pushes": self._listen,
            **(duties or {}),
        }
        self._is_answered = True
        """Whether the last look at the election had an answer."""
        self.leads = False
        self.listens: bool | None = None
        """Whether foreign pushes are heard of; None while somebody else leads."""

    def remark(self) -> str | None:
        """What /health should tell although nothing fails."""
        return NotificationsRefused.message if self.listens is False else None

    async def run(self) -> None:
        """Take part in the election until cancelled; lead while elected."""
        term = self._election.lease_duration.total_seconds()
        renewed = -term
        clock = asyncio.get_running_loop().time
        try:
            async with AsyncExitStack() as duties:
                while True:
                    asked, elected = clock(), await self._stand()
                    if elected is not None:
                        renewed = asked if elected else -term
                    # Without an answer the lease is ours until its term could end for the others.
                    leads = clock() - renewed < term * 2 / 3
                    if leads and not self.leads:
                        log.info("this replica leads")
                        await duties.enter_async_context(self._lead())
                    elif not leads and self.leads:
                        log.info("this replica does not lead any more")
                        await duties.aclose()
                    await asyncio.sleep(term / 5 * random.uniform(0.8, 1.2))  # noqa: S311 - only spreads the load
        finally:
            if clock() - renewed < term:
                await self._resign()

    async def _stand(self) -> bool | None:
        """Whether this replica is elected; None without an answer, of which the log tells once."""
        try:
            elected = await self._election.acquire_or_renew()
        except Unavailable as unavailable:
            if self._is_answered:
                log.warning("who leads is not known until %s answers again", unavailable.part)
            self._is_answered = False
            return None
        if not self._is_answered:
            log.info("who leads is known again")
        self._is_answered = True
        return elected

    async def _resign(self) -> None:
        try:
            await asyncio.shield(asyncio.wait_for(self._election.release(), 2))
        except (Unavailable, TimeoutError):
            log.info("could not resign; the lease runs out by itself")

    @asynccontextmanager
    async def _lead(self) -> AsyncIterator[None]:
        """Carry out the duties beside the context."""
        try:
            async with self._supervisor.running(self._duties):
                self._reconciler.leading = self.leads = True
                try:
                    yield
                finally:
                    # Before the duties end, which may take them a moment: another replica may lead by then.
                    self._reconciler.leading = self.leads = False
        finally:
            self.listens = None

    async def _sweeps(self) -> None:
        while True:
            await self.sweep()
            await asyncio.sleep(self._sweep * random.uniform(0.9, 1.1))  # noqa: S311 - only spreads the load

    async def sweep(self) -> None:
        """Have every session looked at once."""
        for number, uuid in enumerate(self._cache.uuids()):
            self._reconciler.sweep(uuid)
            if number % _SWEEP_BATCH == _SWEEP_BATCH - 1:
                await asyncio.sleep(0.01)

    async def _pendings(self) -> None:
        while True:
            await asyncio.sleep(self._pending)
            try:
                for uuid in await self._queues.pending(timedelta(seconds=self._pending), _PENDING_AT_ONCE):
                    self._reconciler.enqueue(uuid)
            except Unavailable as unavailable:
                log.warning("pending wakes wait for %s", unavailable.part)

    async def _listen(self) -> None:
        """Foreign pushes; whenever listening begins, everything is looked at, since pushes may have been missed."""
        while True:
            pause = 1.0
            try:
                async for uuid in self._queues.pushes():
                    if uuid is None:
                        self.listens = True
                        await self.sweep()
                    else:
                        self._reconciler.enqueue(uuid)
            except NotificationsRefused as refused:
                if self.listens is not False:
                    log.warning("%s", refused)
                self.listens = False
                pause = self._sweep
            except Unavailable as unavailable:
                log.info("foreign pushes are not heard until %s answers", unavailable.part)
            await asyncio.sleep(pause)
