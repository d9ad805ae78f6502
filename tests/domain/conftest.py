"""The domain on the memory adapters."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from service.domain.activity import SessionActivity
from service.domain.admission_queue import AdmissionQueue
from service.domain.awake_quota import AwakeLimits, AwakeQuota
from service.domain.diagnosis.diagnosis import Doctor
from service.domain.expiry import NEVER, ExpiryRule
from service.domain.expiry_notes import ExpiryNotes
from service.domain.health import Health
from service.domain.idle_times import IdleTimes
from service.domain.journal import JournalEntry
from service.domain.names import SessionId, new_session_id
from service.domain.observers import WakeObserver
from service.domain.profiles import NO_PROFILES, Profiles
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.recovery import Recovery
from service.domain.revocation import Revocation
from service.domain.rollouts import RolloutControl
from service.domain.upgrading import ReleaseUpgrades
from service.wiring.diagnosis import System, make_doctor
from tests.fakes import (
    MemoryAuditTrail,
    MemoryCluster,
    MemoryClusterFacts,
    MemoryCompanions,
    MemoryDiagnoses,
    MemoryHistory,
    MemoryInventory,
    MemoryMeasuredWakes,
    MemoryPortProbe,
    MemoryProgress,
    MemoryQueues,
    MemoryRedisInspector,
    MemoryReleases,
    MemoryRollouts,
    MemoryStore,
)


class Notes:
    """A Journal that remembers."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []

    def note(self, entry: JournalEntry) -> None:
        self.entries.append(entry)


@dataclass(frozen=True)
class Replica:
    """The use cases of one service process."""

    provisioner: Provisioner
    activity: SessionActivity
    queries: SessionQueries


@dataclass
class World:
    """Everything of one imagined cluster; `replica` makes another service process on it."""

    queues: MemoryQueues = field(default_factory=lambda: MemoryQueues(index_is_complete=True))
    cluster: MemoryCluster = field(default_factory=MemoryCluster)
    new_id: Callable[[], SessionId] = new_session_id
    waiting: int = 1000
    profiles: Profiles = NO_PROFILES
    awake_limit: int = 0
    """0: no limit."""
    awake_limits: Mapping[str, int] = field(default_factory=dict)
    """Of groups."""

    expiry_rule: ExpiryRule = NEVER
    shared_policies: bool = False
    in_cluster: bool = True

    def __post_init__(self) -> None:
        self.progress = MemoryProgress()
        self.companions = MemoryCompanions()
        self.history = MemoryHistory(self.queues.sessions)
        self.journal = Notes()
        self.trail = MemoryAuditTrail()
        self.measured = MemoryMeasuredWakes()
        self.store = MemoryStore(self.queues, self.progress, self.history)
        self.releases = MemoryReleases(self.cluster)
        self.inventory = MemoryInventory()
        self.facts = MemoryClusterFacts()
        self.redis = MemoryRedisInspector(self.queues)
        self.rollouts = MemoryRollouts()
        self.diagnoses = MemoryDiagnoses()
        self.network = MemoryPortProbe()
        self.wake_observers: list[WakeObserver] = []
        self.use(self.replica())

    def use(self, replica: Replica) -> None:
        """Let its use cases be those of this world."""
        self.provisioner, self.activity, self.queries = replica.provisioner, replica.activity, replica.queries
        self.revocation = Revocation(
            queries=self.queries, cluster=self.cluster, cache=self.cluster, journal=self.journal
        )

        self.upgrades = self.release_upgrades()
        self.rollout_control = RolloutControl(
            rollouts=self.rollouts, upgrades=self.upgrades, cache=self.cluster, recent=0
        )

    def release_upgrades(self, *, helm_deadline: float = 5) -> ReleaseUpgrades:
        return ReleaseUpgrades(
            store=self.store,
            releases=self.releases,
            cluster=self.cluster,
            admission=AdmissionQueue(running=4, waiting=self.waiting),
            helm_deadline=timedelta(seconds=helm_deadline),
            journal=self.journal,
        )

    @property
    def limits_on_awake(self) -> AwakeLimits:
        return AwakeLimits(total=self.awake_limit or None, groups=self.awake_limits)

    def replica(self, expiries: ExpiryNotes | None = None) -> Replica:
        queries = SessionQueries(
            store=self.store,
            history=self.history,
            cluster=self.cluster,
            cache=self.cluster,
            idle_times=IdleTimes(),
            expiry_rule=self.expiry_rule,
        )
        activity = SessionActivity(
            queries=queries,
            queues=self.queues,
            progress=self.progress,
            cluster=self.cluster,
            cache=self.cluster,
            companions=self.companions,
            observers=self.wake_observers,
            journal=self.journal,
            quota=AwakeQuota(self.cluster, limits=self.limits_on_awake) if self.limits_on_awake else None,
        )
        provisioner = Provisioner(
            queries=queries,
            store=self.store,
            queues=self.queues,
            releases=self.releases,
            cluster=self.cluster,
            admission=AdmissionQueue(running=2, waiting=self.waiting),
            idle_times=IdleTimes(),
            profiles=self.profiles,
            helm_deadline=timedelta(seconds=5),
            journal=self.journal,
            expiries=expiries,
            new_id=lambda: self.new_id(),  # noqa: PLW0108 - a test may exchange it later
        )
        return Replica(provisioner, activity, queries)

    def doctor(self, health: Health | None = None) -> Doctor:
        system = System(
            health=health or Health({}, seconds=0),
            releases=self.releases,
            provisioner=self.provisioner,
            upgrades=self.upgrades,
            queries=self.queries,
            store=self.store,
            redis=self.redis,
            cluster=self.cluster,
            cache=self.cluster,
            inventory=self.inventory,
            diagnoses=self.diagnoses,
            probe=self.network,
            shared_policies=self.shared_policies,
            in_cluster=self.in_cluster,
            facts=self.facts,
        )
        return make_doctor(system, namespace="users", keda_namespace="keda", stuck_after=timedelta(minutes=1))

    def recovery(self) -> Recovery:
        return Recovery(provisioner=self.provisioner, store=self.store, cluster=self.cluster)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.provisioner.close()
