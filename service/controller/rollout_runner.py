"""Carries out rollouts: a duty of the leader."""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from service.controller.rollout_run import RolloutRun
from service.domain.clock import utc_now
from service.domain.errors import SessionBusy, Unavailable
from service.domain.ports import Rollouts, WorkloadCache
from service.domain.rollout import Rollout
from service.domain.rollouts import RolloutControl
from service.domain.upgrading import ReleaseUpgrades

log = logging.getLogger(__name__)

_POLL = 1.0
"""Seconds between two looks at the rollout in Redis, which an operator may have started or stopped."""


class RolloutRunner:
    """`poll`: seconds between two looks at Redis."""

    def __init__(
        self,
        *,
        rollouts: Rollouts,
        control: RolloutControl,
        upgrades: ReleaseUpgrades,
        cache: WorkloadCache,
        now: Callable[[], datetime] = utc_now,
        poll: float = _POLL,
    ) -> None:
        self._rollouts = rollouts
        self._control = control
        self._upgrades = upgrades
        self._cache = cache
        self._now = now
        self._poll = poll

    async def lead(self) -> None:
        """Carry out rollouts until cancelled."""
        answered = True
        while True:
            try:
                rollout = await self._rollouts.read()
                answered = True
                # During an upgrade of the service itself, the leader may have another target than the rollout.
                if rollout is not None and rollout.active and rollout.target == self._upgrades.target:
                    await self._carry_out(rollout)
            except (Unavailable, SessionBusy) as error:
                if answered:
                    log.warning("the upgrade of all sessions waits: %s", error)
                answered = False
            await asyncio.sleep(self._poll)

    async def _carry_out(self, rollout: Rollout) -> None:
        log.info("upgrading sessions", extra={"rollout": rollout.id, "revision": rollout.target})
        run = RolloutRun(
            rollout,
            control=self._control,
            upgrades=self._upgrades,
            cache=self._cache,
            now=self._now,
            poll=self._poll,
        )
        ended = await run.until_ended()
        log.info("the upgrade of sessions has ended", extra={"rollout": rollout.id, "state": ended})
