"""The cache on the real API when a watch ends, expires or breaks off, and when it meets objects of another make.

An API server that is stopped or frozen altogether is in tests/stack/test_faults.py.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from devcluster.cluster import Cluster
from service.adapters.kubernetes.api import KubeApi, ResourceVersionExpired, connect
from service.adapters.kubernetes.objects import Kind
from service.adapters.kubernetes.paths import collections
from service.adapters.kubernetes.workload_cache import KubeWorkloadCache
from service.domain.errors import ClusterUnavailable
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId, new_session_id
from tests.waiting import until

NAMESPACE = "views"
Json = dict[str, Any]


class Breaking(KubeApi):
    """A connection whose watches end as told, after their first change."""

    fault: type[Exception] | None = None
    watches = 0

    async def watch(self, *arguments: Any, **named: Any) -> AsyncGenerator[tuple[str, Json]]:
        self.watches += 1
        async for change in super().watch(*arguments, **named):
            yield change
            if self.fault is not None:
                raise self.fault


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> str:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    return NAMESPACE


@asynccontextmanager
async def following(cluster: Cluster) -> AsyncIterator[tuple[KubeWorkloadCache, Breaking]]:
    async with await connect(cluster.kubeconfig) as api:
        breaking = Breaking(api, timeout=5)
        cache = KubeWorkloadCache(breaking, namespace=NAMESPACE, schedule_timeout=timedelta(minutes=2))
        async with cache.running():
            await cache.wait_synced()
            yield cache, breaking


def deployment(uuid: str) -> Json:
    labels = {"uuid": uuid}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"user-{uuid}", "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "workspace", "image": "x"}]}},
        },
    }


def delete(cluster: Cluster, uuid: str) -> None:
    cluster.kubectl("-n", NAMESPACE, "delete", "deployment", f"user-{uuid}")


@pytest.mark.parametrize("fault", [ResourceVersionExpired, ClusterUnavailable])
async def test_changes_during_a_broken_watch_are_seen_afterwards(
    cluster: Cluster, namespace: str, fault: type[Exception]
) -> None:
    gone, made = new_session_id(), new_session_id()
    cluster.apply(deployment(gone))
    async with following(cluster) as (cache, breaking):
        assert cache.workload(gone).deployed
        breaking.fault = fault
        before = breaking.watches
        cluster.apply(deployment(made))
        delete(cluster, gone)
        await until(lambda: cache.workload(made).deployed and not cache.workload(gone).exists, 20)
        breaking.fault = None
        assert breaking.watches > before
        await until(lambda: cache.behind() is None, 20)


async def test_an_expired_resource_version_is_reported(cluster: Cluster, namespace: str) -> None:
    for act in (cluster.stop, cluster.start):  # it remembers what has happened since its start
        act("kube-apiserver")
    async with await connect(cluster.kubeconfig) as api:
        changes = KubeApi(api, timeout=5).watch(collections(NAMESPACE)[Kind.DEPLOYMENT], "1")
        with pytest.raises(ResourceVersionExpired):
            await anext(changes)


async def test_foreign_objects_with_our_labels_are_ignored(cluster: Cluster, namespace: str) -> None:
    uuid = new_session_id()
    labels = {"owner": "helm", "name": f"user-{uuid}"}
    secret = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque"}
    cluster.apply(
        {**secret, "metadata": {"name": "not-helms", "namespace": NAMESPACE, "labels": labels}},
        {
            **secret,
            "metadata": {
                "name": f"sh.helm.release.v1.user-{uuid}.v1",
                "namespace": NAMESPACE,
                "labels": {**labels, "version": "first", "status": "fine"},
            },
        },
    )
    stranger = deployment("abcdefgh")
    stranger["metadata"]["name"] = "somebody-elses"
    cluster.apply(stranger)
    async with following(cluster) as (cache, _):
        assert not cache.workload(uuid).exists
        assert not cache.workload(SessionId("abcdefgh")).exists


async def test_a_lease_with_invalid_content_counts_as_a_default_lease(cluster: Cluster, namespace: str) -> None:
    uuid = new_session_id()
    trigger = {"type": "redis", "metadata": {"address": "127.0.0.1:1", "listName": "none", "listLength": "1"}}
    cluster.apply(
        deployment(uuid),
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {
                "name": f"user-{uuid}-scaler",
                "namespace": NAMESPACE,
                "labels": {"uuid": uuid},
                "annotations": {"user-pods/lease": "a while"},
            },
            "spec": {"scaleTargetRef": {"name": f"user-{uuid}"}, "pollingInterval": 7, "triggers": [trigger]},
        },
    )
    async with following(cluster) as (cache, _):
        idle_times = cache.workload(uuid).idle_times
        assert idle_times == IdleTimes(
            lease=IdleTimes().lease, cooldown=timedelta(seconds=300), poll=timedelta(seconds=7)
        )
        await until(lambda: cache.workload(uuid).blocker is not None, 20)  # KEDA's own words: no Redis is there
        assert cache.workload(uuid).failure is None, "a pod that is there needs no KEDA to get ready"
    cluster.kubectl("-n", NAMESPACE, "delete", "scaledobject", f"user-{uuid}-scaler")
