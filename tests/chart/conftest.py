"""helm 3 and helm 4 on the chart, with and without the cluster."""

import secrets
import string
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.cluster import Cluster
from devcluster.toolchain import Tools
from stack.stack import ROOT

CHART = ROOT / "chart" / "user-pod"
ADDRESS = ("--set-string", "redis.address=redis.example:6379")


@dataclass(frozen=True)
class Helm:
    """One of the two helms; `kubeconfig` None: without a cluster."""

    path: Path
    kubeconfig: Path | None = None
    namespace: str = "default"

    def try_(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        argv = [str(self.path), *arguments, "--namespace", self.namespace]
        if self.kubeconfig:
            argv += ["--kubeconfig", str(self.kubeconfig)]
        return subprocess.run(argv, capture_output=True, text=True, check=False, input=stdin)

    def __call__(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.try_(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def render(self, release: str, *arguments: str, stdin: str | None = None) -> list[dict[str, Any]]:
        text = self("template", release, str(CHART), *arguments, stdin=stdin)
        return [item for item in yaml.safe_load_all(text) if item]


@pytest.fixture(params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest, tools: Tools) -> Helm:
    return Helm(tools.path(request.param))


@pytest.fixture(params=["helm", "helm3"])
def live(request: pytest.FixtureRequest, cluster: Cluster) -> Helm:
    """On the cluster, in a namespace that holds KEDA's Secret."""
    namespace = "charts"
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis-password", "namespace": namespace}}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    cluster.apply({**secret, "stringData": {"password": cluster.redis_password}})
    return Helm(cluster.tools.path(request.param), cluster.kubeconfig, namespace)


@pytest.fixture
def uuid() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))
