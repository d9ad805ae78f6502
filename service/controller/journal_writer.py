"""Writes what happens to pods, and why, to the journal, and counts the pods that should not have ended.

Only the leader does so, or every replica would. The journal misses what happens while there is no leader.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from service.controller.leadership import Leadership
from service.controller.pod_lives import LifeEvent, Transition
from service.domain.errors import Unavailable
from service.domain.idle_times import IdleTimes
from service.domain.journal import REASON_LIMIT, Failed, Journal, JournalEntry, Ready, Slept, Woken, hashed
from service.domain.metrics import ServiceMetrics
from service.domain.names import SessionId
from service.domain.ports import History, Store
from service.domain.record import Record
from service.domain.request_context import NOBODY
from service.domain.sleep_cause import SleepReason, sleep_cause, was_wanted
from service.domain.wake_cause import wake_initiator

log = logging.getLogger(__name__)

_BATCH = 500
_QUEUED = 10_000
"""Transitions that wait while Redis is slow; beyond that the oldest are dropped."""


class JournalWriter:
    """`idle_times` apply to workloads that have none."""

    def __init__(
        self,
        *,
        store: Store,
        history: History,
        metrics: ServiceMetrics,
        journal: Journal,
        idle_times: IdleTimes,
        leadership: Leadership,
    ) -> None:
        self._store = store
        self._history = history
        self._metrics = metrics
        self._journal = journal
        self._idle_times = idle_times
        self._leadership = leadership
        self._noticed: deque[Transition] = deque(maxlen=_QUEUED)
        self._explained: deque[tuple[Transition, Record | None]] = deque(maxlen=_QUEUED)
        """Transitions whose records have been read."""
        self._has_noticed, self._has_explained = asyncio.Event(), asyncio.Event()
        self._lost: dict[SessionId, datetime] = {}
        """When pods ended although they were wanted, until they are back."""

    def on_transition(self, transition: Transition) -> None:
        if self._leadership.held:
            self._noticed.append(transition)
            self._has_noticed.set()
        else:
            self._lost.pop(transition.workload.uuid, None)

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_records(), name="records for the journal")
            tasks.create_task(self._write_entries(), name="entries of the journal")

    async def _read_records(self) -> None:
        """A task of its own, since a queue explains a pod's end only right after it, and writing may take long."""
        while True:
            await self._has_noticed.wait()
            self._has_noticed.clear()
            while self._noticed:
                batch = [self._noticed.popleft() for _ in range(min(_BATCH, len(self._noticed)))]
                records = await self._records(batch)
                self._explained.extend((each, records.get(each.workload.uuid)) for each in batch)
                self._has_explained.set()

    async def _write_entries(self) -> None:
        while True:
            await self._has_explained.wait()
            self._has_explained.clear()
            while self._explained:
                transition, record = self._explained.popleft()
                try:
                    await self._write(transition, record)
                except Exception:
                    log.exception("a journal entry cannot be written", extra={"uuid": transition.workload.uuid})

    async def _records(self, batch: Sequence[Transition]) -> Mapping[SessionId, Record]:
        uuids = {each.workload.uuid for each in batch if each.event in (LifeEvent.WANTED, LifeEvent.SLEPT)}
        try:
            return {record.uuid: record for record in await self._store.records(list(uuids))} if uuids else {}
        except Unavailable as unavailable:
            log.warning("sleeps and foreign wakes are not journaled until %s answers", unavailable.part)
        except Exception:
            log.exception("some sleeps and foreign wakes are not journaled")
        return {}

    async def _write(self, transition: Transition, record: Record | None) -> None:
        entry = await self._entry(transition, record)
        if entry is not None:
            self._journal.note(entry)
        if isinstance(entry, Slept) and record is not None:
            if was_wanted(record.queue, entry.at):
                self._metrics.pod_lost()
                self._lost[record.uuid] = entry.at
            if entry.why is SleepReason.FALSE:
                log.error("a session fell asleep while it was in use", extra={"uuid": record.uuid})
                self._metrics.false_sleep()
        elif transition.event in (LifeEvent.WANTED, LifeEvent.GONE):
            lost_at = self._lost.pop(transition.workload.uuid, None)
            if lost_at is not None and transition.event is LifeEvent.WANTED:
                self._metrics.pod_restored(max(0.0, (transition.at - lost_at).total_seconds()))

    async def _entry(self, transition: Transition, record: Record | None) -> JournalEntry | None:
        workload, at, seconds, pod = transition.workload, transition.at, transition.seconds, transition.pod
        common: dict[str, Any] = {"uuid": workload.uuid, "user": hashed(workload.user_id), "at": at}
        match transition.event:
            case LifeEvent.WANTED if record is not None:
                by = wake_initiator(record, workload, at=at, idle_times=self._idle_times)
                return Woken(**common, request=NOBODY, by=by) if by is not None else None
            case LifeEvent.READY if pod is not None:
                wake = await self._last_wake(workload.uuid)
                if wake is None:
                    return Ready(**common, request=NOBODY, seconds=seconds, pod=pod)
                return Ready(**common, request=wake.request, seconds=max(0.0, (at - wake.at).total_seconds()), pod=pod)
            case LifeEvent.FAILED:
                reason = (workload.failure or "")[:REASON_LIMIT]
                return Failed(**common, request=NOBODY, doing="wake", reason=reason, seconds=seconds, pod=pod)
            case LifeEvent.SLEPT if record is not None and not record.read_error and not record.queue.read_error:
                since, idle_times = transition.since, self._idle_times
                cause = sleep_cause(record, workload, at=at, awake_since=since, idle_times=idle_times)
                common |= {"request": cause.request or NOBODY, "why": cause.why, "by": cause.by}
                common |= {"idle_since": cause.idle_since, "interrupted": cause.interrupted}
                return Slept(**common, seconds=seconds, pod=pod)
        return None

    async def _last_wake(self, uuid: SessionId) -> Woken | None:
        """The wake that a ready pod belongs to; None when the last one has had its pod, or a sleep since."""
        try:
            events = await self._history.events(uuid)
        except Unavailable:
            return None
        last = next((event for event in events if isinstance(event, Woken | Ready | Slept)), None)
        return last if isinstance(last, Woken) else None
