"""Notes what the cache shows of pods: that they are ready, that they fail, and wakes that no caller has asked for.

Every replica follows all lives, so that the next leader knows what has been noted; only the leader notes. Falling
asleep is the sleep audit's.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from service.domain.errors import Unavailable
from service.domain.journal import REASON_LIMIT, Failed, Journal, Ready, Slept, Woken, hashed
from service.domain.names import SessionId
from service.domain.ports import History, Store, WorkloadCache
from service.domain.request_context import NOBODY
from service.domain.session import IdleTimes, Workload
from service.domain.wake import wake_initiator

log = logging.getLogger(__name__)

_UNNOTED = 10_000
"""Journal entries that wait for a Redis that is slow; of more, the oldest are dropped."""


@dataclass(slots=True)
class _Life:
    """From the moment a pod is wanted to the moment none is."""

    since: datetime | None
    """None: it had begun before this replica looked."""
    ready: str | None = None
    """The uid of the pod that was last seen ready."""
    failed: str | None = None
    """The kind of trouble that was last seen: its words may change while it lasts."""


class Recorder:
    """`leads` tells whether this replica notes; `idle_times` is used for workloads that have none."""

    def __init__(
        self,
        *,
        cache: WorkloadCache,
        store: Store,
        history: History,
        journal: Journal,
        idle_times: IdleTimes,
        leads: Callable[[], bool],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cache = cache
        self._store = store
        self._history = history
        self._journal = journal
        self._idle_times = idle_times
        self._leads = leads
        self._now = now
        self._lives: dict[SessionId, _Life] = {}
        self._due: deque[Callable[[], Awaitable[None]]] = deque(maxlen=_UNNOTED)
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        for uuid in self._cache.uuids():
            self._look(uuid, since=None)
        self._due.clear()  # what there is already has been noted by others, or is too old to be news
        unsubscribe = self._cache.subscribe(self.changed)
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                while self._due:
                    await self._note(self._due.popleft())
        finally:
            unsubscribe()

    def changed(self, uuid: SessionId) -> None:
        """The cache has changed."""
        self._look(uuid, since=self._now())

    def _look(self, uuid: SessionId, *, since: datetime | None) -> None:
        workload = self._cache.workload(uuid)
        if workload.replicas == 0 or workload.broken_reason or workload.deleting:
            self._lives.pop(uuid, None)
            return
        life = self._lives.get(uuid)
        if life is None:
            life = self._lives[uuid] = _Life(since)
            self._put(partial(self._risen, workload, self._now()))
        pod = workload.pod
        if pod is not None and pod.ready and workload.ready >= workload.replicas:
            if life.ready != pod.uid:
                life.ready, life.failed = pod.uid, None
                self._put(partial(self._ready, workload, pod.uid, life.since, self._now()))
        elif workload.failure is not None and life.failed != (kind := workload.failure.partition(":")[0]):
            life.failed = kind
            self._put(partial(self._failed, workload, workload.failure, life.since, self._now()))

    def _put(self, note: Callable[[], Awaitable[None]]) -> None:
        if self._leads():
            self._due.append(note)
            self._news.set()

    async def _note(self, note: Callable[[], Awaitable[None]]) -> None:
        try:
            await note()
        except Exception:
            log.exception("a happening could not be noted")

    async def _risen(self, workload: Workload, at: datetime) -> None:
        try:
            records = await self._store.records([workload.uuid])
        except Unavailable as unavailable:
            log.warning("nobody can tell who woke a session: %s does not answer", unavailable.part)
            return
        by = wake_initiator(records[0], workload, at=at, idle_times=self._idle_times) if records else None
        if by is not None:
            user = hashed(workload.user_id)
            self._journal.note(Woken(uuid=workload.uuid, user=user, at=at, request=NOBODY, by=by))

    async def _ready(self, workload: Workload, pod: str, since: datetime | None, at: datetime) -> None:
        wake = await self._wake(workload.uuid)
        began, request = (wake.at, wake.request) if wake is not None else (since, NOBODY)
        self._journal.note(
            Ready(
                uuid=workload.uuid,
                user=hashed(workload.user_id),
                at=at,
                request=request,
                seconds=max(0.0, (at - began).total_seconds()) if began is not None else None,
                pod=pod,
            )
        )

    async def _wake(self, uuid: SessionId) -> Woken | None:
        """The wake that the ready pod belongs to: the last one, unless it has had its pod, or a sleep since."""
        try:
            events = await self._history.events(uuid)
        except Unavailable:
            return None
        last = next((event for event in events if isinstance(event, Woken | Ready | Slept)), None)
        return last if isinstance(last, Woken) else None

    async def _failed(self, workload: Workload, reason: str, since: datetime | None, at: datetime) -> None:
        self._journal.note(
            Failed(
                uuid=workload.uuid,
                user=hashed(workload.user_id),
                at=at,
                request=NOBODY,
                doing="wake",
                reason=reason[:REASON_LIMIT],
                seconds=max(0.0, (at - since).total_seconds()) if since is not None else None,
                pod=workload.pod.uid if workload.pod is not None else None,
            )
        )
