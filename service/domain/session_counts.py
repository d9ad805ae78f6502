"""How many sessions are in which state: from the workload cache, and one read of Redis per few hundred sessions."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.ports import Queues, Store, WorkloadCache
from service.domain.queue_state import QueueState
from service.domain.record import RecordStatus
from service.domain.workload import Workload

_BATCH = 500
_PAGE = 2000
"""Ids that are read at once."""
_RECENT = 5.0
"""Seconds for which a count serves everybody who asks."""
_HOUR = timedelta(hours=1)


@dataclass(slots=True)
class SessionCounts:
    """One count. Of sessions with a release, no record is read: a delete counts once its objects are being deleted.

    Released sessions are those with a record, as in lists: kept files alone are none.
    """

    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    phases: Counter[Phase] = field(default_factory=Counter)
    awake: int = 0
    """Sessions that have or want a pod."""
    awake_groups: Counter[str] = field(default_factory=Counter)
    """Those of them of each group."""
    woken: int = 0
    """Those of them whose pod was created within the last hour."""
    parked: int = 0
    queued: int = 0
    """Sessions whose queue is not empty."""
    tokens: int = 0
    pending: int = 0
    """Wakes that KEDA is not known to have taken over."""
    oldest: timedelta = timedelta(0)
    """The age of the oldest of those."""
    waking: int = 0
    """Those of them whose pod is not ready."""
    oldest_waking: timedelta = timedelta(0)
    """The age of the oldest of these."""

    def add(self, workload: Workload, queue: QueueState, now: datetime) -> bool:
        """Returns whether it has a phase: a released session has that of its record, if there is one."""
        phase = Phase.DELETING if workload.deleting else workload.phase(is_wanted=queue.is_wanted)
        if queue.read_error and phase not in (Phase.DELETING, Phase.RELEASED):
            phase = Phase.FAILED
        has_phase = phase is not Phase.RELEASED and not (phase is Phase.DELETING and workload.released)
        if has_phase:
            self.phases[phase] += 1
        if workload.replicas > 0:
            self.awake += 1
            if (group := workload.assignment.group) is not None:
                self.awake_groups[group] += 1
            created = workload.pod.created_at if workload.pod is not None else now
            self.woken += created is not None and now - created < _HOUR
        self.parked += workload.parked
        self.queued += queue.tokens > 0
        self.tokens += queue.tokens
        if queue.pending_since is not None:
            self.pending += 1
            self.oldest = max(self.oldest, now - queue.pending_since)
            if phase is not Phase.READY:
                self.waking += 1
                self.oldest_waking = max(self.oldest_waking, now - queue.pending_since)
        return has_phase


class SessionCounter:
    def __init__(
        self,
        cache: WorkloadCache,
        queues: Queues,
        store: Store,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._queues = queues
        self._store = store
        self._now = now
        self._counting = asyncio.Lock()
        self._last: tuple[float, SessionCounts] | None = None

    async def recent(self) -> SessionCounts:
        """A count that is a few seconds old at most: those who ask meanwhile share it. Raises RedisUnavailable."""
        async with self._counting:
            if self._last is None or self._now() - self._last[0] >= _RECENT:
                self._last = self._now(), await self.count()
            return self._last[1]

    async def count(self) -> SessionCounts:
        """Count all sessions, in batches between which other tasks run. Raises RedisUnavailable."""
        counts, uuids, installed = SessionCounts(), list(self._cache.uuids()), set[SessionId]()
        for start in range(0, len(uuids), _BATCH):
            queues, now = await self._queues.read(uuids[start : start + _BATCH]), datetime.now(UTC)
            for uuid, queue in queues.items():
                if counts.add(self._cache.workload(uuid), queue, now):
                    installed.add(uuid)
            await asyncio.sleep(0)
        await self._add_released(counts, installed)
        return counts

    async def _add_released(self, counts: SessionCounts, installed: set[SessionId]) -> None:
        """Only the records are read of which the cluster has neither release nor Deployment."""
        gone, after = list[SessionId](), ""
        while page := await self._store.page(after, _PAGE):
            gone += [uuid for uuid in page if uuid not in installed and self._cache.workload(uuid).released]
            after = page[-1]
        for start in range(0, len(gone), _BATCH):
            for record in await self._store.records(gone[start : start + _BATCH]):
                deleting = record.status is RecordStatus.DELETING
                counts.phases[Phase.DELETING if deleting else Phase.RELEASED] += 1
