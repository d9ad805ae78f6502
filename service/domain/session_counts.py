"""How many sessions are in which state: counted from the view, and one short read of Redis per few hundred of them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from service.domain.names import SessionId
from service.domain.ports import Queues, View
from service.domain.session import Phase, Pulse, Workload

_BATCH = 500


@dataclass(slots=True)
class Census:
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

    def enter(self, workload: Workload, pulse: Pulse, now: datetime) -> None:
        phase = Phase.DELETING if workload.deleting else workload.phase(beats=pulse.beats)
        if pulse.fault and phase not in (Phase.DELETING, Phase.RELEASED):
            phase = Phase.FAILED
        self.phases[phase] += 1
        self.parked += workload.parked
        self.queued += pulse.tokens > 0
        self.tokens += pulse.tokens
        if pulse.pending_since is not None:
            self.pending += 1
            self.oldest = max(self.oldest, now - pulse.pending_since)


async def count(view: View, queues: Queues) -> Census:
    """Count all sessions, letting others run in between. Raises RedisUnavailable."""
    census, uuids = Census(), list(view.uuids())
    for start in range(0, len(uuids), _BATCH):
        await _enter(census, uuids[start : start + _BATCH], view, queues)
        await asyncio.sleep(0)
    return census


async def _enter(census: Census, uuids: Sequence[SessionId], view: View, queues: Queues) -> None:
    pulses, now = await queues.pulses(uuids), datetime.now(UTC)
    for uuid in uuids:
        census.enter(view.workload(uuid), pulses[uuid], now)
