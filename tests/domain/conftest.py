"""The domain on the memory adapters."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from service.domain.admission_queue import AdmissionQueue
from service.domain.journal import JournalEntry
from service.domain.names import SessionId, new_session_id
from service.domain.recovery import Recovery
from service.domain.session import IdleTimes
from service.domain.sessions import Sessions
from tests.fakes import (
    MemoryCluster,
    MemoryHistory,
    MemoryProgress,
    MemoryQueues,
    MemoryReleases,
    MemoryStore,
)


class Notes:
    """A Journal that remembers."""

    def __init__(self) -> None:
        self.happenings: list[JournalEntry] = []

    def note(self, happening: JournalEntry) -> None:
        self.happenings.append(happening)


@dataclass
class World:
    """Everything of one imagined cluster; `replica` makes another service process on it."""

    queues: MemoryQueues = field(default_factory=lambda: MemoryQueues(index_is_complete=True))
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    new_id: Callable[[], SessionId] = new_session_id
    waiting: int = 1000

    def __post_init__(self) -> None:
        self.progress = MemoryProgress()
        self.history = MemoryHistory(self.queues.sessions)
        self.journal = Notes()
        self.store = MemoryStore(self.queues, self.progress, self.history)
        self.releases = MemoryReleases(self.cluster)
        self.sessions = self.replica()

    def replica(self) -> Sessions:
        return Sessions(
            store=self.store,
            queues=self.queues,
            progress=self.progress,
            history=self.history,
            journal=self.journal,
            releases=self.releases,
            cluster=self.cluster,
            cache=self.cluster,
            admission=AdmissionQueue(running=2, waiting=self.waiting),
            idle_times=IdleTimes(),
            helm_deadline=timedelta(seconds=5),
            new_id=lambda: self.new_id(),  # noqa: PLW0108 - a test may exchange it later
        )

    def recovery(self) -> Recovery:
        return Recovery(sessions=self.sessions, store=self.store, cluster=self.cluster)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.sessions.close()
