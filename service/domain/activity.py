"""Wake a session, keep it awake, send it to sleep."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from service.domain import journal as journals
from service.domain.awake_quota import AwakeQuota
from service.domain.errors import AwakeLimitReached, SessionAsleep, SessionPaused, Unavailable
from service.domain.journal import Journal, Woken, hashed
from service.domain.limits import Limits
from service.domain.names import SessionId
from service.domain.observers import WakeObserver, isolated
from service.domain.ports import Cluster, Companions, Progress, Queues, WorkloadCache
from service.domain.progress import ProgressUpdate, Stage
from service.domain.queries import SessionQueries
from service.domain.workload import Pod

log = logging.getLogger(__name__)

SAVE_TIME = timedelta(seconds=2)
"""From a request for sleep to the sleep, while a page is open: editors save what was typed about a second later."""
_SLEEP_SHOWS = 5.0
"""Seconds within which the cache shows that a pod has been sent to sleep."""


class Wake(NamedTuple):
    """An accepted one. `length`: of the queue. `woke`: whether the session was asleep, and nobody had woken it yet."""

    length: int
    woke: bool


class SessionActivity:
    """`observers` are notified of every wake after its push, in order."""

    def __init__(
        self,
        *,
        queries: SessionQueries,
        queues: Queues,
        progress: Progress,
        cluster: Cluster,
        cache: WorkloadCache,
        companions: Companions,
        limits: Limits | None = None,
        observers: Sequence[WakeObserver] = (),
        journal: Journal = journals.SILENT,
        quota: AwakeQuota | None = None,
    ) -> None:
        self._queries = queries
        self._queues = queues
        self._progress = progress
        self._cluster = cluster
        self._cache = cache
        self._companions = companions
        self._limits = limits or Limits()
        self._observers = observers
        self._journal = journal
        self._quota = quota

    async def wake(self, uuid: SessionId, *, by: str = "api") -> Wake:
        """Request the pod. `by`, the kind of caller, goes into the history.

        Raises AwakeLimitReached, or as `SessionQueries.check_usable`.
        """
        idle_times = await self._queries.check_usable_cached(uuid)
        if self._quota is not None:
            await self._check_quota(self._quota, uuid)
        length, first = await self._queues.wake(uuid, idle_times.lease)
        workload = self._cache.workload(uuid)
        if workload.replicas == 0:
            if first:
                self._journal.note(Woken(uuid=uuid, user=hashed(workload.user_id), by=by))
            # Before anybody acts on the wake, and before the caller can ask for its progress.
            await self._note(uuid, Stage.ACCEPTED)
        for observer in self._observers:
            isolated(observer.on_wake, uuid)
        return Wake(length, woke=bool(first) and workload.replicas == 0)

    async def heartbeat(self, uuid: SessionId, source: str, *, ago: timedelta = timedelta(0)) -> None:
        """Note activity, which keeps an awake session awake and never wakes a sleeper.

        `ago`: how long it has been since; the lease counts from then, but KEDA always has time to see it. Activity
        whose lease and cooldown have passed is dropped. Raises SessionAsleep, or as `wake`.
        """
        idle_times = await self._queries.check_usable_cached(uuid)
        await self._check_awake(uuid)
        if ago >= idle_times.lease + idle_times.cooldown:
            return
        await self._queues.heartbeat(uuid, source, max(idle_times.lease - ago, idle_times.until_seen), ago)

    async def background(self, uuid: SessionId) -> bool:
        """Note that a program works in the pod. Keeps the session awake up to `IdleTimes.background` after activity.

        KEDA adds the cooldown, so the lease ends that much earlier. Returns whether it counts. Raises as `heartbeat`.
        """
        idle_times = await self._queries.check_usable_cached(uuid)
        await self._check_awake(uuid)
        return await self._queues.background(uuid, idle_times.lease, idle_times.background - idle_times.cooldown)

    async def end_extension(self, uuid: SessionId) -> None:
        """End an extension before its time. Activity keeps the session awake as ever. Raises as `wake`."""
        idle_times = await self._queries.check_usable_cached(uuid)
        await self._queues.end_extension(uuid, idle_times.lease)

    async def extend(self, uuid: SessionId, by: timedelta) -> datetime:
        """Keep an awake session awake for `by` from now. Returns until when; an earlier request may reach further.

        Raises IdleTimesRefused, SessionAsleep, or as `wake`.
        """
        self._limits.check_extension(by)
        idle_times = await self._queries.check_usable_cached(uuid)
        await self._check_awake(uuid)
        # KEDA adds the cooldown once the queue has run out, so the lease covers the rest.
        lease = max(idle_times.lease, by - idle_times.cooldown + idle_times.poll)
        return await self._queues.keep_awake(uuid, datetime.now(UTC) + by, lease)

    async def keep(self, uuid: SessionId, by: timedelta) -> datetime:
        """Keep a session from deletion for `by` from now, asleep or awake. Returns until when.

        An earlier request may reach further; a time of 0 takes all of them back.
        Raises IdleTimesRefused, SessionNotFound, SessionDeleting, SessionUnreadable.
        """
        if not by:
            await self._queues.end_sparing(uuid)
            return datetime.now(UTC)
        self._limits.check_sparing(by)
        return await self._queues.spare(uuid, datetime.now(UTC) + by)

    @property
    def longest_sparing(self) -> timedelta:
        return self._limits.sparing

    @property
    def longest_extension(self) -> timedelta:
        return self._limits.extension

    async def sleep(self, uuid: SessionId, *, by: str = "api", request: str = "-", now: bool = False) -> None:
        """Send the pod to sleep, even while somebody uses it. `by`, the kind of caller, goes into the history, and
        `request`, the id of the request that asks.

        Unless `now` is set, pages get SAVE_TIME to save. A wake or an extension meanwhile makes the request void.
        Raises SessionPaused for a pod that an operator has paused: KEDA may hold its number of replicas and would
        bring it back. Otherwise as `wake`.
        """
        await self._check_sleep(uuid)
        due = None if now else await self._let_save(uuid)
        await self._sleep(uuid, by, request, due)

    async def _check_sleep(self, uuid: SessionId) -> None:
        await self._queries.check_usable(uuid)
        workload = self._cache.workload(uuid)
        if workload.paused and workload.replicas:
            raise SessionPaused(workload.paused)

    async def _let_save(self, uuid: SessionId) -> datetime | None:
        """Tell the session's pages that it is going to sleep, and wait. None if nobody can have typed there."""
        if self._cache.workload(uuid).ready == 0 or not await self._companions.any_seen(uuid):
            return None
        due = await self._queues.announce_sleep(uuid, SAVE_TIME)
        if due is not None:
            await self._progress.notify(uuid)
            await asyncio.sleep(SAVE_TIME.total_seconds())
        return due

    async def _sleep(self, uuid: SessionId, by: str, request: str, announced: datetime | None) -> None:
        if not await self._queues.clear(uuid, asked=request, by=by, announced=announced):
            log.info("a wake came before the sleep", extra={"uuid": uuid})
            return
        await self._cluster.scale(uuid, 0)
        await self._note(uuid, Stage.ASLEEP)

    async def restart(self, uuid: SessionId, *, by: str, request: str = "-") -> None:
        """Send the pod to sleep and request another one; a sleeping session just wakes.

        Raises as `sleep` does.
        """
        pod = self._cache.workload(uuid).pod
        await self._check_sleep(uuid)
        await self._let_save(uuid)
        await self._sleep(uuid, by, request, None)
        await self._until_gone(uuid, pod)
        await self.wake(uuid, by=by)

    async def _check_quota(self, quota: AwakeQuota, uuid: SessionId) -> None:
        try:
            quota.check(uuid)
        except AwakeLimitReached:
            # KEDA may scale to 0 by what it saw before the last activity. Whoever works there keeps their place.
            if not (await self._queries.status(uuid)).record.queue.is_wanted:
                raise
            quota.keep(uuid)

    async def _until_gone(self, uuid: SessionId, pod: Pod | None) -> None:
        """Wait until the cache shows that the pod is no longer wanted, for a while: visitors must not get to it."""
        changed = asyncio.Event()
        unsubscribe = self._cache.subscribe(lambda each: changed.set() if each == uuid else None)
        try:
            async with asyncio.timeout(_SLEEP_SHOWS):
                while self._is_there(uuid, pod):
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            log.warning("a restart goes on although the pod is still there", extra={"uuid": uuid})
        finally:
            unsubscribe()

    def _is_there(self, uuid: SessionId, pod: Pod | None) -> bool:
        workload = self._cache.workload(uuid)
        return workload.replicas > 0 or (pod is not None and workload.pod is not None and workload.pod.uid == pod.uid)

    async def _note(self, uuid: SessionId, stage: Stage) -> None:
        """Best effort: the wake or sleep counts even when its progress cannot be noted."""
        try:
            await self._progress.write(uuid, ProgressUpdate(stage))
        except Unavailable:
            log.warning("progress could not be recorded", extra={"uuid": uuid, "stage": stage.value})

    async def _check_awake(self, uuid: SessionId) -> None:
        # One call per user and second: while the cache shows a pod, this reads neither Redis nor the cluster.
        if self._cache.workload(uuid).replicas == 0 and not (await self._queries.status(uuid)).awake:
            raise SessionAsleep
