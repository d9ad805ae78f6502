"""The embedded cluster itself: two side by side, what runs in them, and what becomes of their processes."""

import errno
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis

from devcluster.cluster import Cluster
from devcluster.components import SIMULATED_RANGE
from devcluster.errors import DevclusterError
from devcluster.toolchain import Tools

pytestmark = pytest.mark.cluster
COMPONENTS = {"etcd", "redis", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "keda"}


def wait(condition: Callable[[], bool], complaint: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.1)


@pytest.fixture(scope="module")
def second(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of this module's own, beside the shared one, with the wheel's Redis."""
    second = Cluster(tmp_path_factory.mktemp("second"), tools=tools, redis="wheel")
    try:
        second.up()
        yield second
    finally:
        second.down()


def ready(cluster: Cluster, deployment: str) -> int:
    found = json.loads(cluster.kubectl("get", "deployment", deployment, "-o", "json"))
    return int(found["status"].get("readyReplicas", 0))


def workload(name: str) -> list[dict[str, Any]]:
    labels = {"app": name}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "none"}]}}
    deployment = {"replicas": 0, "selector": {"matchLabels": labels}, "template": pod}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": deployment,
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": claim,
        },
    ]


def test_two_clusters_share_neither_ports_nor_data(cluster: Cluster, second: Cluster) -> None:
    one, other = (json.loads((c.state / "ports.json").read_text()) for c in (cluster, second))
    assert not set(one.values()) & set(other.values())
    second.kubectl("create", "namespace", "only-here")
    assert "only-here" not in cluster.kubectl("get", "namespaces")


def test_everything_listens_on_loopback_only(second: Cluster) -> None:
    pids = {second.pid(name) for name in COMPONENTS}
    addresses = {c.laddr.ip for pid in pids for c in psutil.Process(pid).net_connections() if c.status == "LISTEN"}
    assert addresses == {"127.0.0.1"}


def test_pods_get_ready_and_volumes_bind(second: Cluster) -> None:
    second.apply(*workload("plain"))
    second.kubectl("scale", "deployment", "plain", "--replicas=1")
    wait(lambda: ready(second, "plain") == 1, "the pod is not ready")
    phase = ["get", "pvc", "plain", "-o", "jsonpath={.status.phase}"]
    wait(lambda: second.kubectl(*phase) == "Bound", "the claim is not bound")


def test_nothing_can_be_sent_to_the_address_of_a_simulated_pod(second: Cluster) -> None:
    expose = {"selector": {"app": "unreachable"}, "ports": [{"port": 80}]}
    meta = {"name": "unreachable", "namespace": "default"}
    second.apply(*workload("unreachable"), {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": expose})
    second.kubectl("scale", "deployment", "unreachable", "--replicas=1")
    wait(lambda: ready(second, "unreachable") == 1, "the pod is not ready")
    address = second.kubectl("get", "pods", "-l", "app=unreachable", "-o", "jsonpath={.items[0].status.podIP}")
    assert ip_address(address) in ip_network(SIMULATED_RANGE)
    with socket.socket() as client:
        assert client.connect_ex((address, 80)) == errno.ENETUNREACH
    addresses = "jsonpath={.items[*].endpoints[*].addresses[*]}"
    slices = ["get", "endpointslices", "-l", "kubernetes.io/service-name=unreachable", "-o", addresses]
    wait(lambda: second.kubectl(*slices) == address, "the API server does not take the address as an endpoint")


def test_keda_scales_by_a_redis_list_with_a_password(second: Cluster) -> None:
    scaled_by_a_list(second, "scaled", "jobs")
    with redis.Redis.from_url(second.redis_url) as client:
        client.rpush("jobs", "one")
        wait(lambda: ready(second, "scaled") == 1, "KEDA did not scale up")
        client.delete("jobs")
        wait(lambda: ready(second, "scaled") == 0, "KEDA did not scale down")


def test_keda_scales_down_after_an_outage_of_the_api_server(second: Cluster) -> None:
    scaled_by_a_list(second, "afterwards", "nothing")
    wait(lambda: has_hpa(second, "afterwards"), "KEDA did not take it up")
    second.stop("kube-apiserver", how=signal.SIGKILL)
    time.sleep(25)
    second.start("kube-apiserver")
    second.kubectl("scale", "deployment", "afterwards", "--replicas=1")
    replicas = ["get", "deployment", "afterwards", "-o", "jsonpath={.spec.replicas}"]
    # After 25 s of absence a KEDA that sits out its back-off renews its copies of the objects 26 s later, or more.
    wait(lambda: second.kubectl(*replicas) == "0", "KEDA did not scale down", 10)


def scaled_by_a_list(cluster: Cluster, name: str, queue: str) -> None:
    """A Deployment that KEDA scales by a Redis list."""
    cluster.apply(*workload(name))
    trigger = {
        "type": "redis",
        "metadata": {"address": f"127.0.0.1:{cluster.redis_port}", "listName": queue, "listLength": "1"},
        "authenticationRef": {"name": name},
    }
    spec = {"scaleTargetRef": {"name": name}, "pollingInterval": 1, "cooldownPeriod": 1, "maxReplicaCount": 1}
    secret = {"secretTargetRef": [{"parameter": "password", "name": name, "key": "password"}]}
    meta = {"name": name, "namespace": "default"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"password": cluster.redis_password}},
        {"apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication", "metadata": meta, "spec": secret},
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": meta,
            "spec": {**spec, "triggers": [trigger]},
        },
    )


def has_hpa(cluster: Cluster, name: str) -> bool:
    """Whether KEDA polls for it: it makes the HPA first."""
    return f"keda-hpa-{name}" in cluster.kubectl("get", "hpa", "-o", "name")


def test_redis_is_6_2_with_password_aof_and_no_eviction(second: Cluster) -> None:
    with redis.Redis(port=second.redis_port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis.from_url(second.redis_url, decode_responses=True) as client:
        assert str(client.info("server")["redis_version"]).startswith("6.2.")
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert second.redis_password not in " ".join(psutil.Process(second.pid("redis")).cmdline())


def test_a_second_up_changes_nothing(second: Cluster) -> None:
    before = {name: second.pid(name) for name in COMPONENTS}
    assert not second.up()
    assert {name: second.pid(name) for name in COMPONENTS} == before


def test_a_dead_component_is_reported_and_the_next_up_starts_it(second: Cluster) -> None:
    psutil.Process(second.pid("kwok")).send_signal(signal.SIGKILL)
    wait(lambda: not second.status()["kwok"], "the death was not noticed")
    assert "kwok" in second.tail("kwok")
    assert second.up()
    assert all(second.status().values())


@pytest.mark.parametrize("name", sorted(COMPONENTS - {"redis"}))
def test_a_component_can_be_stopped_and_started_alone(second: Cluster, name: str) -> None:
    second.stop(name)
    assert name not in second.status()
    second.start(name)
    second.kubectl("get", "--raw", "/readyz")


def test_pods_are_started_at_once_by_the_successor_of_a_dead_kwok(second: Cluster) -> None:
    second.apply(*workload("later"))
    second.stop("kwok", how=signal.SIGKILL)
    second.start("kwok")
    second.kubectl("scale", "deployment", "later", "--replicas=8")  # some on every node
    # Its predecessor's leases would last for 40 s.
    wait(lambda: ready(second, "later") == 8, "the pods are not ready", 15)


def test_data_survives_a_restart(second: Cluster) -> None:
    with redis.Redis.from_url(second.redis_url) as client:
        client.set("kept", "yes")
    second.stop("redis")
    second.start("redis")
    with redis.Redis.from_url(second.redis_url) as client:
        assert client.get("kept") == b"yes"


def test_the_users_own_kubeconfig_is_not_used(second: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = tmp_path / "config"
    mine.write_text("not: touched")
    monkeypatch.setenv("KUBECONFIG", str(mine))
    second.kubectl("get", "nodes")
    assert mine.read_text() == "not: touched"


def test_a_missing_right_is_found_in_the_audit_log(second: Cluster) -> None:
    second.kubectl("create", "serviceaccount", "weak")
    config = second.service_account("default", "weak")
    with pytest.raises(DevclusterError, match="forbidden"):
        second.kubectl("get", "secrets", f"--kubeconfig={config}")
    user = "system:serviceaccount:default:weak"
    wait(lambda: second.forbidden(user) != [], "nothing in the audit log")
    assert "secrets" in second.forbidden(user)[0]


def test_only_the_owner_can_read_the_env_file(second: Cluster) -> None:
    path = second.write_env({"MORE": "with space"})
    assert path.stat().st_mode & 0o077 == 0
    assert "export MORE='with space'" in path.read_text()
    assert f"export KUBECONFIG={second.kubeconfig}" in path.read_text()


def test_down_stops_the_whole_cluster_and_nothing_else(cluster: Cluster, second: Cluster) -> None:
    pids = [second.pid(name) for name in COMPONENTS]
    assert set(second.down()) >= COMPONENTS
    assert [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"] == []
    assert all(cluster.status().values())
    assert second.down() == []
