"""Start, follow, continue and stop the upgrade of all sessions. The leader carries it out."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from service.domain.clock import utc_now
from service.domain.errors import NoUpgrade, SessionBusy, UpgradeRunning
from service.domain.ports import Rollouts, WorkloadCache
from service.domain.rollout import OUTDATED, Rollout, RolloutCounts, RolloutOptions, RolloutState, Standing, counts
from service.domain.upgrading import ReleaseUpgrades

_ATTEMPTS = 20
"""Attempts at a change, while others change the rollout at the same time."""

_RECENT = 1.0
"""Seconds for which a count serves everybody who asks."""
_BATCH = 500
"""Sessions that are counted between two turns of other tasks."""

Edit = Callable[[Rollout], Rollout]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStatus:
    """`rollout` is the last one, if Redis has one; the counts are of this service's own target."""

    target: str
    rollout: Rollout | None
    counts: RolloutCounts
    time_left: timedelta | None = None
    """Until all that are asleep are upgraded; None while that is unknown."""


class RolloutControl:
    """Any replica may use it: every change compares the version of the stored rollout."""

    def __init__(
        self,
        *,
        rollouts: Rollouts,
        upgrades: ReleaseUpgrades,
        cache: WorkloadCache,
        now: Callable[[], datetime] = utc_now,
        recent: float = _RECENT,
    ) -> None:
        """`recent`: seconds for which a count serves everybody who asks, unless the rollout changes."""
        self._rollouts = rollouts
        self._upgrades = upgrades
        self._cache = cache
        self._now = now
        self._recent = recent
        self._counting = asyncio.Lock()
        self._last: tuple[float, RolloutStatus] | None = None

    async def counts(self) -> RolloutCounts:
        """As in `status`. Raises RedisUnavailable."""
        return (await self.status()).counts

    async def status(self) -> RolloutStatus:
        """The last rollout and the counts, cheap enough for pages that ask every second.

        It takes one read of Redis, and none of the cluster. The sessions are counted once a second, however many ask,
        and anew when the rollout changes. Raises RedisUnavailable.
        """
        return await self._status(await self._rollouts.read())

    async def start(self, options: RolloutOptions, *, by: str) -> RolloutStatus:
        """Start a rollout, unless one to the same target is under way. Raises UpgradeRunning for another target."""
        target = self._upgrades.target
        for _ in range(_ATTEMPTS):
            last = await self._rollouts.read()
            if last is not None and last.active:
                if last.target != target:
                    raise UpgradeRunning
                return await self._status(last)
            version = last.version if last is not None else 0
            begun = Rollout(
                id=secrets.token_hex(8),
                target=target,
                options=options,
                started_by=by,
                started_at=self._now(),
                version=version + 1,
            )
            if await self._rollouts.replace(begun, version):
                return await self._status(begun)
        raise SessionBusy

    async def continue_(self) -> RolloutStatus:
        """Upgrade the rest, although not all canaries have become ready. Raises NoUpgrade."""
        return await self._status(await self._change_active(Rollout.continue_))

    async def stop(self) -> RolloutStatus:
        """Begin no further session. Those that are being upgraded are finished. Raises NoUpgrade."""
        stopped = await self._change_active(lambda active: active.ended(RolloutState.STOPPED, self._now()))
        return await self._status(stopped)

    async def _change_active(self, edit: Edit) -> Rollout:
        last = await self._rollouts.read()
        if last is None or not last.active:
            raise NoUpgrade
        changed = await self.change(last.id, edit)
        if changed is None:
            raise NoUpgrade
        return changed

    async def change(self, rollout_id: str, edit: Edit) -> Rollout | None:
        """Change the rollout by `edit`, which may be called more than once. Returns None when it is another one now."""
        for _ in range(_ATTEMPTS):
            last = await self._rollouts.read()
            if last is None or last.id != rollout_id:
                return None
            changed = edit(last)
            if changed == last:
                return last
            changed = replace(changed, version=last.version + 1)
            if await self._rollouts.replace(changed, last.version):
                return changed
        raise SessionBusy

    async def _status(self, rollout: Rollout | None) -> RolloutStatus:
        async with self._counting:
            if self._last is not None:
                counted_at, last = self._last
                if last.rollout == rollout and time.monotonic() - counted_at < self._recent:
                    return last
            counted_at = time.monotonic()
            target, counted = self._upgrades.target, await self._count(rollout)
            left = None
            if rollout is not None and rollout.target == target:
                left = rollout.time_left(counted.asleep, self._now())
            status = RolloutStatus(target=target, rollout=rollout, counts=counted, time_left=left)
            self._last = counted_at, status
            return status

    async def _count(self, rollout: Rollout | None) -> RolloutCounts:
        current = rollout is not None and rollout.target == self._upgrades.target
        failures = rollout.failed if rollout is not None and current else frozenset()
        standings: Counter[Standing] = Counter()
        failed = 0
        for number, uuid in enumerate(list(self._cache.uuids())):
            if number % _BATCH == 0:
                await asyncio.sleep(0)
            stands = self._upgrades.standing(self._cache.workload(uuid))
            if uuid in failures and stands in OUTDATED:
                failed += 1
            else:
                standings[stands] += 1
        return counts(standings, failed)
