"""Finishes what was left half-done: by crashes, by parts that were away, and by a Redis that has lost the index.

What is begun is entered in a small index of unfinished creates and deletes (`Store.unfinished`), so that looking for it
costs next to nothing; a pass over everything, at the start and now and then, finds what no index has.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from service.domain.backoff import Backoff
from service.domain.errors import (
    ClusterUnavailable,
    IdTaken,
    RedisUnavailable,
    SessionBusy,
    SessionError,
    SessionNotFound,
    SessionUnreadable,
    TooManyCreates,
    Unavailable,
    causes,
)
from service.domain.names import SessionId
from service.domain.ports import Cluster, Store
from service.domain.provisioning import Provisioner
from service.domain.session import Record, RecordStatus, Workload

log = logging.getLogger(__name__)

_BATCH = 50
_AT_ONCE = 8
"""Sessions finished side by side, of those that helm's slots have room for."""
_MOST = 1000
"""Sessions of the index that one look takes up."""
_AGE = timedelta(seconds=5)
"""Younger work is most likely under way, or its caller is about to try again."""
_PASS = 600.0
"""Seconds between two passes over everything."""
_LONGEST = 600.0
"""Seconds between two tries of what always fails, at most."""

Half = tuple[SessionId, str | None]
"""What is half-done: the id, and whose create it is; None for a delete."""


class Recovery:
    """Safe in any number of replicas at once: every step is idempotent, and helm work is under the session's lease."""

    def __init__(self, *, provisioner: Provisioner, store: Store, cluster: Cluster, age: timedelta = _AGE) -> None:
        self._provisioner = provisioner
        self._store = store
        self._cluster = cluster
        self._age = age
        self._tries: dict[SessionId, tuple[Backoff, float]] = {}
        """Of those that failed: the pauses, and when to try again."""
        self._running: dict[SessionId, asyncio.Task[bool]] = {}
        self._room = asyncio.Semaphore(_AT_ONCE)

    async def run_forever(self, interval: float) -> None:
        """Look every `interval` seconds, first at everything; until cancelled.

        A session that always fails is tried ever less often, and delays no other.
        """
        next_pass, clock = float("-inf"), asyncio.get_running_loop().time
        try:
            while True:
                try:
                    await self._store.ping()  # a write: a demoted Redis is noticed although nobody else writes
                    if not await self._store.index_complete() or clock() >= next_pass:
                        self._begin(await self._everything(), interval)
                        next_pass = clock() + _PASS * random.uniform(0.9, 1.1)  # noqa: S311 - only spreads the load
                    else:
                        await self.look(interval)
                except Unavailable as unavailable:
                    log.warning("recovery waits for %s: %s", unavailable.part, unavailable)
                await asyncio.sleep(interval)
        finally:
            await self._end()

    async def look(self, interval: float = 0) -> None:
        """Begin to finish what the index has, without waiting for it; `interval` is the first pause after a failure."""
        self._begin(await self._store.unfinished(self._age, _MOST), interval)

    async def run(self) -> bool:
        """One pass over everything, waited for; False when something was left to whoever is at work on it."""
        return all(await asyncio.gather(*(self._finish(uuid, user) for uuid, user in await self._everything())))

    # --- what is half-done ---

    async def _everything(self) -> list[Half]:
        if not await self._store.index_complete():
            await self._rebuild()
        half: list[Half] = [(uuid, user) for uuid, user in await self._store.claims()]
        after = ""
        while batch := await self._store.page(after, _BATCH):
            records = await self._store.records(batch)
            half += [(record.uuid, None) for record in records if record.status is RecordStatus.DELETING]
            after = batch[-1]
        return half

    async def _rebuild(self) -> None:
        """Enter every session of the cluster that has a user; the others belong to nobody here."""
        restored = 0
        async for workload in self._cluster.scan():
            if workload.user_id is not None and not workload.released:
                restored += await self._restored(workload, workload.user_id)
        await self._store.mark_index_complete()
        log.info("the index of sessions is whole", extra={"restored": restored})

    async def _restored(self, workload: Workload, user_id: str) -> bool:
        """Whether it was restored; one that cannot be must not keep all others from it."""
        try:
            return await self._restore(workload, user_id)
        except Unavailable:
            raise
        except Exception:
            log.exception("not restored; its user's next create does it", extra={"uuid": workload.uuid})
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
            return False  # a reservation: `finish` goes on from the claim
        created_at = workload.created_at or datetime.now(UTC)
        await self._store.save(Record(workload.uuid, user_id, RecordStatus.CREATED, created_at))
        return True

    # --- finishing it ---

    def _begin(self, half: Sequence[Half], interval: float) -> None:
        """Start on those whose time has come, those that failed least often first."""
        now = asyncio.get_running_loop().time()
        # What somebody else has finished is tried no more, and need not be remembered.
        self._tries = {uuid: tried for uuid, tried in self._tries.items() if tried[1] > now - 2 * _LONGEST}
        due = [each for each in half if each[0] not in self._running and self._tried(each[0])[1] <= now]
        for uuid, user_id in sorted(due, key=lambda each: self._tried(each[0])[0].failures):
            task = asyncio.create_task(self._attempt(uuid, user_id, interval))
            self._running[uuid] = task
            task.add_done_callback(lambda _, uuid=uuid: self._running.pop(uuid, None))  # type: ignore[misc]

    def _tried(self, uuid: SessionId) -> tuple[Backoff, float]:
        return self._tries.get(uuid) or (Backoff(1, _LONGEST), 0.0)

    async def _attempt(self, uuid: SessionId, user_id: str | None, interval: float) -> bool:
        async with self._room:
            done = await self._finish(uuid, user_id)
        if done:
            self._tries.pop(uuid, None)
        else:
            backoff = self._tries[uuid][0] if uuid in self._tries else Backoff(max(interval, 0.01), _LONGEST)
            self._tries[uuid] = (backoff, asyncio.get_running_loop().time() + backoff.next())
        return done

    async def _finish(self, uuid: SessionId, user_id: str | None) -> bool:
        """Finish one; False when another try is worth it. Whatever goes wrong with it is its own."""
        try:
            await self._carry_on(uuid, user_id)
        except SessionNotFound:
            log.info("another process has finished it", extra={"uuid": uuid})
        except IdTaken:
            log.info("the id of a half-done create belongs to somebody else by now", extra={"uuid": uuid})
        except (SessionBusy, TooManyCreates, RedisUnavailable, ClusterUnavailable) as error:
            log.info("to be finished later: %s", error, extra={"uuid": uuid})
            return False
        except SessionError as error:
            log.warning("left half-done, and tried again: %s", error, extra={"uuid": uuid, "cause": causes(error)})
            return False
        except Exception:
            log.exception("could not finish what was left half-done; it is tried again", extra={"uuid": uuid})
            return False
        return True

    async def _carry_on(self, uuid: SessionId, user_id: str | None) -> None:
        record = next(iter(await self._store.records([uuid])), None)
        if record is not None and record.status is RecordStatus.DELETING:
            await self._provisioner.delete(uuid, keep_data=record.keep_data, wait=False)
        elif record is None and user_id is not None:
            await self._provisioner.finish(uuid, user_id, wait=False)
        else:
            await self._store.mark_finished(uuid)
            return
        log.info("finished what was left half-done", extra={"uuid": uuid})

    async def _end(self) -> None:
        tasks = [*self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
