"""A real node beside the simulated ones: containerd, kubelet and kube-proxy, and what the machine must have for them.

Everything but what `network.py` and `leftovers.py` name is in `<state>/node`: containerd is an instance of its own, and
the machine's is not touched.
"""

import json
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster import components, dns, firewall, image, leftovers, network
from devcluster.components import SERVICE_RANGE, Site
from devcluster.errors import DevclusterError, NotReady
from devcluster.processes import Program, environment
from devcluster.toolchain import Tools

NAME = "real"
LABEL = "devcluster/node"
"""Label and taint of the node, with the value `real`: a pod must select the label and tolerate the taint."""
PLACEMENT: Mapping[str, Any] = {
    "nodeSelector": {LABEL: NAME},
    "tolerations": [{"key": LABEL, "operator": "Equal", "value": NAME, "effect": "NoSchedule"}],
}
"""What a pod's spec needs to run on the real node."""
PROGRAMS = ("containerd", "apiserver-proxy", "kubelet", "kube-proxy", firewall.NAME)
_READER = "devcluster:volume-reader"
RIGHTS: tuple[dict[str, Any], ...] = (
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": _READER},
        "rules": [{"apiGroups": [""], "resources": ["persistentvolumeclaims", "persistentvolumes"], "verbs": ["get"]}],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _READER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _READER},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
    },
)
"""Kubelets may read all claims and volumes.

By default a kubelet may read those of its pods only, as the API server's own watch of pods shows them. It often asks
before that watch has its pod, is refused, and tries again only after 10 to 15 s: one wake in eight took 18 s.
"""

PIDS = 2048
"""How many processes and threads a pod may have. A workspace with its language servers has some hundred."""
_PAUSE = "localhost/devcluster/pause:1"
_PLUGINS = Path("/usr/lib/cni")
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "containerd": ("containerd", "containerd-shim-runc-v2", "ctr"),
    "runc": ("runc",),
    "containernetworking-plugins": tuple(str(_PLUGINS / name) for name in ("bridge", "host-local", "loopback")),
    "nftables": ("nft",),
    "iproute2": ("ip",),
    "iptables": ("iptables", "iptables-save", "iptables-restore"),
    "ipset": ("ipset",),
    "catatonit": ("catatonit",),  # static: with -P it does what a sandbox's image has to do
}


class NodeImpossible(DevclusterError):
    """This machine cannot have a real node; says what is missing."""


def missing() -> list[str]:
    """What a real node needs and this machine lacks: root, and Debian packages with what is wanted of them."""
    lacks = [] if os.geteuid() == 0 else ["root"]
    for package, programs in PACKAGES.items():
        absent = [name for name in programs if shutil.which(name, path=network.PATH) is None]
        if absent:
            lacks.append(f"the Debian package {package} ({', '.join(absent)})")
    if not lacks and not os.access("/sys/fs/cgroup", os.W_OK):
        lacks.append("a writable /sys/fs/cgroup")
    return lacks


def folder(state: Path) -> Path:
    return state / "node"


def alive(state: Path) -> bool:
    """Whether anything of the node of that cluster runs."""
    return bool(leftovers.processes(folder(state)))


def clean(state: Path) -> None:
    """Remove everything that the cluster's node created on the machine; its folder is kept."""
    leftovers.sweep(folder(state))
    if network.is_ours():
        firewall.remove()
    network.down()


def prepare(state: Path) -> None:
    """Create network and cgroup. Raises NodeImpossible if the machine does not allow it, or its network conflicts."""
    try:
        if not network.is_ours() and (reasons := [*network.conflicts(SERVICE_RANGE), *firewall.conflicts()]):
            raise NodeImpossible("; ".join(reasons))
        folder(state).mkdir(exist_ok=True)
        network.up(SERVICE_RANGE, dns.ADDRESS)
        leftovers.make_cgroups()
    except OSError as error:
        raise NodeImpossible(f"this machine does not allow it: {error}") from error


def containerd(site: Site) -> Program:
    place = folder(site.state)
    config = place / "containerd.toml"
    (place / "cni").mkdir(parents=True, exist_ok=True)
    _write(place / "cni" / "network.conflist", json.dumps(network.cni(place / "addresses"), indent=2))
    _write(
        config,
        _CONTAINERD.format(
            root=json.dumps(str(place / "containerd")),
            run=json.dumps(str(place / "run")),
            socket=json.dumps(str(_socket(site.state))),
            runc=json.dumps(str(place / "runc")),
            plugins=json.dumps(str(_PLUGINS)),
            networks=json.dumps(str(place / "cni")),
            pause=json.dumps(_PAUSE),
            snapshotter=json.dumps("native" if _file_system(place) == "overlay" else "overlayfs"),
        ),
    )
    argv = [network.found("containerd"), "--config", str(config)]
    return Program("containerd", argv, _environment(), lambda: _ctr(site.state, "version").returncode == 0)


def apiserver_proxy(site: Site) -> Program:
    """Passes the pods' connections to the API server, which listens on loopback only.

    It is etcd's proxy for any TCP.
    """
    port = site.ports["apiserver"]
    argv = [
        str(site.tools.path("etcd")),
        "gateway",
        "start",
        f"--listen-addr={network.HOST}:{port}",
        f"--endpoints=127.0.0.1:{port}",
        "--retry-delay=500ms",  # how long it refuses connections after the API server has been away
    ]

    def ready() -> bool:
        with socket.create_connection((network.HOST, port), timeout=2):
            return True

    return Program("apiserver-proxy", argv, environment(), ready)


def objects(site: Site, tools: Tools) -> list[dict[str, Any]]:
    """What the API holds for pods: the API server's address for them, and the cluster's DNS."""
    here = {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}}
    apiserver = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": here,
        "addressType": "IPv4",
        "endpoints": [{"addresses": [network.HOST], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": site.ports["apiserver"], "protocol": "TCP"}],
    }
    return [apiserver, *dns.objects(tools.path("coredns"), image=_PAUSE, placement=PLACEMENT)]


def kubelet(site: Site, tools: Tools) -> Program:
    place = folder(site.state)
    crt, key = site.authority.issue("kubelet-server", user="kubelet", hosts=(network.HOST, NAME))
    plugins = _volume_plugins(site.state)
    config = place / "kubelet.yaml"
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.HOST,
        "port": site.ports["kubelet"],
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": site.ports["kubelet-health"],
        "tlsCertFile": str(crt),
        "tlsPrivateKeyFile": str(key),
        "clusterDNS": [dns.ADDRESS],
        "clusterDomain": dns.DOMAIN,
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": str(site.authority.certificate)},
        },
        "registerWithTaints": [{"key": LABEL, "value": NAME, "effect": "NoSchedule"}],
        "containerRuntimeEndpoint": f"unix://{_socket(site.state)}",
        "podLogsDir": str(place / "pod-logs"),
        "volumePluginDir": str(plugins),
        "cgroupRoot": f"/{leftovers.CGROUP}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,  # less needs CAP_SYS_RESOURCE, which containers often lack
        # A developer's full disk must not evict pods, or remove imported images, which cannot be pulled again.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        # How old kubelet's figures of volumes may be, by which it holds pods to their limits for ephemeral storage.
        "volumeStatsAggPeriod": "10s",
        "podPidsLimit": PIDS,
        # The defaults are slow on purpose, to spare the API server of a big cluster.
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 1000,
        "eventRecordQPS": 0,
    }
    _write(config, yaml.safe_dump(settings))
    argv = [
        str(tools.path("kubelet")),
        f"--config={config}",
        f"--kubeconfig={site.kubeconfig('kubelet', user=f'system:node:{NAME}', group='system:nodes')}",
        f"--root-dir={place / 'kubelet'}",
        f"--hostname-override={NAME}",
        f"--node-ip={network.HOST}",
        f"--node-labels={LABEL}={NAME}",
    ]
    health = components.answers(site, f"http://127.0.0.1:{site.ports['kubelet-health']}/healthz")
    registered = components.reads(site, f"{site.server}/api/v1/nodes/{NAME}")

    def ready() -> bool:
        node = registered() if health() else None
        conditions = json.loads(node)["status"]["conditions"] if node else []
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    return Program("kubelet", argv, _environment(), ready)


def kube_proxy(site: Site, tools: Tools) -> Program:
    config = folder(site.state) / "kube-proxy.yaml"
    health = f"127.0.0.1:{site.ports['kube-proxy-health']}"
    settings = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": NAME,
        "clientConnection": {"kubeconfig": str(site.kubeconfig("kube-proxy", user="system:kube-proxy"))},
        "clusterCIDR": network.POD_RANGE,
        "healthzBindAddress": health,
        "metricsBindAddress": f"127.0.0.1:{site.ports['kube-proxy-metrics']}",
        "nodePortAddresses": [f"{network.HOST}/32"],
        "oomScoreAdj": 0,
        # Zero: leave the machine's connection tracking as it is.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": {"minSyncPeriod": "50ms", "syncPeriod": "30s"},
    }
    _write(config, yaml.safe_dump(settings))
    healthy = components.answers(site, f"http://{health}/healthz")

    def ready() -> bool:
        return healthy() and "kube-proxy" in network.tables("ip")

    return Program("kube-proxy", [str(tools.path("kube-proxy")), f"--config={config}"], _environment(), ready)


def kube_router(site: Site, tools: Tools) -> Program:
    """Enforces NetworkPolicies. It starts only on a node that kubelet has registered."""
    runtime = f"unix://{_socket(site.state)}"
    return firewall.program(site, tools, folder=folder(site.state) / "firewall", node=NAME, runtime=runtime)


def _volume_plugins(state: Path) -> Path:
    """A folder with the driver of `components.VOLUME_DRIVER`."""
    plugins = folder(state) / "volume-plugins"
    driver = plugins / components.VOLUME_DRIVER.replace("/", "~") / components.VOLUME_DRIVER.rpartition("/")[2]
    driver.parent.mkdir(parents=True, exist_ok=True)
    _write(driver, _VOLUME_DRIVER.replace("@volumes@", shlex.quote(str(state / "volumes"))))
    driver.chmod(0o755)
    return plugins


def load_pause(state: Path) -> None:
    """The image that every sandbox runs, from Debian's catatonit."""
    program = Path(network.found("catatonit"))
    archive = folder(state) / "pause.tar"
    load(state, image.write(archive, name=_PAUSE, files={"pause": program}, command=["/pause", "-P"]))


def load(state: Path, archive: Path) -> None:
    """Import an archive (Docker's format or OCI's) and wait until kubelet's next look finds its images."""
    done = _ctr(state, "images", "import", str(archive))
    if done.returncode:
        raise DevclusterError(f"{archive} cannot be imported: {done.stderr.strip()}")
    deadline = time.monotonic() + 10
    # containerd notifies its CRI plugin a moment later, which then labels the image.
    while any(
        "io.cri-containerd.image=managed" not in line for line in _ctr(state, "images", "list").stdout.splitlines()[1:]
    ):
        if time.monotonic() > deadline:
            raise NotReady(f"the images of {archive} are imported, but containerd does not offer them to kubelet")
        time.sleep(0.02)


def _ctr(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [network.found("ctr"), "--address", str(_socket(state)), "--namespace", "k8s.io", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def _socket(state: Path) -> Path:
    return folder(state) / "containerd.sock"


def _file_system(path: Path) -> str:
    """Type of the file system that holds `path`. An overlay, as in a container, cannot hold a second one."""
    found = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    points = {Path(left.split()[4].replace(r"\040", " ")): right.split()[0] for left, right in found}
    return points[next(parent for parent in (path, *path.parents) if parent in points)]


def _write(path: Path, text: str) -> None:
    """Write only what differs: kube-proxy exits at any write to its file, and containerd reads its networks again."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _environment() -> dict[str, str]:
    return environment() | {"PATH": network.PATH}


_CONTAINERD = """\
version = 2
root = {root}
state = {run}
# Not needed, and would write to folders of the machine.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]

[grpc]
address = {socket}

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = {pause}
restrict_oom_score_adj = true  # without CAP_SYS_RESOURCE no sandbox would start
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = {plugins}
conf_dir = {networks}

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = {snapshotter}

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = {runc}
SystemdCgroup = false
"""

# A volume is a folder named like it. Kubelet gives it to the pod's fsGroup, which it does for no hostPath.
_VOLUME_DRIVER = """\
#!/bin/sh
set -e
volumes=@volumes@
case "$1" in
init)
    echo '{"status": "Success", "capabilities": {"attach": false}}'
    exit
    ;;
mount)
    name=$(printf %s "$3" | sed -n 's|.*"kubernetes.io/pvOrVolumeName":"\\([^"/]*\\)".*|\\1|p')
    test -n "$name"
    mkdir -p "$volumes/$name" "$2"
    mount --bind "$volumes/$name" "$2"
    ;;
unmount)
    umount "$2"
    ;;
*)
    echo '{"status": "Not supported"}'
    exit 1
    ;;
esac
echo '{"status": "Success"}'
"""
