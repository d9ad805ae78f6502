"""Watches over falling asleep: counts the pods that were taken away although somebody wanted or used them.

Every replica follows who is awake, so that the next leader knows; only the leader counts, or each fall would be counted
by all. Falls while nobody leads are missed: this is a gauge of trouble, no ledger.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from service.domain.errors import Unavailable
from service.domain.journal import SILENT, Journal, Slept, hashed
from service.domain.metrics import ServiceMetrics
from service.domain.names import SessionId
from service.domain.ports import Store, WorkloadCache
from service.domain.request_context import NOBODY
from service.domain.session import IdleTimes, Record, Workload
from service.domain.sleep import SleepCause, SleepReason, sleep_cause, wanted

log = logging.getLogger(__name__)

_BATCH = 500


@dataclass(slots=True)
class _Life:
    """From the moment a pod is wanted to the moment none is."""

    since: datetime | None
    """None: it had begun before this replica looked."""
    pod: str | None = None
    """The uid of the newest pod."""


@dataclass(slots=True)
class _Fall:
    at: datetime
    workload: Workload
    life: _Life
    risen: datetime | None = None
    """When it was wanted again, if that was before anybody could ask why it fell."""


class SleepAudit:
    """`leads` tells whether this replica counts; `idle_times` is used for workloads that have none."""

    def __init__(
        self,
        *,
        cache: WorkloadCache,
        store: Store,
        metrics: ServiceMetrics,
        journal: Journal = SILENT,
        idle_times: IdleTimes,
        leads: Callable[[], bool],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cache = cache
        self._store = store
        self._metrics = metrics
        self._journal = journal
        self._idle_times = idle_times
        self._leads = leads
        self._now = now
        self._awake: dict[SessionId, _Life] = {}
        self._falls: dict[SessionId, _Fall] = {}
        """Not judged yet."""
        self._felled: dict[SessionId, datetime] = {}
        """Taken away while wanted, and not healed yet."""
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        unsubscribe = self._cache.subscribe(self.changed)
        try:
            for uuid in self._cache.uuids():
                self._follow(self._cache.workload(uuid), since=None)
            while True:
                await self._news.wait()
                self._news.clear()
                while self._falls:
                    await self._judge_some()
        finally:
            unsubscribe()

    def changed(self, uuid: SessionId) -> None:
        """The cache has changed."""
        workload = self._cache.workload(uuid)
        if workload.replicas:
            self._follow(workload, since=self._now())
            self._rise(uuid)
            return
        if workload.broken_reason or workload.deleting:
            self._awake.pop(uuid, None)
            self._felled.pop(uuid, None)
        elif uuid in self._awake:
            life = self._awake.pop(uuid)
            if self._leads():
                self._falls[uuid] = _Fall(self._now(), workload, life)
                self._news.set()

    def _follow(self, workload: Workload, *, since: datetime | None) -> None:
        if workload.replicas:
            life = self._awake.setdefault(workload.uuid, _Life(since))
            life.pod = workload.pod.uid if workload.pod is not None else life.pod

    def _rise(self, uuid: SessionId) -> None:
        fall, pod_lost = self._falls.get(uuid), self._felled.pop(uuid, None)
        if fall is not None and fall.risen is None:
            fall.risen = self._now()
        if pod_lost is not None:
            self._heal(pod_lost, self._now())

    async def _judge_some(self) -> None:
        uuids = list(self._falls)[:_BATCH]
        try:
            records = await self._store.records(uuids)
        except Unavailable as unavailable:
            # By the time it answers, nobody could tell any more what the queues were like.
            log.warning("falls asleep are not judged: %s does not answer", unavailable.part)
            records = []
        falls = {uuid: self._falls.pop(uuid) for uuid in uuids}
        for record in records:
            self._judge(record, falls[record.uuid])

    def _judge(self, record: Record, fall: _Fall) -> None:
        if record.read_error or record.queue.read_error:
            return  # nobody can tell whether it was wanted
        cause = sleep_cause(record, fall.workload, at=fall.at, awake_since=fall.life.since, idle_times=self._idle_times)
        self._tell(record, fall, cause)
        if wanted(record.queue, fall.at):
            self._metrics.pod_lost()
            if fall.risen is not None:
                self._heal(fall.at, fall.risen)
            else:
                self._felled[record.uuid] = fall.at
        if cause.why is SleepReason.FALSE:
            log.error("a session fell asleep while it was in use", extra={"uuid": record.uuid})
            self._metrics.false_sleep()

    def _tell(self, record: Record, fall: _Fall, cause: SleepCause) -> None:
        since = fall.life.since
        self._journal.note(
            Slept(
                uuid=record.uuid,
                user=hashed(record.user_id),
                at=fall.at,
                request=cause.request or NOBODY,
                why=cause.why,
                idle_since=cause.idle_since,
                seconds=max(0.0, (fall.at - since).total_seconds()) if since is not None else None,
                pod=fall.life.pod,
            )
        )

    def _heal(self, pod_lost: datetime, risen: datetime) -> None:
        self._metrics.healed(max(0.0, (risen - pod_lost).total_seconds()))
