"""The controller: it tracks wakes, reconciles sessions, and carries out the leader's duties."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from service.adapters.kubernetes.workload_cache import KubeWorkloadCache
from service.controller.collector import Collector
from service.controller.journal_writer import JournalWriter
from service.controller.leader import Leader
from service.controller.leadership import Leadership
from service.controller.progress_writer import ProgressWriter
from service.controller.reconciler import Reconciler
from service.controller.wake_timer import WakeTimer
from service.controller.wake_tracker import WakeTracker
from service.domain.journal import Journal
from service.domain.metrics import ServiceMetrics
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.recovery import Recovery
from service.domain.supervisor import Supervisor, Work
from service.settings import Settings
from service.wiring.kubernetes import KubernetesParts
from service.wiring.redis import RedisParts

_PENDING = timedelta(seconds=1)
"""How often the leader looks at pending wakes: more often than the shortest lease requires."""


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """The tracker with its tasks, by name."""

    tracker: WakeTracker
    tasks: Mapping[str, Work]


def build_tracking(
    config: Settings,
    redis: RedisParts,
    kubernetes: KubernetesParts,
    *,
    leadership: Leadership,
    metrics: ServiceMetrics,
    journal: Journal,
) -> Tracking:
    progress = ProgressWriter(progress=redis.progress, queues=redis.queues, cache=kubernetes.cache)
    transitions = JournalWriter(
        store=redis.store,
        history=redis.history,
        metrics=metrics,
        journal=journal,
        idle_times=config.idle_times,
        leadership=leadership,
    )
    tracker = WakeTracker(
        cache=kubernetes.cache,
        pod_events=kubernetes.pod_events,
        leadership=leadership,
        timer=WakeTimer(metrics),
        progress=progress,
        transitions=transitions,
    )
    return Tracking(
        tracker=tracker,
        tasks={
            "wake tracker": partial(_when_synced, kubernetes.cache, tracker.run),
            "progress writer": partial(_when_synced, kubernetes.cache, progress.run),
            "journal writer": transitions.run,
        },
    )


def build_reconciler(
    config: Settings,
    redis: RedisParts,
    kubernetes: KubernetesParts,
    *,
    leadership: Leadership,
    tracker: WakeTracker,
) -> Reconciler:
    return Reconciler(
        queues=redis.queues,
        cluster=kubernetes.cluster,
        cache=kubernetes.cache,
        idle_times=config.idle_times,
        parking=config.parking,
        parks_per_second=config.parks_per_second,
        leadership=leadership,
        observers=(tracker,),
    )


@dataclass(frozen=True, kw_only=True)
class Controller:
    """`tasks` are those of leader, reconciler and recovery, by name."""

    leader: Leader
    reconciler: Reconciler
    tasks: Mapping[str, Work]


def build_controller(
    config: Settings,
    redis: RedisParts,
    kubernetes: KubernetesParts,
    *,
    leadership: Leadership,
    reconciler: Reconciler,
    tracker: WakeTracker,
    provisioner: Provisioner,
    queries: SessionQueries,
    supervisor: Supervisor,
) -> Controller:
    collector = Collector(provisioner=provisioner, queries=queries, retention=timedelta(seconds=config.retention))
    leader = Leader(
        election=kubernetes.election,
        leadership=leadership,
        reconciler=reconciler,
        queues=redis.queues,
        cache=kubernetes.cache,
        resync_interval=timedelta(seconds=config.sweep_interval),
        pending_interval=_PENDING,
        duties={"pod events": tracker.lead, "collector": collector.lead},
        supervisor=supervisor,
    )
    recovery = Recovery(provisioner=provisioner, store=redis.store, cluster=kubernetes.cluster)
    return Controller(
        leader=leader,
        reconciler=reconciler,
        tasks={
            "recovery": partial(recovery.run_forever, config.recovery_interval),
            "controller": partial(_when_synced, kubernetes.cache, reconciler.run),
            "leader": partial(_when_synced, kubernetes.cache, leader.run),
        },
    )


async def _when_synced(cache: KubeWorkloadCache, work: Work) -> None:
    """Run a task that needs a complete cache: an object that is not in it would count as missing."""
    await cache.wait_synced()
    await work()
