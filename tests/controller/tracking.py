"""A WakeTracker and what it feeds, over the fakes: one replica."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from service.controller.journal_writer import JournalWriter
from service.controller.leadership import Leadership
from service.controller.progress_writer import ProgressWriter
from service.controller.wake_timer import WakeTimer
from service.controller.wake_tracker import WakeTracker
from service.domain import journal, metrics
from service.domain.clock import utc_now
from service.domain.journal import Journal
from service.domain.metrics import ServiceMetrics
from service.domain.wake_times import WakeTimes
from tests.controller.simulation import IDLE_TIMES
from tests.fakes import (
    MemoryCluster,
    MemoryHistory,
    MemoryMeasuredWakes,
    MemoryPodEvents,
    MemoryProgress,
    MemoryQueues,
    MemoryStore,
)


async def settled() -> None:
    """Let every task run until it waits for something outside."""
    for _ in range(20):
        await asyncio.sleep(0)


class Tracking:
    def __init__(
        self,
        cluster: MemoryCluster,
        queues: MemoryQueues,
        *,
        leads: bool = False,
        progress: MemoryProgress | None = None,
        pod_events: MemoryPodEvents | None = None,
        history: MemoryHistory | None = None,
        metrics: ServiceMetrics = metrics.SILENT,
        journal: Journal = journal.SILENT,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.leadership = Leadership(held=leads)
        self.tasks: list[asyncio.Task[None]] = []
        self.measured = MemoryMeasuredWakes()
        self.times = WakeTimes(self.measured)
        self.timer = WakeTimer(metrics, self.times, clock, now)
        self.progress_writer = ProgressWriter(progress=progress or MemoryProgress(), queues=queues, cache=cluster)
        self.journal_writer = JournalWriter(
            store=MemoryStore(queues),
            history=history or MemoryHistory(),
            metrics=metrics,
            journal=journal,
            idle_times=IDLE_TIMES,
            leadership=self.leadership,
        )
        self.tracker = WakeTracker(
            cache=cluster,
            pod_events=pod_events or MemoryPodEvents(),
            leadership=self.leadership,
            timer=self.timer,
            progress=self.progress_writer,
            transitions=self.journal_writer,
            now=now,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        for work in (self.tracker.run, self.progress_writer.run, self.journal_writer.run, self.times.run):
            self.tasks.append(asyncio.create_task(work()))
        await asyncio.sleep(0)  # from now on it follows changes
        try:
            yield
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def lead(self) -> None:
        self.leadership.held = True
        self.tasks.append(asyncio.create_task(self.tracker.lead()))
