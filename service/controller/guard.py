"""Watches over falling asleep: counts the pods that were taken away although somebody wanted or used them.

Every replica follows who is awake, so that the next leader knows; only the leader counts, or each fall would be counted
by all. Falls while nobody leads are missed: this is a gauge of trouble, no ledger.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from service.domain.errors import Unavailable
from service.domain.meter import Meter
from service.domain.names import SessionId
from service.domain.ports import Store, View
from service.domain.session import Pulse, Record, Rhythm, Workload

log = logging.getLogger(__name__)

_BATCH = 500
_ROUNDING = timedelta(seconds=1)
"""KEDA's times are in whole seconds."""


@dataclass(slots=True)
class _Fall:
    at: datetime
    workload: Workload
    risen: datetime | None = None
    """When it was wanted again, if that was before anybody could ask why it fell."""


class Guard:
    """`leads` tells whether this replica counts; `rhythm` is used for workloads that have none."""

    def __init__(
        self,
        *,
        view: View,
        store: Store,
        meter: Meter,
        rhythm: Rhythm,
        leads: Callable[[], bool],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._view = view
        self._store = store
        self._meter = meter
        self._rhythm = rhythm
        self._leads = leads
        self._now = now
        self._awake: set[SessionId] = set()
        self._falls: dict[SessionId, _Fall] = {}
        """Not judged yet."""
        self._felled: dict[SessionId, datetime] = {}
        """Taken away while wanted, and not healed yet."""
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled."""
        unsubscribe = self._view.subscribe(self.changed)
        try:
            self._awake = {uuid for uuid in self._view.uuids() if self._view.workload(uuid).replicas}
            while True:
                await self._news.wait()
                self._news.clear()
                while self._falls:
                    await self._judge_some()
        finally:
            unsubscribe()

    def changed(self, uuid: SessionId) -> None:
        """The view has changed."""
        workload = self._view.workload(uuid)
        if workload.replicas:
            self._awake.add(uuid)
            self._rise(uuid)
            return
        if workload.broken or workload.deleting:
            self._awake.discard(uuid)
            self._felled.pop(uuid, None)
        elif uuid in self._awake:
            self._awake.remove(uuid)
            if self._leads():
                self._falls[uuid] = _Fall(self._now(), workload)
                self._news.set()

    def _rise(self, uuid: SessionId) -> None:
        fall, felled = self._falls.get(uuid), self._felled.pop(uuid, None)
        if fall is not None and fall.risen is None:
            fall.risen = self._now()
        if felled is not None:
            self._heal(felled, self._now())

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
        rhythm = fall.workload.rhythm or self._rhythm
        if wanted(record.pulse, fall.at):
            self._meter.felled()
            if fall.risen is not None:
                self._heal(fall.at, fall.risen)
            else:
                self._felled[record.uuid] = fall.at
        elif early(record.last_activity, fall.workload.last_active, fall.at, rhythm.cooldown):
            log.error("a session fell asleep while it was in use", extra={"uuid": record.uuid})
            self._meter.slept_early()

    def _heal(self, felled: datetime, risen: datetime) -> None:
        self._meter.healed(max(0.0, (risen - felled).total_seconds()))


def wanted(pulse: Pulse, at: datetime) -> bool:
    """Whether the queue was not empty then: a push since does not count."""
    return pulse.beats and (pulse.pending_since is None or pulse.pending_since <= at)


def early(used: datetime | None, seen: datetime | None, at: datetime, cooldown: timedelta) -> bool:
    """Whether KEDA has ended the pod at a time when it was still in use; use since then does not count.

    KEDA waits for its cooldown from its last sight of the queue. An earlier end is somebody's will: a call of sleep, or
    an operator's scale.
    """
    by_keda = seen is None or at >= seen + cooldown - _ROUNDING
    return by_keda and used is not None and used <= at < used + cooldown
