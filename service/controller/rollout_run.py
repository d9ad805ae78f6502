"""One leader's part of one rollout.

It looks at every session once, when it begins, and from then on at those that the workload cache tells of. What is in
memory here can be lost at any time: the next leader finds the same in the cluster and in the rollout.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import islice

from service.domain.backoff import Backoff
from service.domain.errors import (
    HelmQueueFull,
    IndexIncomplete,
    SessionAwake,
    SessionBroken,
    SessionBusy,
    SessionDeleting,
    SessionNotFound,
    SessionReleased,
    SessionUnreadable,
    Unavailable,
    UpgradeFailed,
)
from service.domain.names import SessionId
from service.domain.ports import WorkloadCache
from service.domain.rollout import Rollout, RolloutState, Standing
from service.domain.rollouts import RolloutControl
from service.domain.upgrading import ReleaseUpgrades

log = logging.getLogger(__name__)

_GAP = 0.05
"""The least number of seconds between two looks."""
_SETTLE = 3.0
"""Seconds until a session that was upgraded is looked at again, if the cache has told of no change by then."""
_RETRY = 5.0
"""Seconds until the next attempt at a session that is busy, or after a part of the system did not answer."""
_MEASURE = 5.0
"""Seconds between two times at which the pace is stored: each makes everybody count anew."""
_FAILING = 60.0
"""Seconds for which a canary's pod may fail while Kubernetes tries again."""
_LATER = (SessionBusy, HelmQueueFull, IndexIncomplete)
_IMPOSSIBLE = (SessionNotFound, SessionReleased, SessionBroken, SessionDeleting, SessionUnreadable)


class RolloutRun:
    """See the module. `poll`: seconds between two looks at the rollout in Redis, which an operator may have stopped."""

    def __init__(
        self,
        rollout: Rollout,
        *,
        control: RolloutControl,
        upgrades: ReleaseUpgrades,
        cache: WorkloadCache,
        now: Callable[[], datetime],
        poll: float,
    ) -> None:
        self._rollout = rollout
        self._over = rollout.failed
        """Sessions that are not tried again."""
        self._control = control
        self._upgrades = upgrades
        self._cache = cache
        self._now = now
        self._poll = poll
        self._clock = asyncio.get_running_loop().time
        self._due: dict[SessionId, None] = {}
        """Asleep, and to be upgraded next."""
        self._awake: set[SessionId] = set()
        self._later: dict[SessionId, float] = {}
        """When to look at it again."""
        self._impossible: set[SessionId] = set()
        """Until the cache tells of a change."""
        self._running: dict[SessionId, asyncio.Task[None]] = {}
        self._failed: dict[SessionId, str] = {}
        """Reasons that are not in the rollout yet."""
        self._failing: dict[SessionId, float] = {}
        """Canaries whose pod fails, and since when."""
        self._done = 0
        """Upgrades that are not in the rollout's pace yet, and the seconds that they took."""
        self._seconds = 0.0
        self._working_since: float | None = None
        """When it was last measured; None while nothing is upgraded, or only canaries are."""
        self._measure_at = self._clock()
        self._changed = asyncio.Event()

    async def until_ended(self) -> str:
        """Upgrade what is due until the rollout has ended, or is not this one any more."""
        unsubscribe = self._cache.subscribe(self._on_change)
        try:
            for uuid in sorted(self._cache.uuids()):
                self._review(uuid)
            while await self._step():
                await asyncio.sleep(_GAP)
                await self._wait()
        finally:
            unsubscribe()
            # It goes on if this replica does not lead any more: nobody else learns how these upgrades end.
            rest = self._upgrades.go_on(self._enter_the_rest(), "reasons of failed upgrades")
        await asyncio.shield(rest)
        return self._rollout.state.value

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._poll):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    async def _step(self) -> bool:
        """Take stock, and begin what may begin; returns whether the rollout goes on."""
        now = self._clock()
        for uuid in [uuid for uuid, at in self._later.items() if at <= now]:
            self._review(uuid)
        self._measure(now)
        try:
            await self._watch_canaries()
            goes_on = await self._save()
        except (Unavailable, SessionBusy) as error:
            log.info("the upgrade of all sessions waits: %s", error)
            return True
        if goes_on and not self._upgrades.closing:
            self._begin()
            self._measure(self._clock())
        return goes_on

    def _measure(self, now: float) -> None:
        if self._working_since is not None:
            self._seconds += now - self._working_since
        self._working_since = now if self._running and not self._rollout.canaries_only else None

    # --- which sessions are due ---

    def _on_change(self, uuid: SessionId) -> None:
        self._impossible.discard(uuid)
        if uuid not in self._running:
            self._review(uuid)
        self._changed.set()

    def _review(self, uuid: SessionId) -> None:
        """Enter the session where it belongs."""
        self._due.pop(uuid, None)
        self._later.pop(uuid, None)
        self._awake.discard(uuid)
        if uuid in self._running or uuid in self._impossible or uuid in self._failed or uuid in self._over:
            return
        match self._upgrades.standing(self._cache.workload(uuid)):
            case Standing.ASLEEP:
                self._due[uuid] = None
            case Standing.AWAKE:
                self._awake.add(uuid)
            case Standing.BUSY:
                self._later[uuid] = self._clock() + _RETRY
            case _:
                pass

    # --- what the rollout says ---

    async def _save(self) -> bool:
        """Bring the rollout in Redis up to date; returns whether it goes on."""
        done, seconds = self._done, self._seconds
        measured = bool(done or seconds) and self._clock() >= self._measure_at
        saved = await self._control.change(
            self._rollout.id,
            lambda rollout: self._observe(self._paced(rollout, done, seconds) if measured else rollout),
        )
        if saved is None:
            return False
        if measured:
            self._done, self._seconds = self._done - done, self._seconds - seconds
            self._measure_at = self._clock() + _MEASURE
        self._rollout, self._over = saved, saved.failed
        for uuid in self._over & self._failed.keys():
            del self._failed[uuid]
        return saved.active

    def _observe(self, rollout: Rollout) -> Rollout:
        """The rollout with what is known here. Changes nothing itself."""
        rollout = self._with_failures(rollout)
        if not rollout.active:
            return rollout
        if self._is_nothing_left(rollout):
            return rollout.ended(RolloutState.DONE, self._now())
        return self._observe_canaries(rollout) if rollout.canaries_only else rollout

    def _paced(self, rollout: Rollout, done: int, seconds: float) -> Rollout:
        return replace(rollout, pace=rollout.pace.plus(done, seconds, self._now()))

    def _with_failures(self, rollout: Rollout) -> Rollout:
        for uuid, reason in self._failed.items():
            rollout = rollout.with_failure(uuid, reason, self._now())
        return rollout

    def _is_nothing_left(self, rollout: Rollout) -> bool:
        if self._running or self._later:
            return False
        return not self._due and (rollout.options.only_asleep or not self._awake)

    def _observe_canaries(self, rollout: Rollout) -> Rollout:
        failed = rollout.failed
        # One that was deleted is no canary any more.
        canaries = [c for c in rollout.canaries if c in failed or self._standing(c) is not Standing.NONE]
        room = rollout.options.canary - len(canaries)
        chosen_before, ready_before = frozenset(canaries), frozenset(rollout.ready_canaries)
        canaries += islice((uuid for uuid in self._due if uuid not in chosen_before), max(0, room))
        ready = tuple(c for c in canaries if c in ready_before or self._is_ready(c))
        rollout = replace(rollout, canaries=tuple(canaries), ready_canaries=ready)
        if len(ready) == rollout.options.canary:
            return rollout.continue_()
        upgraded = all(c in failed or self._standing(c) is Standing.UPGRADED for c in canaries)
        chosen = len(canaries) == rollout.options.canary or rollout.options.only_asleep
        waiting = upgraded and chosen
        return replace(rollout, state=RolloutState.WAITING_FOR_CANARY if waiting else RolloutState.RUNNING)

    def _standing(self, uuid: SessionId) -> Standing:
        return self._upgrades.standing(self._cache.workload(uuid))

    def _is_ready(self, uuid: SessionId) -> bool:
        workload = self._cache.workload(uuid)
        awake = workload.replicas > 0 and workload.ready > 0
        return awake and self._standing(uuid) is Standing.UPGRADED and uuid not in self._running

    async def _watch_canaries(self) -> None:
        """Roll back canaries whose pod fails with the new revision: so far, that is their users' only harm."""
        rollout, now = self._rollout, self._clock()
        if not rollout.canaries_only:
            return
        failed = rollout.failed | {*self._failed}
        for uuid in rollout.canaries:
            workload = self._cache.workload(uuid)
            failing = workload.replicas > 0 and workload.failure is not None
            if not failing or self._standing(uuid) is not Standing.UPGRADED or uuid in failed:
                self._failing.pop(uuid, None)
            elif uuid not in self._running and uuid not in self._later:
                since = self._failing.setdefault(uuid, now)
                if workload.final or now - since >= _FAILING:
                    self._start(uuid, self._undo(uuid, f"its pod does not start: {workload.failure}"))

    async def _enter_the_rest(self) -> None:
        """Enter the reasons of failures that are known, and of the upgrades in progress, once Redis can store them."""
        await asyncio.gather(*self._running.values())
        backoff = Backoff(self._poll, _RETRY)
        while self._failed:
            try:
                self._rollout = await self._control.change(self._rollout.id, self._with_failures) or self._rollout
            except (Unavailable, SessionBusy) as error:
                if not backoff.failures:
                    log.warning("failed upgrades are not in the list yet: %s", error, extra={"failed": [*self._failed]})
                if self._upgrades.closing:
                    return
                await asyncio.sleep(backoff.next())
            else:
                self._failed.clear()

    # --- the work ---

    def _begin(self) -> None:
        """Begin as many upgrades as may run."""
        rollout = self._rollout
        allowed = rollout.canaries if rollout.canaries_only else list(self._due)
        for uuid in allowed:
            if len(self._running) >= rollout.options.max_parallel:
                return
            if uuid in self._due and uuid not in self._failed:
                del self._due[uuid]
                self._start(uuid, self._upgrade(uuid))

    def _start(self, uuid: SessionId, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.create_task(work, name=f"upgrade {uuid}")
        self._running[uuid] = task
        task.add_done_callback(lambda _: self._on_end(uuid))

    def _on_end(self, uuid: SessionId) -> None:
        del self._running[uuid]
        if uuid not in self._later:
            self._review(uuid)
        self._changed.set()

    async def _upgrade(self, uuid: SessionId) -> None:
        try:
            upgrade = await self._upgrades.upgrade(uuid, by=self._rollout.started_by)
            self._done += upgrade.changed and not self._rollout.canaries_only
            if self._standing(uuid) is not Standing.UPGRADED:
                self._later[uuid] = self._clock() + _SETTLE  # the cache does not show it yet
        except SessionAwake:
            # A wake has come. If the session is paused, it may stay like this for days.
            if not self._rollout.options.only_asleep:
                self._later[uuid] = self._clock() + _RETRY
            else:
                self._impossible.add(uuid)
        except _LATER as error:
            log.info("a session is upgraded later: %s", error, extra={"uuid": uuid})
            self._later[uuid] = self._clock() + _RETRY
        except _IMPOSSIBLE as error:
            log.warning("a session cannot be upgraded: %s", error, extra={"uuid": uuid})
            self._impossible.add(uuid)
        except UpgradeFailed as error:
            log.warning("an upgrade failed: %s", error, extra={"uuid": uuid})
            self._failed[uuid] = str(error)
            self._done += not self._rollout.canaries_only
        except Unavailable as error:
            log.warning("a session is upgraded later: %s", error, extra={"uuid": uuid})
            self._later[uuid] = self._clock() + _RETRY
        except Exception as error:
            log.exception("an upgrade failed", extra={"uuid": uuid})
            self._failed[uuid] = f"an error of the service ({type(error).__name__}); its log has more"

    async def _undo(self, uuid: SessionId, reason: str) -> None:
        try:
            await self._upgrades.undo(uuid)
            self._failed[uuid] = f"{reason}; it is rolled back"
        except UpgradeFailed as error:
            self._failed[uuid] = f"{reason}; it could not be rolled back: {error}"
        except Exception as error:  # noqa: BLE001 - it is logged, and tried again
            log.warning("a canary is rolled back later: %r", error, extra={"uuid": uuid})
            self._later[uuid] = self._clock() + _RETRY
