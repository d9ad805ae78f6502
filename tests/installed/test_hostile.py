"""The hostile pod: what a user with a shell in their workspace reaches, and what stops them, with policies enforced.

Each attempt is also made where it must succeed, by the same program: an attempt that fails everywhere proves nothing.
What came of them is the table in docs/threat-model.md.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from devcluster import dns, network, node
from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from images import recipes
from images.recipes import Name
from stack import tables
from stack.stack import ROOT
from tests.installed.conftest import ACCOUNT, SYSTEM, USERS, Installation, User, Users
from tests.stack.client import until

pytestmark = pytest.mark.timeout(900)
"""Seconds of a test: on a new machine, the first one builds the images."""
_log = logging.getLogger(__name__)
DOCUMENT = ROOT / "docs" / "threat-model.md"
BEGIN, END = "<!-- hostile pod: written by `make threat-model` -->", "<!-- hostile pod: end -->"
_REWRITE = "WRITE_THREAT_MODEL"
_PROGRAM = Path(__file__).with_name("attempts.py").read_text()
_ELSEWHERE = "elsewhere"
_PUBLIC = "203.0.113.10"
"""For documentation, so nobody's. The policies take it for the internet."""
_METADATA = ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192")
_ROUTES = "7400"
"""A routing table of this test's own."""

Target = tuple[str, int]


@dataclass(frozen=True)
class Pod:
    """A pod in which attempts are made."""

    cluster: Cluster
    namespace: str
    name: str
    python: str = "python3"

    def attempt(self, **plan: Any) -> dict[str, Any]:
        command = ("-n", self.namespace, "exec", "-i", self.name, "--", self.python, "-", json.dumps(plan))
        found: dict[str, Any] = json.loads(self.cluster.kubectl(*command, stdin=_PROGRAM))
        return found

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self.cluster.kubectl("-n", self.namespace, "get", self.name, "-o", "json"),
        )
        return found


@dataclass
class Table:
    """`rows`: group, attempt, where the same succeeds, what a workspace saw."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, group: str, attempt: str, elsewhere: str, seen: str) -> None:
        self.rows.append((group, attempt, elsewhere, seen))

    def markdown(self) -> str:
        head = ("", "What a workspace's user tries", "Where the same succeeds", "In a workspace")
        groups = list(dict.fromkeys(row[0] for row in self.rows))
        rows = sorted(self.rows, key=lambda row: groups.index(row[0]))
        return tables.markdown(head, rows, numbers_from=len(head))


@dataclass(frozen=True)
class Ground:
    """`hostile`: a workspace with a shell. `other`: another user's. `open`: a pod without policies, privileged."""

    installation: Installation
    hostile: User
    other: User
    open: Pod

    @property
    def cluster(self) -> Cluster:
        return self.installation.cluster

    def pod(self, user: User) -> Pod:
        return Pod(self.cluster, USERS, f"pod/{_running(self.cluster, USERS, f'uuid={user.uuid}')['metadata']['name']}")

    @property
    def shell(self) -> Pod:
        return self.pod(self.hostile)

    @property
    def gateway(self) -> Pod:
        return Pod(self.cluster, SYSTEM, f"pod/{self.installation.pods()[0]}", python="python")


def _running(cluster: Cluster, namespace: str, selector: str) -> dict[str, Any]:
    found = json.loads(cluster.kubectl("-n", namespace, "get", "pods", "-l", selector, "-o", "json"))["items"]
    (pod,) = [each for each in found if _is_ready(each) and "deletionTimestamp" not in each["metadata"]]
    return dict(pod)


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


@pytest.fixture(scope="module")
def workspace(installation: Installation) -> str:
    """The image with a shell, which the node then has."""
    image = recipes.build(Name.WORKSPACE)
    installation.cluster.load_image(image.archive)
    return image.reference


@pytest.fixture(scope="module")
def elsewhere(installation: Installation, workspace: str) -> Iterator[Pod]:
    """A pod that may do everything. Behind it are, for pods only, metadata addresses and one of the internet."""
    cluster = installation.cluster
    container = {
        "name": "main",
        "image": workspace,
        "imagePullPolicy": "Never",
        "command": ["python3", "-c", _PROGRAM, "serve", _PUBLIC, *_METADATA],
        "securityContext": {"privileged": True, "runAsUser": 0},
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
    }
    spec = {"hostPID": True, "terminationGracePeriodSeconds": 0, "containers": [container], **node.PLACEMENT}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _ELSEWHERE}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "open", "namespace": _ELSEWHERE}, "spec": spec},
    )
    cluster.kubectl("-n", _ELSEWHERE, "wait", "--for=condition=Ready", "pod/open", "--timeout=60s")
    try:
        for address in (_PUBLIC, *_METADATA):
            network.run("ip", "route", "replace", address, "dev", network.BRIDGE, "table", _ROUTES)
        network.run("ip", "rule", "add", "iif", network.BRIDGE, "lookup", _ROUTES)
        yield Pod(cluster, _ELSEWHERE, "pod/open")
    finally:
        subprocess.run(["ip", "rule", "delete", "lookup", _ROUTES], capture_output=True, check=False)
        subprocess.run(["ip", "route", "flush", "table", _ROUTES], capture_output=True, check=False)
        cluster.kubectl("delete", "namespace", _ELSEWHERE, "--wait=false")


async def _awake(installation: Installation, users: Users, **container: Any) -> User:
    """A new user whose pod is ready and stays so. `container`: what differs from what the service made."""
    user = await users.new(cooldown=600)
    if container:
        _patch(installation.cluster, user, **container)
    await user.caller.call("POST", f"/session/{user.uuid}/wake")
    await user.caller.until(user.uuid, "ready", 90)
    return user


def _patch(cluster: Cluster, user: User, **container: Any) -> None:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "workspace", **container}]}}}}
    cluster.kubectl("-n", USERS, "patch", "deployment", f"user-{user.uuid}", "--patch", json.dumps(patch))


async def test_a_hostile_workspace_reaches_nothing_and_is_stopped(
    installation: Installation, users: Users, elsewhere: Pod, workspace: str
) -> None:
    probe = {"exec": None, "tcpSocket": {"port": "http"}, "periodSeconds": 1, "failureThreshold": 90}
    hostile, other = await asyncio.gather(
        _awake(installation, users, image=workspace, startupProbe=probe), _awake(installation, users)
    )
    ground, table = Ground(installation, hostile, other, elsewhere), Table()
    before = ground.pod(other).state["status"]["containerStatuses"]
    await asyncio.to_thread(_network, ground, table)
    await asyncio.to_thread(_names, ground, table)
    await asyncio.to_thread(_gateway, ground, table)
    await asyncio.to_thread(_credentials, ground, table)
    await asyncio.to_thread(_walls, ground, table)
    await asyncio.to_thread(_pids, ground, table)
    small = {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "32Mi"}
    await _limits(ground, table, small)
    assert ground.pod(other).state["status"]["containerStatuses"] == before, "another user's pod was harmed"
    for user in (hostile, other):
        await user.caller.call("POST", f"/session/{user.uuid}/sleep")
    _compare(table)


# --- network ---


def _network(ground: Ground, table: Table) -> None:
    """What must not be reached, and what must."""
    with _node_listens() as stood_in:
        machine = {f"{stood_in.get(port, 'a port')} {port}": (network.HOST, port) for port in _listening()}
        groups = {**_targets(ground), "any port at which the node listens": machine}
        targets = {f"{what}: {name}": each for what, group in groups.items() for name, each in group.items()}
        reached = ground.open.attempt(tcp=targets)["tcp"]
        # Another user's pod admits the gateway only.
        reached |= ground.gateway.attempt(
            tcp={name: each for name, each in targets.items() if name not in reached or not reached[name]}
        )["tcp"]
        seen = ground.shell.attempt(tcp=targets)["tcp"]
    open_places = {name for name, came in reached.items() if came}
    for what, group in groups.items():
        names = {f"{what}: {name}" for name in group}
        # Ports of the machine may have closed meanwhile.
        there = names & open_places if group is machine else names
        assert there, what
        assert there <= open_places, f"the attempt itself fails: {there - open_places}"
        assert {name for name in names if seen[name]} == set(), what
        place = "from the gateway's pod" if "another user" in what else "from a pod without policies"
        table.add("network", what, place, "not reached")
    _allowed(ground, table)


def _allowed(ground: Ground, table: Table) -> None:
    """The shell's network works: it reaches the internet, at the same pod and by the same way as the metadata."""
    assert ground.shell.attempt(tcp={"internet": (_PUBLIC, 80)})["tcp"] == {"internet": True}
    table.add("network", "the internet (allowed), answered by the same pod as the metadata", "", "reached")


def _targets(ground: Ground) -> dict[str, dict[str, Target]]:
    cluster, installed, other = ground.cluster, ground.installation, ground.pod(ground.other).state
    redis = _running(cluster, SYSTEM, "app.kubernetes.io/name=redis")
    replicas = [Pod(cluster, SYSTEM, f"pod/{name}").state for name in installed.pods()]
    api, resolver = installed.port("http"), _running(cluster, "kube-system", "k8s-app=kube-dns")
    registered = json.loads(cluster.kubectl("get", "node", node.NAME, "-o", "json"))
    kubelet = registered["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    domain = f"svc.{dns.DOMAIN}"
    return {
        "Redis, by its pod, Service and name": {
            "pod": (_address(redis), 6379),
            "service": (cluster.kubectl("-n", SYSTEM, "get", "service", "redis", "-o", _CLUSTER_IP), 6379),
            "name": (f"redis.{SYSTEM}.{domain}", 6379),
        },
        "API server, by its Service, name and node": {
            "service": (cluster.kubectl("-n", "default", "get", "service", "kubernetes", "-o", _CLUSTER_IP), 443),
            "name": (f"kubernetes.default.{domain}", 443),
            "node": (network.HOST, int(cluster.server.rpartition(":")[2])),
        },
        "kubelet": {"node": (network.HOST, int(kubelet))},
        "a metadata service: " + ", ".join(_METADATA): {each: (each, 80) for each in _METADATA},
        "another user's pod and Service": {
            "pod": (_address(other), 8080),
            "service": (f"user-{ground.other.uuid}.{USERS}.{domain}", 80),
        },
        "a pod of another namespace": {"open": (_address(ground.open.state), 8080)},
        "another port of the pod with the DNS": {"ready": (_address(resolver), 8181)},
        "the service's API, by its Service, name and each pod": {
            "service": (installed.address, api),
            "name": (f"session-service.{SYSTEM}.{domain}", api),
            **{each["metadata"]["name"]: (_address(each), _port(each, "http")) for each in replicas},
        },
    }


_CLUSTER_IP = "jsonpath={.spec.clusterIP}"


def _address(pod: dict[str, Any]) -> str:
    return str(pod["status"]["podIP"])


def _port(pod: dict[str, Any], name: str) -> int:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", [])]
    return next(int(port["containerPort"]) for port in ports if port["name"] == name)


@contextmanager
def _node_listens() -> Iterator[dict[int, str]]:
    """Stand-ins for what other nodes have, where this one has nothing; by their ports."""
    wanted = {10250: "kubelet", 10255: "kubelet, read-only", 2379: "etcd", 2380: "etcd's peers", 22: "SSH"}
    made = {}
    with ExitStack() as stack:
        for port, what in wanted.items():
            with suppress(OSError):
                stack.enter_context(socket.create_server((network.HOST, port)))
                made[port] = what
        yield made


def _listening() -> list[int]:
    """TCP ports that the machine has open for its address in the pods' network."""
    found = psutil.net_connections("tcp")
    here = {network.HOST, "0.0.0.0", "::"}
    listening = [each.laddr for each in found if each.status == psutil.CONN_LISTEN and each.laddr]
    return sorted({address.port for address in listening if address.ip in here})


def _names(ground: Ground, table: Table) -> None:
    elsewhere = {"node": (network.HOST, 53), "pod": (_address(ground.open.state), 53)}
    asked = {"the cluster's DNS": (dns.ADDRESS, 53), "a DNS server in another pod": elsewhere["pod"]}
    everywhere = ground.open.attempt(udp=asked)["udp"]
    assert everywhere == dict.fromkeys(asked, True), everywhere
    seen = ground.shell.attempt(udp=asked)["udp"]
    assert seen == {"the cluster's DNS": True, "a DNS server in another pod": False}
    table.add("network", "the cluster's DNS (allowed)", "from a pod without policies", "answered")
    table.add("network", "a DNS server in another pod", "from a pod without policies", "not answered")


def _gateway(ground: Ground, table: Table) -> None:
    """The one part of the service that workspaces may call."""
    installed, hostile, other = ground.installation, ground.hostile, ground.other
    place = f"http://{installed.address}:{installed.port('gateway')}"
    own = next(Pod(ground.cluster, SYSTEM, f"pod/{name}").state for name in installed.pods())
    direct = f"http://{_address(own)}:{_port(own, 'gateway')}"
    host, keep = {"Host": other.headers["Host"]}, "/.user-pods/keep-awake"
    forged = {"X-Forwarded-Host": hostile.headers["Host"], "X-Forwarded-For": _address(ground.pod(other).state)}
    requests = {
        "with the other's cookie": {"url": f"{place}/", "headers": {**host, "Cookie": other.headers["Cookie"]}},
        "without a cookie": {"url": f"{place}/", "headers": host},
        "with its own cookie": {"url": f"{place}/", "headers": {**host, "Cookie": hostile.headers["Cookie"]}},
        "with forged headers": {"url": f"{place}/", "headers": {**hostile.headers, **host, **forged}},
        "keeps itself awake": {"url": f"{place}{keep}", "headers": {}, "body": f"uuid={hostile.uuid}&for=1m"},
        "keeps the other awake": {"url": f"{place}{keep}", "headers": forged, "body": f"uuid={other.uuid}&for=1m"},
        "the API's paths": {"url": f"{direct}/session/{other.uuid}/status", "headers": {}},
        "metrics": {"url": f"{direct}/metrics", "headers": {}},
    }
    seen = ground.shell.attempt(http=requests)["http"]
    allowed = {name: seen.pop(name) for name in ("with the other's cookie", "keeps itself awake")}
    assert allowed == dict.fromkeys(allowed, 200), allowed
    assert {name: code for name, code in seen.items() if code not in (401, 403, 404, 421)} == {}
    theirs = "with the other's cookie"
    for name in ("without a cookie", "with its own cookie", "with forged headers"):
        table.add("gateway", f"the gateway at another user's host, {name}", theirs, "refused")
    table.add("gateway", "to keep another user's workspace awake", "for its own", "refused")
    table.add("gateway", "the service's API or metrics at the gateway's port", "a request with that cookie", "refused")


# --- the container's walls ---


_FINDS = ("find a service account's token", "find a credential in the environment")
_WALLS = (
    "run a setuid program as root",
    "set the user id 0",
    "write /etc/passwd",
    "write outside of the home folder",
    "mount",
    "mount in a user namespace",
    "see processes of the node",
    "find devices of the node",
    "make a device",
    "write control groups",
    "write kernel settings",
    "load a kernel module",
    "load a BPF program",
    "read the kernel's log",
    "send raw packets",
)


def _credentials(ground: Ground, table: Table) -> None:
    _compared(ground.gateway, ground, _FINDS, table, "in the service's pod")


def _walls(ground: Ground, table: Table) -> None:
    _compared(ground.open, ground, _WALLS, table, "in a privileged pod")


def _compared(control: Pod, ground: Ground, names: Iterable[str], table: Table, place: str) -> None:
    wanted = list(names)
    assert control.attempt(local=wanted)["local"] == dict.fromkeys(wanted, True), "an attempt itself fails"
    assert ground.shell.attempt(local=wanted)["local"] == dict.fromkeys(wanted, False)
    for name in wanted:
        table.add("container", f"to {name}", place, "fails")


# --- limits ---


def _pids(ground: Ground, table: Table) -> None:
    """A fork bomb with an end: it stops by itself a little above the limit, and takes its children with it."""
    assert ground.shell.attempt(processes=200)["processes"] == 200
    most = ground.shell.attempt(processes=node.PIDS + 500)["processes"]
    assert 1000 < most < node.PIDS, most
    table.add(
        "limits", f"to start more than {node.PIDS} processes and threads", "200", "the kernel refuses (`podPidsLimit`)"
    )


async def _limits(ground: Ground, table: Table, small: dict[str, str]) -> None:
    """With limits that need little of the machine. What runs first tries to be faster than the policies."""
    targets = {
        "allowed": (_PUBLIC, 80),
        "another pod": (_address(ground.open.state), 8080),
        "the node": (network.HOST, int(ground.cluster.server.rpartition(":")[2])),
    }
    command = ["python3", "-c", _PROGRAM, "first", json.dumps(targets)]
    _patch(ground.cluster, ground.hostile, command=command, args=None, resources={"requests": small, "limits": small})
    deployment = f"deployment/user-{ground.hostile.uuid}"
    await asyncio.to_thread(ground.cluster.kubectl, "-n", USERS, "rollout", "status", deployment, "--timeout=90s")
    shell = ground.shell
    reached = (await asyncio.to_thread(shell.attempt, first=None))["first"]
    _log.info("a new pod reached at first: %s", reached)
    assert set(reached) == {"allowed"}, reached
    table.add(
        "network",
        "another pod and the node, from its pod's first moment",
        "the internet, a moment later",
        "not reached",
    )

    async def is_held_back() -> bool:
        """Not in a second in which a busy machine gives it less than its share."""
        return (await asyncio.to_thread(shell.attempt, busy=1)) != {"busy": 0}

    await until(is_held_back, 30, lambda: "it may compute as much as it likes")
    assert await asyncio.to_thread(ground.open.attempt, busy=1) == {"busy": 0}
    table.add("limits", "to compute with more than its share", "in a pod without a limit", "the kernel holds it back")
    assert await asyncio.to_thread(shell.attempt, memory=48) == {"memory": 0}

    async def is_killed() -> bool:
        """This process; with cgroup v2, kubelet has the kernel end the whole container."""
        try:
            return await asyncio.to_thread(shell.attempt, memory=400) == {"memory": signal.SIGKILL}
        except DevclusterError:
            last = shell.state["status"]["containerStatuses"][0]["lastState"]
            return bool(last.get("terminated", {}).get("reason") == "OOMKilled")

    await until(is_killed, 30, lambda: "it may take as much memory as it likes")
    table.add("limits", "to take more memory than its limit", "less than the limit", "the kernel kills it")
    await asyncio.to_thread(ground.cluster.kubectl, "-n", USERS, "rollout", "status", deployment, "--timeout=60s")
    assert await asyncio.to_thread(shell.attempt, disk=8) == {"disk": True}
    assert await asyncio.to_thread(shell.attempt, disk=64) == {"disk": True}

    async def is_evicted() -> bool:
        try:
            return bool(shell.state["status"].get("reason") == "Evicted")
        except DevclusterError:
            return False

    await until(is_evicted, 60, lambda: f"not evicted: {json.dumps(shell.state['status'])}")
    assert "ephemeral" in shell.state["status"]["message"]
    table.add("limits", "to fill the disk by /tmp", "less than the limit", "kubelet evicts the pod")


# --- the service's token ---


async def test_with_the_services_token_no_pod_with_the_nodes_files_starts_and_a_workspace_does(
    installation: Installation, workspace: str
) -> None:
    """The service may create Deployments, of which the API server makes no pod that the namespace forbids."""
    stolen = ("--kubeconfig", str(installation.cluster.service_account(SYSTEM, "session-service")), "-n", USERS)
    kubectl = installation.cluster.kubectl
    confined: dict[str, Any] = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    pods: dict[str, dict[str, Any]] = {
        "allowed": {},
        "files": {"volumes": [{"name": "node", "hostPath": {"path": "/"}}]},
        "network": {"hostNetwork": True},
        "processes": {"hostPID": True},
        "privileged": {"security": {"privileged": True, "allowPrivilegeEscalation": True}},
        "root": {"security": {"runAsUser": 0, "runAsNonRoot": False}},
    }
    for name, spec in pods.items():
        security = {**confined, **spec.pop("security", {})}
        container = {"name": "main", "image": workspace, "imagePullPolicy": "Never", "securityContext": security}
        template = {"metadata": {"labels": {"stolen": name}}, "spec": {"containers": [container], **spec}}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": f"stolen-{name}", "labels": {"stolen": "token"}},
            "spec": {"selector": {"matchLabels": {"stolen": name}}, "template": template},
        }
        kubectl(*stolen, "create", "-f", "-", stdin=json.dumps(deployment))

    def made() -> dict[str, str]:
        """What became of each: `pod`, or why there is none."""
        found = json.loads(kubectl("-n", USERS, "get", "replicasets", "-l", "stolen", "-o", "json"))["items"]
        return {each["metadata"]["labels"]["stolen"]: _outcome(each["status"]) for each in found}

    async def is_decided() -> bool:
        return set(made()) == set(pods) and all(made().values())

    try:
        await until(is_decided, 30, lambda: f"not decided: {made()}")
        outcomes = made()
        assert outcomes.pop("allowed") == "pod"
        assert all("violates PodSecurity" in text for text in outcomes.values()), outcomes
    finally:
        kubectl("-n", USERS, "delete", "deployments", "-l", "stolen=token")
    # It cannot make pods itself either, nor get into one.
    for right in (("create", "pods"), ("create", "pods/exec"), ("update", "namespaces"), ("patch", "namespaces")):
        with pytest.raises(DevclusterError):
            kubectl("auth", "can-i", *right, "-n", USERS, f"--as={ACCOUNT}")


def _outcome(status: dict[str, Any]) -> str:
    failures = [each["message"] for each in status.get("conditions", []) if each["type"] == "ReplicaFailure"]
    return "pod" if status.get("replicas") else "; ".join(failures)


def _compare(table: Table) -> None:
    """The table is that of the document, or is written there."""
    if os.environ.get(_REWRITE):
        tables.replace(DOCUMENT, BEGIN, END, table.markdown())
    assert table.markdown() in DOCUMENT.read_text(), f"`make threat-model` rewrites the table:\n{table.markdown()}"
