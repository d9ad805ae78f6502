"""KEDA itself behind real Sentinels: it asks them for the primary, and follows a failover."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from devcluster.cluster import Cluster
from tests.chart.conftest import CHART, Helm
from tests.chart.test_replicas import Pod, wait
from tests.redis_servers import Server, redis_server, sentinel


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Server, Server, Server]]:
    """Primary, replica, Sentinel."""
    with ExitStack() as stack:
        primary = stack.enter_context(redis_server())
        replica = stack.enter_context(redis_server("--replicaof", "127.0.0.1", str(primary.port)))
        yield primary, replica, stack.enter_context(sentinel(tmp_path, primary))


def push(server: Server, uuid: str) -> None:
    with redis.Redis(port=server.port) as client:
        client.rpush(f"queue:{uuid}", "wake")
        client.expire(f"queue:{uuid}", 60)


def test_a_pod_is_woken_through_the_primary_before_and_after_a_failover(
    live: Helm, cluster: Cluster, uuid: str, site: tuple[Server, Server, Server]
) -> None:
    primary, replica, watcher = site
    pod = Pod(live, cluster, uuid)
    live(
        *("upgrade", "--install", pod.release, str(CHART)),
        *("--set-string", f"redis.sentinel.addresses={{127.0.0.1:{watcher.port}}},redis.sentinel.master=mymaster"),
        *("--set", "autoscaling.pollingInterval=1,autoscaling.cooldownPeriod=2"),
    )
    wait(lambda: pod.replicas() == 0, "KEDA has not put it to sleep", 40)
    push(primary, uuid)
    wait(lambda: pod.replicas() == 1, "KEDA has not read the primary's queue")
    with redis.Redis(port=replica.port) as client:
        wait(lambda: client.llen(f"queue:{uuid}") == 1, "the replica has not followed")
    with redis.Redis(port=watcher.port) as client:
        wait(lambda: bool(client.execute_command("SENTINEL", "REPLICAS", "mymaster")), "the replica is unknown")
    primary.end()
    with redis.Redis(port=replica.port) as client:
        wait(lambda: client.role()[0] == b"master", "the Sentinel has not failed over")
        client.delete(f"queue:{uuid}")
    wait(lambda: pod.replicas() == 0, "KEDA does not read the new primary", 60)
    push(replica, uuid)
    wait(lambda: pod.replicas() == 1, "KEDA has not read the new primary's queue", 60)
    live("uninstall", pod.release)
