"""The overview: how many sessions are awake, how long wakes take, and what does not work."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from service.dashboard import reasons
from service.dashboard.reasons import Group
from service.domain.awake_quota import AwakeLimits
from service.domain.capacity import Capacity, ClusterCapacity, Unseen
from service.domain.clock import utc_now
from service.domain.errors import Unavailable
from service.domain.health import Health
from service.domain.phase import Phase
from service.domain.savings import Prices, Savings
from service.domain.session_index import IndexedSession, SessionIndex
from service.domain.wake_times import RecentWakes, WakeTimes

_HEALTH_SECONDS = 2.0
"""For which a page waits for what /health says."""


@dataclass(frozen=True, slots=True)
class Quota:
    """Awake sessions of those that may be. `group` is None for all sessions together."""

    group: str | None
    awake: int
    limit: int

    @property
    def is_used_up(self) -> bool:
        return self.awake >= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """`total`, `phases`, `awake` and `reasons` are of all sessions, as the cluster shows them."""

    total: int
    phases: Mapping[Phase, int]
    awake: int
    reasons: Sequence[Group]
    quotas: Sequence[Quota]
    capacity: Capacity | Unseen
    savings: Savings
    price: float | None
    """Of what the last day saved; None without prices."""
    failing: Mapping[str, str] | None
    """The parts that do not work, and why; None while nobody knows."""
    remarks: Mapping[str, str]
    wakes: RecentWakes | None
    """None while Redis does not answer."""


class OverviewPage:
    def __init__(
        self,
        index: SessionIndex,
        wake_times: WakeTimes,
        prices: Prices | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.prices = prices or Prices()
        self._index = index
        self._wake_times = wake_times
        self._now = now

    async def read(self, health: Health, limits: AwakeLimits, capacity: ClusterCapacity) -> Overview:
        """Costs one read of Redis and one of the nodes, and none if somebody else has looked a moment ago."""
        wakes, (parts, remarks), room = await asyncio.gather(self._wakes(), _verdict(health), capacity.read())
        sessions = self._index.sessions()
        savings = Savings.of(sessions, self._now())
        return Overview(
            total=len(sessions),
            phases=Counter(each.phase for each in sessions),
            awake=sum(each.awake for each in sessions),
            reasons=reasons.groups(each.reason for each in sessions if each.reason is not None),
            quotas=_quotas(sessions, limits),
            capacity=room,
            savings=savings,
            price=savings.price(self.prices),
            failing=parts,
            remarks=remarks,
            wakes=wakes,
        )

    async def _wakes(self) -> RecentWakes | None:
        try:
            return await self._wake_times.recent()
        except Unavailable:
            return None


def _quotas(sessions: Sequence[IndexedSession], limits: AwakeLimits) -> Sequence[Quota]:
    awake = Counter(each.group for each in sessions if each.awake)
    of_all = [Quota(None, awake.total(), limits.total)] if limits.total is not None else []
    return [*of_all, *(Quota(group, awake[group], limit) for group, limit in sorted(limits.groups.items()))]


async def _verdict(health: Health) -> tuple[Mapping[str, str] | None, Mapping[str, str]]:
    try:
        async with asyncio.timeout(_HEALTH_SECONDS):
            verdict = await health.verdict()
    except TimeoutError:
        return None, {}
    return {name: wrong for name, wrong in verdict.parts.items() if wrong}, verdict.remarks
