"""The real node: pods that are processes, their network, and that nothing of it stays on the machine.

Where it cannot be had these tests are skipped with what is missing, but in CI they fail.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from devcluster import dns, firewall, image, leftovers, network, node
from devcluster.claim import Claim, Held
from devcluster.cluster import Cluster
from devcluster.components import SERVICE_RANGE
from devcluster.errors import DevclusterError
from devcluster.toolchain import Tools
from tests.devcluster.test_cluster import ready, wait

IMAGE = "localhost/tiny:1"
PORT = 8080
ROOT = Path(__file__).resolve().parents[2]


# --- what it needs ---


def test_missing_programs_are_named_by_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devcluster.node.os.geteuid", lambda: 1000)
    monkeypatch.setattr("devcluster.node.shutil.which", lambda name, path: None if name in ("ctr", "nft") else name)
    assert node.missing() == ["root", "the Debian package containerd (ctr)", "the Debian package nftables (nft)"]


def test_ci_installs_every_package_that_it_needs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert [name for name in node.PACKAGES if f"wants {name} " not in script] == []


def test_pods_are_simulated_where_a_real_node_is_impossible(
    cluster: Cluster, tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "missing", lambda: ["the Debian package runc (runc)"])
    lines: list[str] = []
    again = Cluster(cluster.state, tools=tools, report=lines.append)
    assert not again.up(real_node=None)
    assert lines == ["no real node, all pods are simulated: a real node needs the Debian package runc (runc)"]
    with pytest.raises(node.NodeImpossible, match="runc"):
        again.up(real_node=True)
    with pytest.raises(DevclusterError, match="no real node"):
        again.load_image(Path("any.tar"))


def test_the_kernels_bridge_filter_is_loaded_without_effect_on_bridges_of_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "bridge"

    def modprobe(*argv: str) -> None:
        assert argv == ("modprobe", "br_netfilter")
        settings.mkdir()
        (settings / "bridge-nf-call-iptables").write_text("1")

    monkeypatch.setattr(network, "_BRIDGE_FILTER", settings)
    monkeypatch.setattr(network, "run", modprobe)
    for _ in range(2):
        network._load_bridge_filter()
        assert (settings / "bridge-nf-call-iptables").read_text() == "0"
        # Loaded already: then whatever it is set to is somebody's choice.
        monkeypatch.setattr(network, "run", lambda *_: pytest.fail("it is loaded already"))


# --- whose it is ---


def claims(tmp_path: Path) -> tuple[Claim, Claim]:
    one, other = (Claim(tmp_path / name, folder=tmp_path / "run") for name in ("one", "other"))
    return one, other


def dead(_state: Path) -> bool:
    return False


def test_a_second_cluster_is_told_which_cluster_has_the_node(tmp_path: Path) -> None:
    one, other = claims(tmp_path)
    one.take(alive=dead, clean=lambda _: None)
    one.take(alive=dead, clean=lambda _: None)
    with pytest.raises(Held, match=f"{tmp_path}/one has this machine's real node") as held:
        other.take(alive=dead, clean=lambda _: None)
    assert f"{sys.executable} -m devcluster down --state {tmp_path}/one".removeprefix(f"{Path.cwd()}/") in str(
        held.value
    )
    other.release(clean=lambda _: pytest.fail("not its own"))
    one.release(clean=lambda _: None)
    other.take(alive=dead, clean=lambda _: None)
    assert other.owner() == tmp_path / "other"


def test_a_dead_cluster_loses_the_node_and_is_cleaned_up(tmp_path: Path) -> None:
    one, other = claims(tmp_path)
    one.take(alive=dead, clean=lambda _: None)
    file = tmp_path / "run" / "node.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"created": 1.0}))
    with pytest.raises(Held):
        other.take(alive=lambda state: state == tmp_path / "one", clean=lambda _: None)
    cleaned: list[Path] = []
    other.take(alive=dead, clean=cleaned.append)
    assert cleaned == [tmp_path / "one"]


# --- on the real thing ---


def machine(state: Path) -> dict[str, Any]:
    """All that a node changes on the machine outside of its folder."""
    routes = subprocess.run(["ip", "route", "show", "table", "all"], capture_output=True, text=True, check=True).stdout
    rules = "".join(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for command in (["nft", "list", "tables"], ["iptables-save", "-t", "filter"], ["ipset", "list", "-name"])
    )
    settings = ("net/ipv4/ip_forward", "kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory")
    folders = ("/var/lib/kubelet", "/var/lib/cni", "/var/log/containers", "/run/containerd/s", "/opt/containerd")
    return {
        "links": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": sorted(routes.splitlines()),
        "rules": sorted(line for line in rules.splitlines() if not line.startswith("#")),
        "mounts": leftovers.mounts(state),
        "cgroups": leftovers.cgroups(),
        "processes": [p.name() for p in leftovers.processes(state)] + [p.name() for p in leftovers.contained()],
        "settings": {name: (Path("/proc/sys") / name).read_text() for name in settings},
        "folders": {name: sorted(p.name for p in Path(name).rglob("*")) for name in folders if Path(name).exists()},
    }


def busybox() -> Path:
    """A static one, for an image with nothing else in it."""
    found = shutil.which("busybox")
    if found is None or b"/ld-linux" in Path(found).read_bytes()[:4096]:
        raise node.NodeImpossible("these tests need the Debian package busybox-static")
    return Path(found)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def before(state: Path) -> dict[str, Any]:
    """The machine without the node."""
    return machine(state) if not node.missing() else {}


@pytest.fixture(scope="module")
def real(state: Path, before: dict[str, Any], tools: Tools) -> Iterator[Cluster]:
    """A cluster with the machine's real node, which has a tiny web server's image."""
    cluster = Cluster(state, tools=tools)
    try:
        program = busybox()
        cluster.up(real_node=True)
    except (node.NodeImpossible, Held) as error:
        cluster.down()
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        archive = image.write(
            state / "tiny.tar",
            name=IMAGE,
            files={"busybox": program, "www/index.html": b"hello\n"},
            command=["/busybox", "httpd", "-f", "-p", str(PORT), "-h", "/www"],
        )
        cluster.load_image(archive)
        yield cluster
    finally:
        cluster.down()


def deployment(name: str, **spec: Any) -> dict[str, Any]:
    """Of a real pod that serves `hello`; `spec` is more of the pod's."""
    probe = {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1}
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "readinessProbe": probe}
    pod = {"terminationGracePeriodSeconds": 0, "containers": [container], **node.PLACEMENT, **spec}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }


def service(name: str) -> dict[str, Any]:
    spec = {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def pods(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "pods", f"--selector=app={name}", "-o", "json"))
    return list(found["items"])


def address(cluster: Cluster, name: str) -> str:
    """Of its one pod, once that is ready. A Deployment may call it ready for a while after its node has ended."""

    addresses: list[str] = []

    def one() -> bool:
        addresses[:] = [pod["status"]["podIP"] for pod in pods(cluster, name) if "podIP" in pod["status"]]
        return ready(cluster, name) == len(addresses) == 1

    wait(one, f"{name} is not ready")
    return addresses[0]


def get(host: str, port: int) -> str | None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/", timeout=2) as answer:
            return str(answer.read().decode())
    except urllib.error.URLError:
        return None


@pytest.fixture(scope="module")
def web(real: Cluster) -> str:
    """A real pod with a Service, both by this name."""
    real.apply(deployment("web"), service("web"))
    address(real, "web")
    return "web"


def test_a_real_pod_gets_ready_and_the_machine_reaches_it(real: Cluster, web: str) -> None:
    assert get(address(real, web), PORT) == "hello\n"
    assert pods(real, web)[0]["spec"]["nodeName"] == node.NAME


def test_the_real_node_starts_in_seconds(real: Cluster) -> None:
    real.apply(deployment("quick"))
    address(real, "quick")
    real.kubectl("scale", "deployment", "quick", "--replicas=0")
    wait(lambda: pods(real, "quick") == [], "the pod did not end")
    began = time.monotonic()
    real.kubectl("scale", "deployment", "quick", "--replicas=1")
    address(real, "quick")
    assert time.monotonic() - began < 10  # a second on an idle machine; this is no benchmark
    real.kubectl("delete", "deployment", "quick")


def test_a_service_reaches_its_pod_from_the_machine_and_from_pods(real: Cluster, web: str) -> None:
    host = real.kubectl("get", "service", web, "-o", "jsonpath={.spec.clusterIP}")
    wait(lambda: get(host, 80) == "hello\n", "the Service does not answer")
    inside = real.kubectl("exec", f"deployment/{web}", "--", "/busybox", "wget", "-q", "-O-", f"http://{host}/")
    assert inside == "hello\n"


def inside(cluster: Cluster, name: str, *command: str) -> str | None:
    """What a busybox command in the pod prints, or None if it fails."""
    try:
        return cluster.kubectl("exec", f"deployment/{name}", "--", "/busybox", *command)
    except DevclusterError:
        return None


def fetched(cluster: Cluster, name: str, host: str, port: int = PORT) -> str | None:
    return inside(cluster, name, "timeout", "2", "/busybox", "wget", "-q", "-O-", f"http://{host}:{port}/")


def policy(name: str, selector: dict[str, str], **rules: Any) -> dict[str, Any]:
    """A NetworkPolicy; `rules` has `ingress`, `egress` or both."""
    kinds = [kind.capitalize() for kind in rules]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"podSelector": {"matchLabels": selector}, "policyTypes": kinds, **rules},
    }


@pytest.fixture(scope="module")
def peer(real: Cluster) -> str:
    """A second real pod like `web`."""
    real.apply(deployment("peer"))
    address(real, "peer")
    return "peer"


def test_a_network_policy_refuses_pods_until_it_is_removed(real: Cluster, web: str, peer: str) -> None:
    pod, host = address(real, web), real.kubectl("get", "service", web, "-o", "jsonpath={.spec.clusterIP}")
    assert fetched(real, peer, pod) == "hello\n"
    real.apply(policy("closed", {"app": web}, ingress=[]))
    wait(lambda: fetched(real, peer, pod) is None, "the policy is not enforced")
    assert fetched(real, peer, host, 80) is None
    assert get(pod, PORT) == "hello\n", "the machine, where a gateway may run, is never refused"
    real.kubectl("delete", "networkpolicy", "closed")
    wait(lambda: fetched(real, peer, pod) == "hello\n", "the policy is still enforced")


def test_a_network_policy_refuses_the_machine_to_a_pod(real: Cluster, web: str, peer: str) -> None:
    with socket.create_server((network.HOST, 0)) as server:
        port = str(server.getsockname()[1])
        call = ("nc", "-w", "1", network.HOST, port, "-e", "/busybox", "true")
        assert inside(real, peer, *call) is not None
        real.apply(
            policy("inside-only", {"app": peer}, egress=[{"to": [{"podSelector": {"matchLabels": {"app": web}}}]}])
        )
        wait(lambda: inside(real, peer, *call) is None, "the policy is not enforced")
    assert fetched(real, peer, address(real, web)) == "hello\n"
    real.kubectl("delete", "networkpolicy", "inside-only")


def test_pods_do_not_reach_each_other_by_ipv6_for_which_no_policy_is_enforced(
    real: Cluster, web: str, peer: str
) -> None:
    links = inside(real, web, "ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link")
    assert links is not None
    pod = links.split()[3].split("/")[0]
    assert inside(real, web, "nc", "-w", "1", f"{pod}%eth0", str(PORT), "-e", "/busybox", "true") is not None
    assert inside(real, peer, "nc", "-w", "1", f"{pod}%eth0", str(PORT), "-e", "/busybox", "true") is None


def test_pods_find_services_by_name_and_no_other_name(real: Cluster, web: str, peer: str) -> None:
    wait(lambda: fetched(real, peer, web, 80) == "hello\n", "the short name is not found")
    assert fetched(real, peer, f"{web}.default.svc.cluster.local", 80) == "hello\n"
    began = time.monotonic()
    assert inside(real, peer, "nslookup", "example.com") is None
    assert time.monotonic() - began < 4, "a lookup should fail at once, not wait for another server"


@contextlib.contextmanager
def firewall_stopped(state: Path) -> Iterator[None]:
    """As if kube-router were slow."""
    (process,) = [each for each in leftovers.processes(node.folder(state)) if each.name() == firewall.NAME]
    process.suspend()
    try:
        yield
    finally:
        process.resume()


def test_a_new_pod_reaches_nothing_but_names_until_its_policies_are_enforced(
    real: Cluster, state: Path, web: str, peer: str
) -> None:
    server = ("nc", "-w", "1", network.HOST, real.server.rpartition(":")[2], "-e", "/busybox", "true")
    pod = address(real, web)
    assert inside(real, peer, *server) is not None
    with firewall_stopped(state):
        real.apply(deployment("young"))
        young = address(real, "young")
        assert get(young, PORT) == "hello\n", "kubelet and the machine do not wait"
        assert fetched(real, "young", pod) is None
        assert fetched(real, peer, young) is None
        assert inside(real, "young", *server) is None
        assert inside(real, "young", "nslookup", f"{web}.default.svc.cluster.local") is not None
    wait(lambda: fetched(real, "young", pod) == "hello\n", "it still waits")
    assert fetched(real, peer, young) == "hello\n"
    assert inside(real, "young", *server) is not None
    real.kubectl("delete", "deployment", "young")


def test_a_pod_calls_the_api_server_with_its_own_token(real: Cluster, tools: Tools, state: Path) -> None:
    archive = image.write(
        state / "kubectl.tar",
        name="localhost/kubectl:1",
        files={"kubectl": tools.path("kubectl"), "busybox": busybox()},
        command=["/busybox", "sleep", "3600"],
    )
    real.load_image(archive)
    pod = deployment("caller")
    container = pod["spec"]["template"]["spec"]["containers"][0]
    container["image"] = "localhost/kubectl:1"
    del container["readinessProbe"]
    real.apply(pod)
    address(real, "caller")
    mounted = "/var/run/secrets/kubernetes.io/serviceaccount"
    by_name = (
        f"--server=https://kubernetes.default.svc --certificate-authority={mounted}/ca.crt"
        f" --token=$(/busybox cat {mounted}/token)"
    )
    for options in ("", by_name):
        asked = f"/kubectl auth whoami -o jsonpath={{.status.userInfo.username}} {options}"
        assert inside(real, "caller", "sh", "-c", asked) == "system:serviceaccount:default:default"
    real.kubectl("delete", "deployment", "caller")


def limit(pod: dict[str, Any], v1: str, v2: str) -> str:
    """What the kernel holds the pod, all containers together, to: the content of a cgroup's file."""
    marks = (pod["metadata"]["uid"], pod["metadata"]["uid"].replace("-", "_"))
    groups = [path for path in leftovers.cgroups() if path.name.endswith(marks)]
    (value,) = [(path / name).read_text().strip() for path in groups for name in {v1, v2} if (path / name).exists()]
    return value


def test_the_kernel_stops_a_pod_at_its_limits(real: Cluster) -> None:
    limited = deployment("limited")
    limits = {"memory": "48Mi", "cpu": "250m"}
    limited["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": limits}
    real.apply(limited)
    address(real, "limited")
    (pod,) = pods(real, "limited")
    assert limit(pod, "pids.max", "pids.max") == str(node.PIDS)
    assert limit(pod, "cpu.cfs_quota_us", "cpu.max").split()[0] == "25000"
    taken = "/busybox head -c {0} /dev/zero | /busybox tail -c {0} > /dev/null"
    assert inside(real, "limited", "sh", "-c", taken.format(2**20)) is not None
    assert inside(real, "limited", "sh", "-c", taken.format(2**26)) is None
    real.kubectl("delete", "deployment", "limited")


def test_simulated_pods_stay_on_simulated_nodes(real: Cluster, web: str) -> None:
    simulated = deployment("simulated")
    spec = simulated["spec"]["template"]["spec"]
    del spec["nodeSelector"], spec["tolerations"]
    simulated["spec"]["replicas"] = 8
    real.apply(simulated)
    wait(lambda: ready(real, "simulated") == 8, "the simulated pods are not ready")
    assert node.NAME not in {pod["spec"]["nodeName"] for pod in pods(real, "simulated")}
    assert pods(real, web)[0]["spec"]["nodeName"] == node.NAME
    real.kubectl("delete", "deployment", "simulated")


def test_a_pod_without_root_can_write_to_its_volume(real: Cluster, state: Path) -> None:
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    meta = {"name": "home", "namespace": "default"}
    real.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": claim})
    kept = deployment(
        "kept",
        securityContext={"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
        volumes=[{"name": "home", "persistentVolumeClaim": {"claimName": "home"}}],
    )
    container = kept["spec"]["template"]["spec"]["containers"][0]
    container |= {
        "volumeMounts": [{"name": "home", "mountPath": "/home"}],
        "resources": {"requests": {"ephemeral-storage": "1Gi"}},
    }
    real.apply(kept)
    address(real, "kept")
    real.kubectl("exec", "deployment/kept", "--", "/busybox", "touch", "/home/written")
    real.kubectl("scale", "deployment", "kept", "--replicas=0")
    wait(lambda: pods(real, "kept") == [], "the pod did not end")
    real.kubectl("scale", "deployment", "kept", "--replicas=1")
    address(real, "kept")
    assert "written" in real.kubectl("exec", "deployment/kept", "--", "/busybox", "ls", "/home")
    assert len(list((state / "volumes").glob("*/written"))) == 1
    real.kubectl("delete", "deployment", "kept")


def test_cluster_addresses_are_routed_nowhere_else(real: Cluster, web: str) -> None:
    unused = ["10.96.200.1", "10.111.255.254", "10.112.200.1"]
    for target in [*unused, address(real, web)]:
        route = subprocess.run(["ip", "-o", "route", "get", target], capture_output=True, text=True, check=True).stdout
        assert f" dev {network.BRIDGE} " in route or f" dev {network.NOWHERE} " in route
    assert get(unused[0], 80) is None


OUTSIDE = "198.51.100.2"


@pytest.fixture
def outside(real: Cluster) -> Iterator[str]:
    """A neighbour of the machine on a separate link, which uses the machine as its router to pods; serves `hello`."""
    name = f"dc-test-{os.getpid()}"
    inside = ["ip", "netns", "exec", name]
    link = f"dct{os.getpid() % 1_000_000}"
    served = real.state / "served"
    served.mkdir()
    (served / "index.html").write_text("hello\n")
    try:
        for command in (
            ["ip", "netns", "add", name],
            ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name],
            ["ip", "address", "add", "198.51.100.1/30", "dev", link],
            ["ip", "link", "set", link, "up"],
            [*inside, "ip", "address", "add", f"{OUTSIDE}/30", "dev", "eth0"],
            [*inside, "ip", "link", "set", "eth0", "up"],
            [*inside, "ip", "route", "add", "default", "via", "198.51.100.1"],
        ):
            subprocess.run(command, check=True)
        with subprocess.Popen([*inside, "busybox", "httpd", "-f", "-p", str(PORT), "-h", str(served)]) as server:
            wait(lambda: get(OUTSIDE, PORT) == "hello\n", "the neighbour does not answer the machine")
            yield name
            server.kill()
    finally:
        subprocess.run(["ip", "link", "delete", link], check=False)
        subprocess.run(["ip", "netns", "delete", name], check=False)
        shutil.rmtree(served)


def reaches(argv: list[str], host: str, port: int) -> bool:
    command = [*argv, "busybox", "nc", "-w", "2", host, str(port)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def test_pods_are_isolated_from_other_machines(real: Cluster, web: str, outside: str) -> None:
    pod = address(real, web)
    assert reaches([], pod, PORT)
    assert not reaches(["ip", "netns", "exec", outside], pod, PORT)
    host = real.kubectl("get", "service", web, "-o", "jsonpath={.spec.clusterIP}")
    assert not reaches(["ip", "netns", "exec", outside], host, 80)
    with pytest.raises(DevclusterError):
        real.kubectl("exec", f"deployment/{web}", "--", "/busybox", "nc", "-w", "2", OUTSIDE, str(PORT))


def test_no_packet_leaves_the_machine_even_without_the_routes(real: Cluster, outside: str) -> None:
    """The neighbour is made the next hop for a part of the pods' range, and counts what arrives."""
    part = ["10.112.200.0/24", "via", OUTSIDE]

    def arrived(seconds: float) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, contextlib.suppress(PermissionError):
            client.sendto(b"x", ("10.112.200.1", 9))
        time.sleep(seconds)
        count = ["ip", "netns", "exec", outside, "nft", "list", "counter", "inet", "count", "pods"]
        counted = subprocess.run(count, capture_output=True, text=True, check=True).stdout
        return int(counted.split("packets")[1].split()[0]) > 0

    rules = f"""table inet count {{
        counter pods {{ }}
        chain arrived {{
            type filter hook prerouting priority filter;
            ip daddr {network.POD_RANGE} counter name pods
        }}
    }}"""
    subprocess.run(["ip", "netns", "exec", outside, "nft", "-f", "-"], input=rules, text=True, check=True)
    subprocess.run(["ip", "route", "add", *part], check=True)
    try:
        assert not arrived(1)
        subprocess.run(["nft", "flush", "chain", "inet", network.TABLE, "leave"], check=True)
        wait(lambda: arrived(0.1), "the neighbour would not have noticed anything")
    finally:
        subprocess.run(["ip", "route", "delete", *part], check=True)
        network.up(SERVICE_RANGE, dns.ADDRESS)


def test_the_machine_does_not_become_a_router(real: Cluster, web: str, before: dict[str, Any], state: Path) -> None:
    assert ready(real, web)
    assert machine(state)["settings"]["net/ipv4/ip_forward"] == before["settings"]["net/ipv4/ip_forward"]


def test_a_second_cluster_does_not_get_the_node(real: Cluster, tmp_path: Path) -> None:
    with pytest.raises(Held, match=str(real.state)):
        Claim(tmp_path).take(alive=node.alive, clean=node.clean)


def test_a_second_up_leaves_the_node_alone(real: Cluster, web: str) -> None:
    before = {name: real.pid(name) for name in node.PROGRAMS}
    for wanted in (True, None, False):
        assert not real.up(real_node=wanted)
    assert {name: real.pid(name) for name in node.PROGRAMS} == before
    assert ready(real, web)


@pytest.mark.parametrize("name", node.PROGRAMS)
def test_a_pod_survives_the_death_of_each_program(real: Cluster, web: str, name: str) -> None:
    uid = pods(real, web)[0]["metadata"]["uid"]
    psutil.Process(real.pid(name)).send_signal(signal.SIGKILL)
    wait(lambda: not real.status()[name], "the death was not noticed")
    assert get(address(real, web), PORT) == "hello\n"
    assert real.up(real_node=True)
    (pod,) = pods(real, web)
    assert (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"]) == (uid, 0)


def test_down_restores_the_machine_even_after_a_crash_of_every_program(
    real: Cluster, web: str, state: Path, before: dict[str, Any]
) -> None:
    assert ready(real, web)
    during = machine(state)
    assert [name for name in before if during[name] == before[name]] == []
    for process in leftovers.processes(state):
        process.kill()
    command = [sys.executable, "-m", "devcluster", "down", "--state", str(state)]
    for _ in range(2):
        done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert machine(state) == before


def test_the_pods_come_back_with_the_next_up(real: Cluster, web: str, state: Path, before: dict[str, Any]) -> None:
    assert real.up(real_node=True)
    wait(lambda: get(address(real, web), PORT) == "hello\n", "the pod did not come back")
    real.down()
    assert machine(state) == before


def test_without_the_real_node_the_cluster_does_not_wait_for_it(real: Cluster) -> None:
    assert real.up()
    assert node.NAME not in real.kubectl("get", "nodes", "-o", "name")
