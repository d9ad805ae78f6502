"""Starts the service beside an embedded cluster, with exactly the rights that its chart gives it."""

import base64
import hashlib
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from devcluster.processes import environment
from images.recipes import Image
from stack import workspace

ROOT = Path(__file__).resolve().parent.parent
USERS = "users"
GATEWAY_DOMAIN = "localhost"
SERVICE = "session-service"
SYSTEM = "user-pods"
SIGNING_KEYS = f"{SERVICE}-signing-keys"
"""The Secret of the service's chart for its signing keys."""
_SECRET = "redis-password"  # noqa: S105 - the name of a Secret
_PREFIX = "USER_PODS_"
_VALUES = "CHART_VALUES_SHA256"


class Stack:
    """The service as the process `name` of a cluster; `settings` are variables without their prefix."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        port: int = 8080,
        settings: Mapping[str, str] | None = None,
        helm: str = "helm",
        name: str = "service",
        gateway_port: int = 0,
        image: Image | None = None,
        volume: bool = False,
        users: str = USERS,
    ) -> None:
        """`gateway_port`: where workspaces can be opened, at hosts below `localhost`. 0: no gateway.

        `users`: the users' namespace.
        `image`: what pods run, on the real node. None: pods are simulated. `volume`: homes outlive pods.
        """
        self.cluster = cluster
        self.port = port
        self.settings = {**(_gateway(gateway_port) if gateway_port else {}), **(settings or {})}
        self.url = f"http://{self.settings.get('HOST', '127.0.0.1')}:{port}"
        self.image = image
        self.volume = volume
        self.users = users
        self._helm = helm
        self.name = name

    def up(self, *, real_node: bool | None = False) -> bool:
        """Start cluster and service, and return whether anything had to be started. `real_node` as in Cluster.up.

        A service that runs with other settings or chart values is restarted.
        """
        started = self.cluster.up(real_node=real_node)
        self.prepare()
        if self.is_outdated():
            self.cluster.stop(self.name)
        return self.start() or started

    def is_outdated(self) -> bool:
        """Whether the service runs with other settings or chart values."""
        if not self.cluster.status().get(self.name):
            return False
        return _settings(psutil.Process(self.cluster.pid(self.name)).environ()) != _settings(self.environment())

    def prepare(self) -> None:
        """Set up as an administrator would: namespaces, KEDA's Secret, and the service's rights from its chart."""
        namespaces = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (self.users, SYSTEM)
        ]
        password = base64.b64encode(self.cluster.redis_password.encode()).decode()
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": _SECRET, "namespace": self.users},
            "data": {"password": password},
        }
        self.cluster.apply(*namespaces)
        self.cluster.apply(secret, *self.rights())
        values: dict[str, object] = {
            "redis": {"passwordSecret": {"name": _SECRET}},
            "persistence": {"enabled": self.volume},
        }
        if self.image is not None:
            self.cluster.load_image(self.image.archive)
            values |= workspace.values(self.image)
        self.values.write_text(workspace.text(values))

    def start(self) -> bool:
        """Start the service and wait until it is ready. Returns False if it was running."""
        argv = [sys.executable, "-m", "service", "serve"]
        return self.cluster.run(self.name, argv, env=self.environment(), ready=self._ready, seconds=30, port=self.port)

    def environment(self) -> dict[str, str]:
        """The service's environment: its settings, and a PATH with helm."""
        settings = {
            "PORT": str(self.port),
            "NAMESPACE": self.users,
            "CLUSTER_FACTS": "true",
            "KUBECONFIG": str(self.cluster.service_account(SYSTEM, SERVICE)),
            "REDIS_URL": self.cluster.redis_url,
            "CHART_VALUES": str(self.values),
            "HELM": str(self.cluster.tools.path(self._helm)),
            **self.settings,
        }
        helm_home = str(self.cluster.state / "helm")
        return environment(
            **{f"{_PREFIX}{name}": value for name, value in settings.items()},
            # The service reads the file once, at its start. The digest lets `is_outdated` see a change of its content.
            **{_VALUES: hashlib.sha256(self.values.read_bytes()).hexdigest()},
            PYTHONPATH=str(ROOT),
            HELM_CACHE_HOME=helm_home,
            HELM_CONFIG_HOME=helm_home,
            HELM_DATA_HOME=helm_home,
        )

    @property
    def account(self) -> str:
        """The service's user name in the cluster, as in audit logs."""
        return f"system:serviceaccount:{SYSTEM}:{SERVICE}"

    @property
    def values(self) -> Path:
        """The operator's values for every user's release."""
        kind = (f"-{self.image.name}" if self.image else "") + (f"-{self.users}" if self.users != USERS else "")
        return self.cluster.state / "config" / f"user-pod{kind}.yaml"

    def rights(self) -> list[dict[str, Any]]:
        """The RBAC objects of the service's chart and the Secret that they name: the same rights as on a cluster."""
        helm = str(self.cluster.tools.path("helm"))
        argv = [helm, "template", SERVICE, str(ROOT / "chart" / SERVICE), "--namespace", SYSTEM]
        argv += ["--set", f"usersNamespace={self.users},gateway.domain={GATEWAY_DOMAIN},rbac.clusterFacts=true"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DevclusterError(f"the service's chart cannot be rendered: {done.stderr}")
        wanted = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Secret")
        objects = [item for item in yaml.safe_load_all(done.stdout) if item and item["kind"] in wanted]
        for item in objects:
            if not item["kind"].startswith("Cluster"):
                item["metadata"].setdefault("namespace", SYSTEM)
        return objects

    def _ready(self) -> bool:
        try:
            with _opener.open(f"{self.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False


def _settings(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith(_PREFIX) or name == _VALUES}


def _gateway(port: int) -> dict[str, str]:
    """Browsers resolve every host below `localhost` to their own machine, and trust it without TLS."""
    return {
        "GATEWAY_DOMAIN": GATEWAY_DOMAIN,
        "GATEWAY_SCHEME": "http",
        "GATEWAY_PORT": str(port),
        "GATEWAY_KEYS_SECRET": SIGNING_KEYS,
        "GATEWAY_KEYS_NAMESPACE": SYSTEM,
    }


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
