"""How many sessions are in which state: counted from the cache, and one short read of Redis per few hundred of them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from service.domain.names import SessionId
from service.domain.ports import Queues, WorkloadCache
from service.domain.session import Phase, QueueState, Workload

_BATCH = 500


@dataclass(slots=True)
class SessionCounts:
    """One count. What only Redis knows (that a delete is about to begin) is not looked at."""

    phases: Counter[Phase] = field(default_factory=Counter)
    parked: int = 0
    queued: int = 0
    """Sessions whose queue is not empty."""
    tokens: int = 0
    pending: int = 0
    """Wakes that are not known to be served."""
    oldest: timedelta = timedelta(0)
    """The age of the oldest of those."""

    def enter(self, workload: Workload, queue: QueueState, now: datetime) -> None:
        phase = Phase.DELETING if workload.deleting else workload.phase(is_wanted=queue.is_wanted)
        if queue.read_error and phase not in (Phase.DELETING, Phase.RELEASED):
            phase = Phase.FAILED
        self.phases[phase] += 1
        self.parked += workload.parked
        self.queued += queue.tokens > 0
        self.tokens += queue.tokens
        if queue.pending_since is not None:
            self.pending += 1
            self.oldest = max(self.oldest, now - queue.pending_since)


async def count(cache: WorkloadCache, queues: Queues) -> SessionCounts:
    """Count all sessions, letting others run in between. Raises RedisUnavailable."""
    session_counts, uuids = SessionCounts(), list(cache.uuids())
    for start in range(0, len(uuids), _BATCH):
        await _enter(session_counts, uuids[start : start + _BATCH], cache, queues)
        await asyncio.sleep(0)
    return session_counts


async def _enter(
    session_counts: SessionCounts, uuids: Sequence[SessionId], cache: WorkloadCache, queues: Queues
) -> None:
    queue_states, now = await queues.read(uuids), datetime.now(UTC)
    for uuid in uuids:
        session_counts.enter(cache.workload(uuid), queue_states[uuid], now)
