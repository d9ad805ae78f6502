"""Finishes interrupted creates and deletes, and fills an empty Redis from the cluster.

Creates and deletes enter a small index when they begin (`Store.unfinished`), so checking it costs next to nothing. A
full scan, at the start and every ten minutes, finds what is in no index.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from service.domain.backoff import Backoff
from service.domain.errors import (
    ClusterUnavailable,
    HelmQueueFull,
    IdTaken,
    RedisUnavailable,
    SessionBusy,
    SessionError,
    SessionNotFound,
    SessionUnreadable,
    Unavailable,
    causes,
)
from service.domain.names import SessionId
from service.domain.ports import Cluster, Store
from service.domain.provisioning import Provisioner
from service.domain.record import Record, RecordStatus
from service.domain.workload import Workload

log = logging.getLogger(__name__)

_BATCH = 50
_CONCURRENT = 8
"""Sessions that are finished at the same time; helm's admission queue may allow fewer."""
_MAX_UNFINISHED = 1000
"""Sessions that one check takes from the index."""
_MIN_AGE = timedelta(seconds=5)
"""Younger work is most likely in progress, or its caller is about to try again."""
_SCAN_INTERVAL = 600.0
"""Seconds between two full scans."""
_MAX_BACKOFF = 600.0
"""Maximum number of seconds between two attempts at a session that always fails."""

Unfinished = tuple[SessionId, str | None]
"""The session's id, and the user whose create it is; None for a delete."""


class Recovery:
    """Safe in any number of replicas: every step is idempotent, and helm work holds the session's lock."""

    def __init__(
        self, *, provisioner: Provisioner, store: Store, cluster: Cluster, min_age: timedelta = _MIN_AGE
    ) -> None:
        self._provisioner = provisioner
        self._store = store
        self._cluster = cluster
        self._min_age = min_age
        self._failed: dict[SessionId, tuple[Backoff, float]] = {}
        """Of the sessions that could not be finished: the backoff, and when the next attempt is due."""
        self._running: dict[SessionId, asyncio.Task[bool]] = {}
        self._slots = asyncio.Semaphore(_CONCURRENT)

    async def run_forever(self, interval: float) -> None:
        """Check the index every `interval` seconds until cancelled, beginning with a full scan.

        A session that always fails is attempted ever less often, and delays no other.
        """
        next_scan, clock = float("-inf"), asyncio.get_running_loop().time
        try:
            while True:
                try:
                    await self._store.ping()  # a write: this notices a demoted Redis even when nothing else writes
                    if not await self._store.index_complete() or clock() >= next_scan:
                        self._start(await self._scan(), interval)
                        next_scan = clock() + _SCAN_INTERVAL * random.uniform(0.9, 1.1)  # noqa: S311 - only spreads the load
                    else:
                        self._start(await self._store.unfinished(self._min_age, _MAX_UNFINISHED), interval)
                except Unavailable as unavailable:
                    log.warning("recovery waits for %s: %s", unavailable.part, unavailable)
                await asyncio.sleep(interval)
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def run(self) -> bool:
        """Do one full scan and finish what it finds; False when something is left for a later attempt."""
        return all(await asyncio.gather(*(self._finish(uuid, user) for uuid, user in await self._scan())))

    # --- find unfinished work ---

    async def _scan(self) -> list[Unfinished]:
        if not await self._store.index_complete():
            await self._rebuild()
        found: list[Unfinished] = [(uuid, user) for uuid, user in await self._store.claims()]
        after = ""
        while batch := await self._store.page(after, _BATCH):
            records = await self._store.records(batch)
            found += [(record.uuid, None) for record in records if record.status is RecordStatus.DELETING]
            after = batch[-1]
        return found

    async def _rebuild(self) -> None:
        """Restore the record of every session in the cluster that has a user; the others are not the service's."""
        restored = 0
        async for workload in self._cluster.scan():
            if workload.user_id is not None and not workload.released:
                restored += await self._restored(workload, workload.user_id)
        await self._store.mark_index_complete()
        log.info("the index of sessions is complete", extra={"restored": restored})

    async def _restored(self, workload: Workload, user_id: str) -> bool:
        """Whether the session was restored. One that cannot be must not keep the others from it."""
        try:
            return await self._restore(workload, user_id)
        except Unavailable:
            raise
        except Exception:
            log.exception(
                "the session was not restored; its user's next create does that", extra={"uuid": workload.uuid}
            )
            return False

    async def _restore(self, workload: Workload, user_id: str) -> bool:
        try:
            claimed = await self._store.claim(user_id, workload.uuid)
        except (IdTaken, SessionUnreadable):
            claimed = None
        if claimed != workload.uuid:
            log.error("the cluster and Redis disagree on whose session this is", extra={"uuid": workload.uuid})
            return False
        if workload.release is None or await self._store.records([workload.uuid]):
            return False  # a reservation: `finish` continues from the claim
        created_at = workload.created_at or datetime.now(UTC)
        await self._store.save(Record(workload.uuid, user_id, RecordStatus.CREATED, created_at))
        return True

    # --- finish it ---

    def _start(self, unfinished: Sequence[Unfinished], interval: float) -> None:
        """Start on the sessions that are due, those that failed least often first. `interval` is the first backoff."""
        now = asyncio.get_running_loop().time()
        # Forget sessions that another process has finished.
        self._failed = {uuid: failed for uuid, failed in self._failed.items() if failed[1] > now - 2 * _MAX_BACKOFF}
        due = [each for each in unfinished if each[0] not in self._running and self._failures(each[0])[1] <= now]
        for uuid, user_id in sorted(due, key=lambda each: self._failures(each[0])[0].failures):
            task = asyncio.create_task(self._attempt(uuid, user_id, interval), name=f"recovery of {uuid}")
            self._running[uuid] = task
            task.add_done_callback(lambda _, uuid=uuid: self._running.pop(uuid, None))  # type: ignore[misc]

    def _failures(self, uuid: SessionId) -> tuple[Backoff, float]:
        return self._failed.get(uuid) or (Backoff(1, _MAX_BACKOFF), 0.0)

    async def _attempt(self, uuid: SessionId, user_id: str | None, interval: float) -> bool:
        async with self._slots:
            done = await self._finish(uuid, user_id)
        if done:
            self._failed.pop(uuid, None)
        else:
            backoff = self._failed[uuid][0] if uuid in self._failed else Backoff(max(interval, 0.01), _MAX_BACKOFF)
            self._failed[uuid] = (backoff, asyncio.get_running_loop().time() + backoff.next())
        return done

    async def _finish(self, uuid: SessionId, user_id: str | None) -> bool:
        """Finish one session; False when another attempt makes sense. Its failures affect no other session."""
        try:
            await self._continue(uuid, user_id)
        except SessionNotFound:
            log.info("another process has finished it", extra={"uuid": uuid})
        except IdTaken:
            log.info("the id of an unfinished create now belongs to another user", extra={"uuid": uuid})
        except (SessionBusy, HelmQueueFull, RedisUnavailable, ClusterUnavailable) as error:
            log.info("finished later: %s", error, extra={"uuid": uuid})
            return False
        except SessionError as error:
            log.warning(
                "unfinished work failed, and is tried again: %s", error, extra={"uuid": uuid, "cause": causes(error)}
            )
            return False
        except Exception:
            log.exception("unfinished work failed, and is tried again", extra={"uuid": uuid})
            return False
        return True

    async def _continue(self, uuid: SessionId, user_id: str | None) -> None:
        record = next(iter(await self._store.records([uuid])), None)
        if record is not None and record.status is RecordStatus.DELETING:
            await self._provisioner.finish_delete(record)
        elif record is None and user_id is not None:
            await self._provisioner.finish(uuid, user_id, wait=False)
        else:
            await self._store.mark_finished(uuid)
            return
        log.info("finished an interrupted create or delete", extra={"uuid": uuid})
