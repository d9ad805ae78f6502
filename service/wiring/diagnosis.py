"""The diagnosis: every check, on the adapters of the process."""

from dataclasses import dataclass
from datetime import timedelta

from service.adapters.network.port_probe import TcpPortProbe
from service.domain.cluster_facts import ClusterFacts
from service.domain.diagnosis.check import Check
from service.domain.diagnosis.checks.chart import SignInOfImage, Versions
from service.domain.diagnosis.checks.installation import Installations, Revisions, StuckReleases
from service.domain.diagnosis.checks.keda import Autoscalers, Keda
from service.domain.diagnosis.checks.network import NetworkPolicies
from service.domain.diagnosis.checks.objects import EditedObjects, OrphanObjects, StuckDeletions, UnboundClaims
from service.domain.diagnosis.checks.parts import Parts
from service.domain.diagnosis.checks.pods import OverdueSleeps, Pauses, Pods, UnreadableObjects
from service.domain.diagnosis.checks.redis_keys import LongLists, OrphanKeys, UnreadableRecords
from service.domain.diagnosis.checks.redis_server import RedisClock, RedisRights, RedisSettings
from service.domain.diagnosis.checks.storage import StorageClasses
from service.domain.diagnosis.diagnosis import Doctor
from service.domain.diagnosis.ports import Diagnoses, Inventory, PortProbe, RedisInspection
from service.domain.diagnosis.repairs import Repairs
from service.domain.diagnosis.survey import Surveyor
from service.domain.health import Health
from service.domain.ports import Cluster, Releases, Store, WorkloadCache
from service.domain.provisioning import Provisioner
from service.domain.queries import SessionQueries
from service.domain.upgrading import ReleaseUpgrades
from service.wiring.core import Core


def build_doctor(
    core: Core, *, health: Health, releases: Releases, provisioner: Provisioner, upgrades: ReleaseUpgrades
) -> Doctor:
    config = core.config
    return make_doctor(
        System(
            health=health,
            releases=releases,
            provisioner=provisioner,
            upgrades=upgrades,
            queries=core.queries,
            store=core.redis.store,
            redis=core.redis.inspector,
            cluster=core.kubernetes.cluster,
            cache=core.kubernetes.cache,
            inventory=core.kubernetes.inventory,
            diagnoses=core.redis.diagnoses,
            probe=TcpPortProbe(),
            shared_policies=config.namespace_policies,
            in_cluster=config.kubeconfig is None,
            facts=core.kubernetes.facts,
        ),
        namespace=config.namespace,
        keda_namespace=config.keda_namespace,
        # helm removes a release within its timeout. What is left then does not go by itself.
        stuck_after=timedelta(seconds=config.helm_timeout),
    )


@dataclass(frozen=True, kw_only=True)
class System:
    """What the checks look at and mend."""

    health: Health
    releases: Releases
    provisioner: Provisioner
    upgrades: ReleaseUpgrades
    queries: SessionQueries
    store: Store
    redis: RedisInspection
    cluster: Cluster
    cache: WorkloadCache
    inventory: Inventory
    diagnoses: Diagnoses
    facts: ClusterFacts
    probe: PortProbe
    shared_policies: bool = False
    """NetworkPolicies of the namespace admit only the gateway to workspaces."""
    in_cluster: bool = True
    """This process runs in a pod."""


def make_doctor(system: System, *, namespace: str, keda_namespace: str, stuck_after: timedelta) -> Doctor:
    surveyor = Surveyor(
        queries=system.queries,
        store=system.store,
        releases=system.releases,
        inventory=system.inventory,
        redis=system.redis,
    )
    repairs = Repairs(system.provisioner, system.store)
    checks: list[Check] = [
        Parts(system.health),
        RedisRights(system.redis),
        RedisSettings(system.redis),
        RedisClock(system.redis),
        OrphanKeys(system.redis, system.cache, system.cluster),
        LongLists(system.redis),
        UnreadableRecords(repairs),
        UnreadableObjects(),
        Installations(repairs),
        Pods(namespace=namespace),
        Pauses(),
        OverdueSleeps(),
        Keda(system.cache, system.facts, namespace=namespace, keda_namespace=keda_namespace),
        Autoscalers(system.cache, system.facts, namespace=namespace),
        StuckReleases(system.inventory, system.store, namespace=namespace),
        Revisions(system.inventory, system.store),
        OrphanObjects(
            cluster=system.cluster, cache=system.cache, store=system.store, repairs=repairs, namespace=namespace
        ),
        EditedObjects(namespace=namespace),
        StuckDeletions(stuck_after=stuck_after, namespace=namespace),
        UnboundClaims(namespace=namespace),
        StorageClasses(system.facts, namespace=namespace),
        SignInOfImage(),
        NetworkPolicies(system.probe, system.upgrades, shared=system.shared_policies, in_cluster=system.in_cluster),
        Versions(system.upgrades),
    ]
    return Doctor(checks, surveyor, system.diagnoses)
