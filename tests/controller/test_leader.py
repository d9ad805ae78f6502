"""Leader election, what a leader reacts to, and what it does when dependencies fail; over the fakes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from service.controller.leader import Leader
from service.controller.leadership import Leadership
from service.controller.reconciler import Reconciler
from service.domain.errors import ClusterUnavailable, NotificationsRefused
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.supervisor import Supervisor
from tests.controller.simulation import UUID, asleep, record
from tests.fakes import MemoryCluster, MemoryElection, MemoryQueues
from tests.waiting import until

TERM = timedelta(seconds=0.3)


@dataclass
class Replica:
    """Reconciler and leader of one process."""

    cluster: MemoryCluster
    queues: MemoryQueues
    election: MemoryElection
    resync: float = 60
    pending: float = 60
    leadership: Leadership = field(default_factory=Leadership)
    reconciler: Reconciler = field(init=False)
    leader: Leader = field(init=False)

    def __post_init__(self) -> None:
        self.reconciler = Reconciler(
            queues=self.queues,
            cluster=self.cluster,
            cache=self.cluster,
            idle_times=IdleTimes(),
            leadership=self.leadership,
            defer_unparks=timedelta(0),
        )
        self.leader = Leader(
            election=self.election,
            leadership=self.leadership,
            reconciler=self.reconciler,
            queues=self.queues,
            cache=self.cluster,
            resync_interval=timedelta(seconds=self.resync),
            pending_interval=timedelta(seconds=self.pending),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(work) for work in (self.reconciler.run(), self.leader.run())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def world() -> tuple[MemoryCluster, MemoryQueues]:
    cluster, queues = MemoryCluster(), MemoryQueues(index_is_complete=True)
    queues.sessions[UUID] = record()
    cluster.change(asleep())
    return cluster, queues


async def test_a_leader_that_ends_releases_the_lease_and_the_next_leads_at_once() -> None:
    cluster, queues = world()
    term = timedelta(hours=1)
    first = Replica(cluster, queues, MemoryElection("first", term))
    second = Replica(cluster, queues, MemoryElection("second", TERM, first.election.lease))
    async with second.running():
        async with first.running():
            await until(lambda: first.leader.leads or second.leader.leads)
        await until(lambda: second.leader.leads)
        assert not first.leader.leads
        assert not first.leadership.held


async def test_a_leader_without_answers_stops_leading_before_another_could_start() -> None:
    cluster, queues = world()
    replica = Replica(cluster, queues, MemoryElection("first", TERM))
    async with replica.running():
        await until(lambda: replica.leader.leads)

        async def away() -> bool:
            raise ClusterUnavailable

        replica.election.acquire_or_renew = away  # type: ignore[method-assign]
        await until(lambda: not replica.leader.leads)
        assert replica.election.lease["first"] > replica.election.clock(), "another may lead already"
        assert not replica.leadership.held
        del replica.election.acquire_or_renew
        await until(lambda: replica.leader.leads)


async def test_an_outage_of_the_election_is_logged_once_and_so_is_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "service.controller.leader")
    cluster, queues = world()
    replica = Replica(cluster, queues, MemoryElection("first", TERM))
    asked = 0
    async with replica.running():
        await until(lambda: replica.leader.leads)

        async def away() -> bool:
            nonlocal asked
            asked += 1
            raise ClusterUnavailable

        replica.election.acquire_or_renew = away  # type: ignore[method-assign]
        await until(lambda: asked > 3)
        del replica.election.acquire_or_renew
        await until(lambda: "the leader is known again" in caplog.messages)
    logged = [message for message in caplog.messages if message.startswith("the leader is")]
    assert logged == ["the leader is unknown until kubernetes answers", "the leader is known again"]


async def test_a_push_by_hand_wakes() -> None:
    cluster, queues = world()
    replica = Replica(cluster, queues, MemoryElection("first", TERM))
    async with replica.running():
        await until(lambda: replica.leader.listens is True)
        queues.push_by_hand(UUID)
        await until(lambda: cluster.workload(UUID).replicas == 1 and not cluster.workload(UUID).parked)
        assert queues.queue(UUID).lease_until is not None


async def test_without_notifications_the_resync_wakes_and_health_says_why() -> None:
    cluster, queues = world()

    def refused() -> AsyncIterator[SessionId | None]:
        raise NotificationsRefused

    queues.pushes = refused  # type: ignore[method-assign]
    replica = Replica(cluster, queues, MemoryElection("first", TERM), resync=0.05)
    async with replica.running():
        await until(lambda: replica.leader.remark() is not None)
        queues.push_by_hand(UUID)
        await until(lambda: cluster.workload(UUID).replicas == 1)


async def test_pending_wakes_are_reconciled_although_nothing_changes() -> None:
    cluster, queues = world()
    replica = Replica(cluster, queues, MemoryElection("first", TERM), pending=0.05)
    async with replica.running():
        await until(lambda: replica.leader.listens is True)
        queues.waiting[UUID] = queues.clock() - timedelta(seconds=30)  # its token has run out, and nobody heard of it
        await until(lambda: cluster.workload(UUID).replicas == 1)
        assert queues.queue(UUID).tokens == 1


async def test_a_duty_that_fails_is_restarted() -> None:
    cluster, queues = world()
    replica = Replica(cluster, queues, MemoryElection("first", TERM))
    pushes, failed = queues.pushes, asyncio.Event()

    def fails_once() -> AsyncIterator[SessionId | None]:
        queues.pushes = pushes  # type: ignore[method-assign]
        failed.set()
        raise RuntimeError("a bug")

    queues.pushes = fails_once  # type: ignore[method-assign]
    async with replica.running():
        await until(failed.is_set)
        await until(lambda: replica.leader.listens is True)


async def test_a_failed_duty_stops_neither_the_others_nor_the_leadership() -> None:
    cluster, queues = world()
    replica = Replica(cluster, queues, MemoryElection("first", TERM), pending=0.02)
    failures = 0

    async def fails() -> None:
        nonlocal failures
        failures += 1
        raise RuntimeError("a bug")

    replica.leader._duties = {**replica.leader._duties, "bad": fails}
    async with replica.running():
        await until(lambda: replica.leader.listens is True)
        await until(lambda: failures > 1)
        assert replica.leader.leads
        assert replica.leader.listens, "it would have ended with the bad one"
        queues.waiting[UUID] = queues.clock() - timedelta(seconds=30)
        await until(lambda: cluster.workload(UUID).replicas == 1)


async def test_a_leader_stopped_by_an_invalid_answer_is_restarted_and_leads_again() -> None:
    cluster, queues = world()
    replica = Replica(cluster, queues, MemoryElection("first", TERM))
    supervisor = Supervisor(first=0.01)

    async def nonsense() -> bool:
        raise ValueError("<html>maintenance</html>")

    async with supervisor.running({"controller": replica.reconciler.run, "leader": replica.leader.run}):
        await until(lambda: replica.leader.leads)
        replica.election.acquire_or_renew = nonsense  # type: ignore[method-assign]
        await until(lambda: supervisor.restarts["leader"] > 1)
        assert "ValueError" in str(supervisor.failures()["leader"])
        assert supervisor.failures()["controller"] is None
        del replica.election.acquire_or_renew
        await until(lambda: replica.leader.leads)
