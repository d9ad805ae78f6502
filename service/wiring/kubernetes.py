"""Everything that talks to the Kubernetes API, over one client."""

import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.cluster import KubeCluster
from service.adapters.kubernetes.cluster_facts import KubeClusterFacts
from service.adapters.kubernetes.election import KubeElection
from service.adapters.kubernetes.inventory import KubeInventory
from service.adapters.kubernetes.pod_events import KubePodEvents
from service.adapters.kubernetes.signing_keys import KubeSigningKeys
from service.adapters.kubernetes.workload_cache import KubeWorkloadCache
from service.domain.supervisor import Work
from service.settings import Settings


@dataclass(frozen=True, kw_only=True)
class KubernetesParts:
    cache: KubeWorkloadCache
    cluster: KubeCluster
    inventory: KubeInventory
    facts: KubeClusterFacts
    pod_events: KubePodEvents
    election: KubeElection
    signing_keys: KubeSigningKeys


@asynccontextmanager
async def open_kubernetes(config: Settings) -> AsyncIterator[KubernetesParts]:
    """The cache is empty until its watches run (`KubeWorkloadCache.running`)."""
    schedule_timeout = timedelta(seconds=config.schedule_timeout)
    async with await connect(config.kubeconfig) as client:
        api = KubeApi(client, timeout=config.kube_timeout)
        yield KubernetesParts(
            cache=KubeWorkloadCache(api, namespace=config.namespace, schedule_timeout=schedule_timeout),
            cluster=KubeCluster(
                api,
                namespace=config.namespace,
                keda_namespace=config.keda_namespace or None,
                schedule_timeout=schedule_timeout,
            ),
            inventory=KubeInventory(api, namespace=config.namespace),
            facts=KubeClusterFacts(
                api,
                namespace=config.namespace,
                keda_namespace=config.keda_namespace or None,
                allowed=config.cluster_facts,
            ),
            pod_events=KubePodEvents(api, namespace=config.namespace),
            election=KubeElection(
                api,
                namespace=config.namespace,
                identity=f"{socket.gethostname()}-{secrets.token_hex(4)}",
                lease_duration=timedelta(seconds=config.leader_term),
            ),
            signing_keys=KubeSigningKeys(
                api,
                namespace=config.gateway_keys_namespace or config.namespace,
                name=config.gateway_keys_secret,
            ),
        )


async def when_synced(cache: KubeWorkloadCache, work: Work) -> None:
    """Run a task that needs a complete cache: an object that is not in it would count as missing."""
    await cache.wait_synced()
    await work()
