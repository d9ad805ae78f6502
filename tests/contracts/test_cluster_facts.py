"""What the diagnosis relies on in ClusterFacts: in memory, and on the real API with the service's rights."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, Protocol

import pytest

from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.cluster_facts import KubeClusterFacts
from service.domain.cluster_facts import ClusterFacts, KedaOperator, Node, StorageClass
from stack.stack import SERVICE, SYSTEM, USERS, Stack
from tests.fakes import MemoryClusterFacts

KEDA = "keda"
HPA = "keda-hpa-user-facts001-scaler"
CLASSES = (StorageClass("facts-fast", default=True), StorageClass("facts-slow", default=False))


class Cluster(Protocol):
    """What the facts are about."""

    def facts(self, *, allowed: bool) -> ClusterFacts: ...

    def install_keda(self, version: str) -> None: ...

    def add_class(self, added: StorageClass) -> None: ...

    def add_autoscaler(self, name: str) -> None: ...

    def add_node(self) -> str:
        """A node that takes pods; returns its name."""

    def cordon(self, name: str) -> None: ...


class MemoryCluster:
    def __init__(self) -> None:
        self._facts = MemoryClusterFacts(version=None, classes=[])

    def facts(self, *, allowed: bool) -> ClusterFacts:
        self._facts.allowed = allowed
        return self._facts

    def install_keda(self, version: str) -> None:
        self._facts.version = version

    def add_class(self, added: StorageClass) -> None:
        self._facts.classes.append(added)

    def add_autoscaler(self, name: str) -> None:
        self._facts.scalers.append(name)

    def add_node(self) -> str:
        self._facts.machines.append(Node(name="n", cpu=4, memory=16, pods=110))
        return "n"

    def cordon(self, name: str) -> None:
        self._facts.machines = [replace(each, usable=each.name != name) for each in self._facts.machines]


class RealCluster:
    def __init__(self, stack: Stack, kube: KubeApi) -> None:
        self._stack = stack
        self._kube = kube
        self._cordoned: str | None = None

    def facts(self, *, allowed: bool) -> ClusterFacts:
        return KubeClusterFacts(self._kube, namespace=USERS, keda_namespace=KEDA, allowed=allowed)

    def install_keda(self, version: str) -> None:
        self._stack.cluster.apply(keda_operator(version))

    def add_class(self, added: StorageClass) -> None:
        notes = {"storageclass.kubernetes.io/is-default-class": str(added.default).lower()}
        made = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/none"}
        self._stack.cluster.apply(made | {"metadata": {"name": added.name, "annotations": notes}})

    def add_autoscaler(self, name: str) -> None:
        self._stack.cluster.apply(autoscaler(name, "user-facts001"))

    def add_node(self) -> str:
        """One of those that there are."""
        nodes: str = self._stack.cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
        return nodes

    def cordon(self, name: str) -> None:
        self._cordoned = name
        self._stack.cluster.kubectl("cordon", name)

    def clean(self) -> None:
        kubectl = self._stack.cluster.kubectl
        if self._cordoned is not None:
            kubectl("uncordon", self._cordoned)
        kubectl("-n", KEDA, "delete", "deployment", "keda-operator", "--ignore-not-found")
        kubectl("delete", "storageclass", *(each.name for each in CLASSES), "--ignore-not-found")
        kubectl("-n", USERS, "delete", "hpa", HPA, "--ignore-not-found")


def keda_operator(version: str) -> dict[str, Any]:
    """A Deployment like that of KEDA's chart, without pods: the embedded cluster's KEDA is a process."""
    labels = {"app": "keda-operator"}
    container = {"name": "keda-operator", "image": f"ghcr.io/kedacore/keda:{version}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "keda-operator", "namespace": KEDA},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


def autoscaler(name: str, deployment: str) -> dict[str, Any]:
    """An HPA of no owner, so that nobody removes it."""
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": USERS},
        "spec": {"scaleTargetRef": target, "maxReplicas": 1},
    }


@pytest.fixture
async def kube(stack: Stack) -> AsyncIterator[KubeApi]:
    async with await connect(stack.cluster.service_account(SYSTEM, SERVICE)) as api:
        yield KubeApi(api, timeout=5)


@pytest.fixture
def real(stack: Stack, kube: KubeApi) -> Iterator[RealCluster]:
    found = RealCluster(stack, kube)
    yield found
    found.clean()


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.cluster)])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    if request.param == "memory":
        return MemoryCluster()
    found: Cluster = request.getfixturevalue("real")
    return found


async def test_keda_s_version_is_that_of_its_deployment(cluster: Cluster) -> None:
    facts = cluster.facts(allowed=True)
    assert await facts.keda() == KedaOperator(None)
    cluster.install_keda("2.20.1")
    assert await facts.keda() == KedaOperator("2.20.1")


async def test_storage_classes_have_names_and_one_may_be_the_default(cluster: Cluster) -> None:
    for each in CLASSES:
        cluster.add_class(each)
    found = await cluster.facts(allowed=True).storage_classes()
    assert found is not None
    assert {*CLASSES} <= {*found}


async def test_autoscalers_are_known_by_name(cluster: Cluster) -> None:
    facts = cluster.facts(allowed=True)
    assert HPA not in (await facts.autoscalers() or ())
    cluster.add_autoscaler(HPA)
    assert HPA in (await facts.autoscalers() or ())


async def test_nodes_say_what_they_have_and_whether_they_take_pods(cluster: Cluster) -> None:
    facts, name = cluster.facts(allowed=True), cluster.add_node()
    node = {each.name: each for each in await facts.nodes() or ()}[name]
    assert node.usable
    assert min(node.cpu, node.memory, node.pods) > 0
    cluster.cordon(name)
    assert not {each.name: each for each in await facts.nodes() or ()}[name].usable


async def test_what_the_service_may_not_see_is_unknown(cluster: Cluster) -> None:
    facts = cluster.facts(allowed=False)
    assert (await facts.keda(), await facts.storage_classes(), await facts.autoscalers()) == (None, None, None)
    assert await facts.nodes() is None
