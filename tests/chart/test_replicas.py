"""`replicas` never affects a running pod (docs/decisions/0002-replicas.md): each case with both helms and real KEDA.

Every upgrade and rollback changes something outside the pod template, so an awake pod must survive it.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
import redis

from devcluster.cluster import Cluster
from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.cluster import KubeCluster
from service.domain.names import SessionId
from tests.chart.conftest import CHART, Helm


@dataclass
class Pod:
    """One release under test."""

    helm: Helm
    cluster: Cluster
    uuid: str

    @property
    def release(self) -> str:
        return f"user-{self.uuid}"

    def values(self, cooldown: int) -> list[str]:
        address = f"redis.address=127.0.0.1:{self.cluster.redis_port},redis.passwordSecret.name=redis-password"
        numbers = f"autoscaling.pollingInterval=1,autoscaling.cooldownPeriod={cooldown}"
        return ["--set-string", address, "--set", numbers]

    def install(self, *arguments: str) -> None:
        self.helm("upgrade", "--install", self.release, str(CHART), *self.values(2), *arguments)

    def upgrade(self, cooldown: int) -> None:
        self.helm("upgrade", self.release, str(CHART), *self.values(cooldown))

    def rollback(self) -> None:
        self.helm("rollback", self.release, "1")

    def deployment(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._kubectl("get", "deployment", self.release, "-o", "json"))
        return found

    def replicas(self) -> int:
        return int(self.deployment()["spec"]["replicas"])

    def pods(self) -> list[str]:
        """UIDs of the pods that are not terminating."""
        items = json.loads(self._kubectl("get", "pods", "-l", f"uuid={self.uuid}", "-o", "json"))["items"]
        return [item["metadata"]["uid"] for item in items if "deletionTimestamp" not in item["metadata"]]

    def events(self) -> list[str]:
        items = json.loads(self._kubectl("get", "events", "-o", "json"))["items"]
        return [i["reason"] for i in items if i["involvedObject"]["name"].startswith(self.release)]

    def parked(self) -> bool:
        """Whether KEDA is told to leave it alone."""
        scaler = json.loads(self._kubectl("get", "scaledobject", f"{self.release}-scaler", "-o", "json"))
        return bool(scaler["metadata"].get("annotations", {}).get("autoscaling.keda.sh/paused") == "true")

    def push(self, seconds: int) -> None:
        with redis.Redis.from_url(self.cluster.redis_url) as client:
            client.rpush(f"queue:{self.uuid}", "wake")
            client.expire(f"queue:{self.uuid}", seconds)

    def wake(self, seconds: int = 60) -> str:
        """Wake it for so long; the pod's UID."""
        self.push(seconds)
        wait(lambda: self.deployment()["status"].get("readyReplicas") == 1, "the pod is not ready")
        return self.pods()[0]

    def _kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("-n", self.helm.namespace, *arguments)


def wait(condition: Callable[[], bool], complaint: str, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.1)


@pytest.fixture
def pod(live: Helm, cluster: Cluster, uuid: str) -> Pod:
    return Pod(live, cluster, uuid)


@asynccontextmanager
async def service_on(pod: Pod) -> AsyncIterator[KubeCluster]:
    """What the service has to do with the cluster."""
    async with await connect(pod.cluster.kubeconfig) as api:
        kube = KubeApi(api, timeout=5)
        namespace = pod.helm.namespace
        yield KubeCluster(kube, namespace=namespace, keda_namespace=None, schedule_timeout=timedelta(minutes=2))


@pytest.fixture
async def reserved(pod: Pod) -> Pod:
    """Reserved as the service does it, then installed."""
    async with service_on(pod) as kube:
        await kube.reserve(SessionId(pod.uuid), "ann")
    is_four = pod.helm.path.name == "helm"
    pod.install(*(["--force-conflicts"] if is_four else []), "--set-string", "user.id=ann")
    return pod


def test_a_pod_of_the_chart_alone_falls_asleep_by_itself(pod: Pod) -> None:
    pod.install()
    wait(lambda: pod.replicas() == 0, "KEDA did not put it to sleep")


def test_adopting_a_reserved_deployment_never_starts_a_pod(reserved: Pod) -> None:
    time.sleep(2)
    assert reserved.replicas() == 0
    assert "ScalingReplicaSet" not in reserved.events()
    deployment = reserved.deployment()
    containers = deployment["spec"]["template"]["spec"]["containers"]
    assert [c["name"] for c in containers] == ["workspace"]
    assert containers[0]["image"].startswith("docker.io/codercom/code-server")


def test_a_reserved_and_a_plain_install_have_the_same_result(reserved: Pod, uuid: str) -> None:
    plain = Pod(reserved.helm, reserved.cluster, uuid[::-1])
    plain.install("--set-string", "user.id=ann")
    wait(lambda: plain.replicas() == 0, "KEDA did not put it to sleep")
    one, other = (json.dumps(p.deployment()["spec"], sort_keys=True) for p in (reserved, plain))
    assert one.replace(reserved.uuid, "*") == other.replace(plain.uuid, "*")


def test_an_upgrade_of_a_sleeper_that_was_never_awake_leaves_it_asleep(reserved: Pod) -> None:
    reserved.upgrade(3)
    time.sleep(2)
    assert reserved.replicas() == 0
    assert "ScalingReplicaSet" not in reserved.events()


def test_an_upgrade_and_a_rollback_of_an_awake_pod_leave_it_awake(reserved: Pod) -> None:
    before = reserved.wake()
    reserved.upgrade(3)
    reserved.rollback()
    time.sleep(2)
    assert reserved.pods() == [before]
    assert reserved.replicas() == 1


def test_an_upgrade_and_a_rollback_of_a_sleeper_leave_it_asleep(reserved: Pod) -> None:
    reserved.wake(seconds=3)
    wait(lambda: reserved.replicas() == 0, "it did not fall asleep")
    started = reserved.events().count("ScalingReplicaSet")
    reserved.upgrade(3)
    reserved.rollback()
    time.sleep(2)
    assert reserved.replicas() == 0
    assert reserved.events().count("ScalingReplicaSet") == started


def test_a_release_made_by_the_chart_alone_survives_upgrade_and_rollback(pod: Pod) -> None:
    pod.install()
    wait(lambda: pod.replicas() == 0, "KEDA did not put it to sleep")
    pod.upgrade(3)
    assert pod.replicas() == 0
    before = pod.wake()
    pod.upgrade(4)
    pod.rollback()
    time.sleep(2)
    assert pod.pods() == [before]


def test_keda_may_scale_in_the_middle_of_an_upgrade(reserved: Pod) -> None:
    for cooldown in range(3, 9):
        reserved.push(seconds=2)
        reserved.upgrade(cooldown)
    before = reserved.wake()
    reserved.upgrade(9)
    assert reserved.pods() == [before]


async def test_an_upgrade_and_a_rollback_of_a_parked_sleeper_leave_it_parked_and_asleep(reserved: Pod) -> None:
    async with service_on(reserved) as kube:
        await kube.park(SessionId(reserved.uuid))
    reserved.upgrade(3)
    assert reserved.parked()
    reserved.rollback()
    await asyncio.sleep(2)
    assert (reserved.parked(), reserved.replicas()) == (True, 0)
    assert "ScalingReplicaSet" not in reserved.events()


async def test_an_upgrade_and_a_rollback_of_a_woken_session_leave_it_awake(reserved: Pod) -> None:
    uuid = SessionId(reserved.uuid)
    async with service_on(reserved) as kube:
        await kube.park(uuid)
        reserved.upgrade(3)  # a revision that was made while it slept
        reserved.push(seconds=60)
        await asyncio.gather(kube.unpark(uuid), kube.scale(uuid, 1))
    wait(lambda: reserved.deployment()["status"].get("readyReplicas") == 1, "the pod is not ready")
    (before,) = reserved.pods()
    reserved.upgrade(4)
    reserved.rollback()
    await asyncio.sleep(2)
    assert reserved.pods() == [before]
    assert not reserved.parked()
