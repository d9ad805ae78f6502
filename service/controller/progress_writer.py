"""Writes the progress of wakes to Redis, where several replicas may follow one wake: what two write counts once."""

import asyncio
import logging
import time
from dataclasses import dataclass, field

from service.controller.work_queue import WorkQueue
from service.domain.errors import SessionError, SessionReleased
from service.domain.names import SessionId
from service.domain.ports import Progress, Queues, WorkloadCache
from service.domain.progress import ProgressUpdate, Stage, reached
from service.domain.workload import Workload

log = logging.getLogger(__name__)

_WORKERS = 16
"""Each uses at most one connection to Redis; the pool has 32, so that half stay free for requests."""
_POLL = 1.0
"""Seconds between two checks of each wake: the deadline of a pod passes without any change of the cache."""
_RETRY = (0.25, 5.0)
"""Seconds: the first pause after a failure, and the longest."""
_MAX_FAILURES = 10
"""Unexpected failures in a row after which a wake is dropped."""
_CACHE_DELAY = 60.0
"""Seconds after which a cache that still shows no complete release is believed: the session is gone."""
_ORDER = list(Stage)


@dataclass(slots=True)
class _Wake:
    pending: list[ProgressUpdate] = field(default_factory=list)
    """Updates from others than the cache that are not written yet."""
    written: set[ProgressUpdate] = field(default_factory=set)
    was_complete: bool = False
    """The cache has shown a complete release, or had the time to: before, a missing one may only mean it is behind."""
    began: float = field(default_factory=time.monotonic)
    was_wanted: bool = False
    """A pod was wanted: if none is any more, the wake ends unless its queue says otherwise."""


class ProgressWriter:
    """Writes what the cache shows of each wake that it follows, and the updates that it is given."""

    def __init__(self, *, progress: Progress, queues: Queues, cache: WorkloadCache) -> None:
        self._progress = progress
        self._queues = queues
        self._cache = cache
        self._wakes: dict[SessionId, _Wake] = {}
        self._work: WorkQueue[SessionId] = WorkQueue(first=_RETRY[0], longest=_RETRY[1])

    def follow(self, uuid: SessionId, *updates: ProgressUpdate) -> None:
        """Write what the cache shows of the wake until it ends, and these updates that the cache does not show yet."""
        self._wakes.setdefault(uuid, _Wake()).pending.extend(updates)
        self._work.add(uuid)

    def follows(self, uuid: SessionId) -> bool:
        return uuid in self._wakes

    def end(self, uuid: SessionId) -> None:
        """The session is no longer wanted: its wake ends, even if no replica saw that a pod was requested."""
        self.follow(uuid)
        self._wakes[uuid].was_wanted = True

    async def run(self) -> None:
        """Write until cancelled."""
        try:
            async with asyncio.TaskGroup() as workers:
                for number in range(_WORKERS):
                    workers.create_task(self._work_forever(), name=f"progress writer {number}")
        finally:
            self._work.release()

    async def _work_forever(self) -> None:
        while True:
            for uuid in await self._work.get():
                wake = self._wakes.get(uuid)
                if wake is not None:
                    await self._process(uuid, wake)
                self._work.done(uuid)

    async def _process(self, uuid: SessionId, wake: _Wake) -> None:
        over, failure = False, None
        try:
            over = await self._write(uuid, wake)
        except SessionError as error:
            failure = str(error)
        except Exception as error:
            log.exception("the progress of a wake cannot be written", extra={"uuid": uuid})
            over, failure = self._work.failures(uuid) >= _MAX_FAILURES, type(error).__name__
        if failure and not over:
            pause = self._work.add_rate_limited(uuid)
            log.warning("progress is written again in %.2f s: %s", pause, failure, extra={"uuid": uuid})
            return
        self._work.forget(uuid)
        if over:
            del self._wakes[uuid]
        else:
            self._work.add_after(uuid, _POLL)

    async def _write(self, uuid: SessionId, wake: _Wake) -> bool:
        """Write what is new; returns whether the wake has ended."""
        pending, workload = len(wake.pending), self._cache.workload(uuid)
        wake.was_complete |= workload.broken_reason is None or time.monotonic() - wake.began > _CACHE_DELAY
        wake.was_wanted |= workload.replicas > 0
        if workload.replicas == 0:
            wake.written.clear()  # it may belong to an earlier wake, which failed and was begun again
        found = {*wake.pending, *reached(workload), *await self._end_of(workload, wake)}
        fresh = sorted(found - wake.written, key=lambda update: _ORDER.index(update.stage))
        accepted = not fresh or await self._progress.write(uuid, *fresh)
        wake.written.update(fresh)
        del wake.pending[:pending]
        ended = any(update.stage in (Stage.READY, Stage.ASLEEP) for update in fresh)
        return ended or not accepted or (wake.was_complete and workload.broken_reason is not None)

    async def _end_of(self, workload: Workload, wake: _Wake) -> list[ProgressUpdate]:
        """The ends of a wake that do not show in its pod."""
        if workload.broken_reason:
            reason = SessionReleased.message if workload.released else workload.broken_reason
            return [ProgressUpdate(Stage.FAILED, reason, final=True)] if wake.was_complete else []
        if workload.replicas == 0 and wake.was_wanted:
            queue = (await self._queues.read([workload.uuid]))[workload.uuid]
            return [] if queue.is_wanted else [ProgressUpdate(Stage.ASLEEP)]
        return []
