"""Heals what crashes and losses left behind: at start-up, and again whenever Redis turns out to have lost the index."""

import asyncio
import logging
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from service.domain.errors import (
    ClusterUnavailable,
    IdTaken,
    RedisUnavailable,
    SessionBusy,
    SessionNotFound,
    TooManyCreates,
    Unavailable,
)
from service.domain.names import SessionId
from service.domain.ports import Cluster, Store
from service.domain.session import Record, RecordStatus, Workload
from service.domain.sessions import Sessions

log = logging.getLogger(__name__)

_BATCH = 50


class Recovery:
    """Safe in any number of replicas at once: every step is idempotent, and helm work is under the session's lease."""

    def __init__(self, *, sessions: Sessions, store: Store, cluster: Cluster) -> None:
        self._sessions = sessions
        self._store = store
        self._cluster = cluster

    async def run_forever(self, interval: float) -> None:
        """Recover once everything answers, then look every `interval` seconds whether the index is still whole.

        What some other process may still be at work on is looked at again, until it is done by either.
        """
        done = False
        while True:
            try:
                if not done or not await self._store.whole():
                    done = await self.run()
            except Unavailable as unavailable:
                log.warning("recovery waits for %s", unavailable.part)
            await asyncio.sleep(interval)

    async def run(self) -> bool:
        """One pass over everything; False when something was left to whoever is at work on it."""
        if not await self._store.whole():
            await self._rebuild()
        claims = await self._store.claims()
        done = await self._heal([(uuid, self._sessions.finish(uuid, user_id)) for uuid, user_id in claims])
        after = ""
        while batch := await self._store.page(after, _BATCH):
            done &= await self._heal(
                [
                    (record.uuid, self._sessions.delete(record.uuid, keep_data=record.keep_data))
                    for record in await self._store.records(batch)
                    if record.status is RecordStatus.DELETING
                ]
            )
            after = batch[-1]
        return done

    async def _rebuild(self) -> None:
        """Enter every session of the cluster that has a user; the others belong to nobody here."""
        restored = 0
        async for workload in self._cluster.scan():
            if workload.user_id is not None and not workload.released:
                restored += await self._restore(workload, workload.user_id)
        await self._store.mark_whole()
        log.info("the index of sessions is whole", extra={"restored": restored})

    async def _restore(self, workload: Workload, user_id: str) -> bool:
        try:
            claimed = await self._store.claim(user_id, workload.uuid)
        except IdTaken:
            claimed = None
        if claimed != workload.uuid:
            log.error("the cluster and Redis disagree on whose session this is", extra={"uuid": workload.uuid})
            return False
        if workload.release is None or await self._store.records([workload.uuid]):
            return False  # a reservation: `finish` goes on from the claim
        created_at = workload.created_at or datetime.now(UTC)
        await self._store.save(Record(workload.uuid, user_id, RecordStatus.CREATED, created_at))
        return True

    async def _heal(self, repairs: list[tuple[SessionId, Coroutine[Any, Any, object]]]) -> bool:
        """Run repairs side by side (helm's slots bound them); False when another pass is worth it.

        What fails is left to the next create or start, which can tell somebody.
        """
        done = True
        results = await asyncio.gather(*(work for _, work in repairs), return_exceptions=True)
        for (uuid, _), result in zip(repairs, results, strict=True):
            match result:
                case SessionNotFound():
                    log.info("another process has finished it", extra={"uuid": uuid})
                case SessionBusy() | TooManyCreates() | RedisUnavailable() | ClusterUnavailable():
                    log.info("to be looked at again: %s", result, extra={"uuid": uuid})
                    done = False
                case Exception():
                    log.error("could not finish what was left half-done", extra={"uuid": uuid}, exc_info=result)
                case _:
                    log.info("finished what was left half-done", extra={"uuid": uuid})
        return done
