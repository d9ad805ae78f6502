"""`helm test` on a real node: it wakes a real pod that sleeps, with the service and with plain KEDA, and asks it."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from devcluster import network
from devcluster.cluster import Cluster
from stack.stack import USERS, Stack
from tests.chart.conftest import CHART, Helm
from tests.stack.client import until
from tests.workspaces.conftest import Visitor


@pytest.fixture
async def redis_for_pods(real_stack: Stack) -> AsyncIterator[None]:
    """While a test runs, what pods send to the machine's address on their bridge reaches Redis on its loopback.

    Only here: a Redis that listened there would let every workspace of a developer's cluster try passwords, and a test
    pod in the machine's own network is what no cluster with a Pod Security Standard would take.
    """
    port, under_way = real_stack.cluster.redis_port, set[asyncio.Task[None]]()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))
        inner_writer.close()
        writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(relay(reader, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    async with await asyncio.start_server(accept, network.HOST, port):
        yield
    async with asyncio.timeout(5):
        await asyncio.gather(*under_way)


@pytest.fixture(params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest, real_stack: Stack) -> Helm:
    cluster = real_stack.cluster
    return Helm(cluster.tools.path(request.param), cluster.kubeconfig, USERS)


async def wake_and_ask(helm: Helm, uuid: str) -> CompletedProcess[str]:
    """Run it as an operator does."""
    return await asyncio.to_thread(helm.try_, "test", f"user-{uuid}", "--logs", "--timeout", "60s")


def read(cluster: Cluster, namespace: str, *what: str) -> Any:
    return json.loads(cluster.kubectl("-n", namespace, "get", *what, "-o", "json"))


@pytest.mark.usefixtures("redis_for_pods")
async def test_it_wakes_a_parked_session_of_the_service_and_lets_it_sleep_again(helm: Helm, visitor: Visitor) -> None:
    cluster, uuid = visitor.stack.cluster, visitor.uuid

    async def parked() -> bool:
        status = await visitor.status()
        return bool(status["phase"] == "asleep" and status["parked"])

    await until(parked, 30, lambda: "it is not parked")
    done = await wake_and_ask(helm, uuid)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED: HTTP status 200" in done.stdout
    assert "awake already" not in done.stdout
    assert "ready" in (await visitor.status())["phase"]
    pod = read(cluster, USERS, "pod", f"test-user-{uuid}")
    assert pod["status"]["phase"] == "Succeeded"
    for text in (json.dumps(pod), done.stdout + done.stderr):
        assert cluster.redis_password not in text
    # It is nobody's: neither what the service calls the user's pod, nor what the Service leads to.
    (own,) = read(cluster, USERS, "pods", "-l", f"uuid={uuid}")["items"]
    assert own["metadata"]["name"].startswith(f"user-{uuid}-")
    addresses = json.dumps(read(cluster, USERS, "endpointslices", "-l", f"kubernetes.io/service-name=user-{uuid}"))
    assert own["status"]["podIP"] in addresses
    assert pod["status"]["podIP"] not in addresses
    await until(parked, 30, lambda: "it does not sleep again")


@pytest.fixture
def alone(real_stack: Stack, helm: Helm) -> Helm:
    """Helm in a namespace of which no service knows, with Redis' Secret and values for this cluster."""
    cluster, namespace = real_stack.cluster, "alone"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis-password", "namespace": namespace}}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    cluster.apply({**secret, "stringData": {"password": cluster.redis_password}})
    return Helm(helm.path, cluster.kubeconfig, namespace)


@pytest.mark.usefixtures("redis_for_pods")
async def test_with_the_chart_alone_keda_wakes_it_and_a_failure_says_where_to_look(
    alone: Helm, real_stack: Stack
) -> None:
    cluster, uuid = real_stack.cluster, secrets.token_hex(4)
    values = yaml.safe_load(real_stack.values.read_text())
    values["redis"]["address"] = f"127.0.0.1:{cluster.redis_port}"
    values["autoscaling"] = {"pollingInterval": 1, "cooldownPeriod": 2, "lease": 4}
    file = cluster.state / "alone.yaml"
    file.write_text(yaml.safe_dump(values))
    alone("install", f"user-{uuid}", str(CHART), "--values", str(file))

    async def asleep() -> bool:
        scaled = read(cluster, alone.namespace, "deployment", f"user-{uuid}")["spec"]["replicas"] == 0
        return scaled and not read(cluster, alone.namespace, "pods", "-l", f"uuid={uuid}")["items"]

    await until(asleep, 30, lambda: "it does not sleep")
    done = await wake_and_ask(alone, uuid)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED: HTTP status 200" in done.stdout
    assert "awake already" not in done.stdout
    await until(asleep, 30, lambda: "it does not sleep again")

    broken = ["--set", "image.tag=none-such,tests.timeout=2"]
    alone("upgrade", f"user-{uuid}", str(CHART), "--values", str(file), *broken)
    done = await wake_and_ask(alone, uuid)
    assert done.returncode != 0
    assert "FAILED: no answer within 2 s" in done.stdout
    assert f"kubectl -n alone describe pods -l uuid={uuid}" in done.stdout
    alone("uninstall", f"user-{uuid}")
    cluster.kubectl("-n", alone.namespace, "delete", "pod", f"test-user-{uuid}")
