"""The controller: reconciler, leader election with the leader's duties, recovery."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from service.controller.collector import Collector
from service.controller.expirer import Expirer
from service.controller.leader import Leader
from service.controller.reconciler import Reconciler
from service.controller.rollout_runner import RolloutRunner
from service.controller.wake_tracker import WakeTracker
from service.domain.provisioning import Provisioner
from service.domain.recovery import Recovery
from service.domain.supervisor import Work
from service.wiring.activity import build_activity
from service.wiring.core import Core
from service.wiring.kubernetes import when_synced
from service.wiring.upgrades import Upgrades

_PENDING = timedelta(seconds=1)
"""How often the leader looks at pending wakes: more often than the shortest lease requires."""

_SWEEPS_PER_ROUND = 10
"""The expirer looks at all sessions that much more seldom than the reconciler."""


@dataclass(frozen=True, kw_only=True)
class Controller:
    """`tasks` by name."""

    leader: Leader
    reconciler: Reconciler
    expirer: Expirer
    tasks: Mapping[str, Work]


def build_controller(core: Core, provisioner: Provisioner, upgrades: Upgrades, tracker: WakeTracker) -> Controller:
    config, cache, redis = core.config, core.kubernetes.cache, core.redis
    reconciler = Reconciler(
        queues=redis.queues,
        cluster=core.kubernetes.cluster,
        cache=cache,
        idle_times=config.idle_times,
        parking=config.parking,
        parks_per_second=config.parks_per_second,
        leadership=core.leadership,
        observers=(tracker,),
    )
    collector = Collector(provisioner=provisioner, queries=core.queries, retention=timedelta(seconds=config.retention))
    runner = RolloutRunner(rollouts=redis.rollouts, control=upgrades.control, upgrades=upgrades.releases, cache=cache)
    expirer = Expirer(
        rule=config.expiry_rule,
        queries=core.queries,
        store=redis.store,
        activity=build_activity(core, (reconciler, tracker)),
        provisioner=provisioner,
        journal=core.journal,
        interval=timedelta(seconds=config.sweep_interval * _SWEEPS_PER_ROUND),
        per_hour=config.deletions_per_hour,
    )
    leader = Leader(
        election=core.kubernetes.election,
        leadership=core.leadership,
        reconciler=reconciler,
        queues=redis.queues,
        cache=cache,
        resync_interval=timedelta(seconds=config.sweep_interval),
        pending_interval=_PENDING,
        duties={
            "pod events": tracker.lead,
            "collector": collector.lead,
            "rollout": runner.lead,
            "expirer": expirer.lead,
        },
        supervisor=core.supervisor,
    )
    recovery = Recovery(provisioner=provisioner, store=redis.store, cluster=core.kubernetes.cluster)
    return Controller(
        leader=leader,
        reconciler=reconciler,
        expirer=expirer,
        tasks={
            "recovery": partial(recovery.run_forever, config.recovery_interval),
            "controller": partial(when_synced, cache, reconciler.run),
            "leader": partial(when_synced, cache, leader.run),
        },
    )
