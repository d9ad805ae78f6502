"""One cluster: its state folder, the order in which it starts, and everything a program needs to talk to it."""

import contextlib
import json
import os
import secrets
import shlex
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from devcluster import components, kubeconfig, node, ports, toolchain
from devcluster.certificates import Authority
from devcluster.claim import Claim
from devcluster.components import KEDA_NAMESPACE, Site
from devcluster.errors import DevclusterError
from devcluster.invocation import command
from devcluster.processes import Processes, Program
from devcluster.toolchain import Report, Tools

_SIMULATED = [f"simulated-{number}" for number in range(4)]
_CAPACITY = {"cpu": "1000", "memory": "1Ti", "ephemeral-storage": "100Ti", "pods": "5000"}
_CONTROL = ("kube-controller-manager", "kube-scheduler", "kwok", "keda")
"""Components that follow the API server, and retry with growing pauses while it is down."""


class Cluster:
    """A cluster under `state`. Every method may be called in any process: what runs is read from the folder.

    `redis` chooses the server: ``system``, ``wheel`` (6.2), or None for whichever there is.
    """

    def __init__(
        self,
        state: Path = Path(".cluster"),
        *,
        tools: Tools | None = None,
        redis: str | None = None,
        report: Report = toolchain.say,
    ) -> None:
        self.state = state.resolve()
        self._report = report
        self._tools = tools
        self._redis = redis
        self._processes = Processes(self.state)
        self._site_: Site | None = None
        self._node_tools_: Tools | None = None
        self._claim = Claim(self.state)

    # --- life ---

    def up(self, *, real_node: bool | None = False, keda: bool = True) -> bool:
        """Start what does not run and wait until all is ready. Returns whether anything had to be started.

        `real_node` adds a node on which pods are processes (node.py). None: add it where this machine allows it, or
        report what is missing. A node that runs is left alone either way.

        `keda`: run KEDA, as a process of this machine. False is for clusters where it is installed into pods; its kinds
        are there either way.

        Raises ProcessDied or NotReady with the last lines of the component's log, NodeImpossible or Held for a node
        that was demanded.
        """
        site = self._site
        first = [components.etcd(site), components.redis(site)]
        second = [components.apiserver(site)]
        third = [components.controller_manager(site), components.scheduler(site), components.kwok(site)]
        started = [self._start(first), self._start_apiserver(second)]
        self._bootstrap()
        self._free_leases()
        started += [self._start([*third, components.keda(site)] if keda else third)]
        started += [self._node(real_node)]
        self.write_env({})
        return any(started)

    def down(self, *, purge: bool = False, keep: Collection[str] = ()) -> list[str]:
        """Stop everything that was started here, newest first, and return the names of what was running.

        The data stays for the next `up`, unless `purge`. Processes named in `keep` are not stopped.
        """
        names = [name for name in reversed(self._processes.recorded()) if name not in keep]
        # Clients before servers, so that they do not log the loss of their server.
        last = [name for name in ("redis", "kube-apiserver", "etcd") if name in names]
        stopped = [name for name in [*(n for n in names if n not in last), *last] if self._processes.stop(name)]
        if not set(node.PROGRAMS).intersection(keep) and (
            node.folder(self.state).exists() or self._claim.owner() == self.state
        ):
            self._claim.release(clean=node.clean)
        if purge and self.state.exists():
            for path in sorted(self.state.rglob("*"), key=lambda p: -len(p.parts)):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            self.state.rmdir()
        return stopped

    def status(self) -> dict[str, bool]:
        """Name -> whether it runs, of everything that was started and not stopped."""
        return {name: self._processes.alive(name) for name in self._processes.recorded()}

    def tail(self, name: str) -> str:
        """The last lines of a component's log."""
        return self._processes.tail(name)

    def log(self, name: str) -> Path:
        return self._processes.log(name)

    @property
    def has_real_node(self) -> bool:
        """Whether pods can be processes of this machine."""
        return self._processes.alive("kubelet")

    def load_image(self, archive: Path) -> None:
        """Import the images of an archive (Docker or OCI format) into the real node, which asks no registry.

        Pods find them with `imagePullPolicy` Never or IfNotPresent.
        """
        if not self._processes.alive("containerd"):
            up = command("devcluster", "up", "--node", "--state", str(self.state))
            raise DevclusterError(f"no real node runs here; `{up}` starts it, or says what it lacks")
        node.load(self.state, archive)

    # --- single components, for tests of faults ---

    def stop(self, name: str, *, how: signal.Signals = signal.SIGTERM) -> None:
        self._processes.stop(name, how=how)

    def start(self, name: str) -> None:
        """Start a stopped component again, with the same port and data, and wait until the cluster answers with it."""
        if name in ("keda", "kwok"):
            self._free_leases()
        if name == "kube-apiserver":
            self._start_apiserver([self._component(name)])
        else:
            self._start([self._component(name)])
        if name == "etcd" and self._processes.alive("kube-apiserver"):
            # The API server reconnects to its store only after a back-off.
            self._processes.wait(self._component("kube-apiserver"))

    def pause(self, name: str) -> None:
        """Freeze exactly this process (SIGSTOP): it keeps its connections but does not answer."""
        self._running(name).suspend()

    def resume(self, name: str) -> None:
        self._running(name).resume()

    def run(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        ready: Callable[[], bool],
        seconds: float = 60,
        port: int | None = None,
    ) -> bool:
        """Run another program beside the components, which `down` stops too. Returns whether it had to be started.

        With a `port`, it is ready only when it listens there itself: an answer by another program does not count.
        """
        return self._start([Program(name, argv, env, ready, seconds, port)])

    def pid(self, name: str) -> int:
        return int(self._running(name).pid)

    # --- how to talk to it ---

    @property
    def tools(self) -> Tools:
        if self._tools is None:
            self._tools = toolchain.ensure(report=self._report)
        return self._tools

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self._site.config / "admin.kubeconfig"

    @property
    def ca(self) -> Path:
        """The certificate of the authority that signs for all servers of the cluster."""
        return self._site.authority.certificate

    def client(self, name: str, *, user: str, group: str = "") -> tuple[Path, Path]:
        """Certificate and key of a client, for etcd (any name) or the API server (as that user)."""
        return self._site.authority.issue(name, user=user, group=group)

    @property
    def server(self) -> str:
        return self._site.server

    def port(self, name: str) -> int:
        """One of `components.PORTS`, for example a component's metrics."""
        return self._site.ports[name]

    @property
    def redis_port(self) -> int:
        return self.port("redis")

    @property
    def redis_password(self) -> str:
        return self._site.password

    @property
    def redis_url(self) -> str:
        return f"redis://default:{quote(self.redis_password)}@127.0.0.1:{self.redis_port}/0"

    @property
    def path(self) -> str:
        return toolchain.search_path(self.tools)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator and return its output. Raises DevclusterError with its error message."""
        argv = [str(self.tools.path("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise DevclusterError(f"kubectl {shlex.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *objects: dict[str, Any]) -> None:
        """Apply objects server-side."""
        documents = yaml.safe_dump_all(objects)
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=documents)

    def service_account(self, namespace: str, name: str) -> Path:
        """A kubeconfig with the rights of that ServiceAccount (a token for a day)."""
        token = self.kubectl("create", "token", name, f"--namespace={namespace}", "--duration=24h").strip()
        path = self._site.config / f"{namespace}-{name}.kubeconfig"
        return kubeconfig.write(path, server=self.server, ca=self._site.authority.certificate, user={"token": token})

    def forbidden(self, user: str) -> list[str]:
        """Calls that the user was refused for lack of a right, from the audit log, as `verb URI` lines.

        Calls that the user has the right to make are left out: an API server that has just started refuses everybody
        until it has read the roles.
        """
        refused: dict[tuple[str, ...], str] = {}
        for event in self._audited(user):
            if event.get("responseStatus", {}).get("code") == 403:
                place = event.get("objectRef") or {}
                names = ("resource", "apiGroup", "subresource", "namespace", "name")
                key = (event["verb"], *(place.get(name, "") for name in names))
                refused[key] = f"{event['verb']} {event['requestURI']}"
        return [text for key, text in refused.items() if not self._may(user, key)]

    def used(self, user: str) -> set[tuple[str, str, str, str, str]]:
        """Rights that the user has made use of, from the audit log.

        Each is a namespace, API group, resource with its subresource, verb and name. What an apply has created counts
        as `create` too, since the API server asks for both rights.
        """
        found = set()
        for event in self._audited(user):
            place, code = event.get("objectRef"), event.get("responseStatus", {}).get("code")
            if place and code != 403:
                resource = "/".join(filter(None, (place["resource"], place.get("subresource"))))
                kind = (place.get("namespace", ""), place.get("apiGroup", ""), resource)
                verbs = {event["verb"], "create" if code == 201 else event["verb"]}
                found |= {(*kind, verb, place.get("name", "")) for verb in verbs}
        return found

    def _audited(self, user: str) -> Iterator[dict[str, Any]]:
        log = self.state / "log" / "audit.log"
        for line in log.read_text().splitlines() if log.exists() else []:
            event = json.loads(line)
            if event["user"]["username"] == user:
                yield event

    def _may(self, user: str, request: tuple[str, ...]) -> bool:
        verb, resource, group, part, namespace, name = request
        kind = ".".join(filter(None, (resource, group)))
        arguments = [f"--namespace={namespace}"] + ([f"--subresource={part}"] if part else [])
        try:
            self.kubectl("auth", "can-i", verb, "/".join(filter(None, (kind, name))), *arguments, f"--as={user}")
        except DevclusterError:
            return False
        return True

    def env(self) -> dict[str, str]:
        """The variables that `write_env` has written so far."""
        kept = self.state / "env.json"
        names: dict[str, str] = json.loads(kept.read_text()) if kept.exists() else {}
        return names

    def write_env(self, extra: Mapping[str, str]) -> Path:
        """Write `<state>/env` for `source`: KUBECONFIG, REDIS_URL, PATH, and every `extra` given so far."""
        kept, names = self.state / "env.json", self.env()
        names |= {"KUBECONFIG": str(self.kubeconfig), "REDIS_URL": self.redis_url, **extra}
        kept.touch(mode=0o600)
        kept.write_text(json.dumps(names))
        path = self.state / "env"
        path.touch(mode=0o600)
        bins = os.pathsep.join(map(str, self.tools.bins))
        lines = [f"export {name}={shlex.quote(value)}" for name, value in names.items()]
        path.write_text("\n".join([*lines, f'export PATH={shlex.quote(bins)}:"$PATH"', ""]))
        return path

    # --- inside ---

    @property
    def _site(self) -> Site:
        if self._site_ is None:
            for folder in (self.state, self.state / "config", self.state / "log"):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            password = self.state / "redis.password"
            if not password.exists():
                password.touch(mode=0o600)
                password.write_text(secrets.token_urlsafe(24))
            self._site_ = Site(
                state=self.state,
                ports=ports.allocate(self.state, components.PORTS, toolchain.cache_folder() / "ports"),
                tools=self.tools,
                authority=Authority(self.state / "certificates"),
                password=password.read_text(),
                redis_server=components.redis_server(self._redis),
            )
            self._site_.kubeconfig("admin", user="admin", group="system:masters")
        return self._site_

    def _component(self, name: str) -> Program:
        known = {
            "etcd": components.etcd,
            "redis": components.redis,
            "kube-apiserver": components.apiserver,
            "kube-controller-manager": components.controller_manager,
            "kube-scheduler": components.scheduler,
            "kwok": components.kwok,
            "keda": components.keda,
        }
        on_node = {
            "containerd": lambda: node.containerd(self._site),
            "apiserver-proxy": lambda: node.apiserver_proxy(self._site),
            "kubelet": lambda: node.kubelet(self._site, self._node_tools),
            "kube-proxy": lambda: node.kube_proxy(self._site, self._node_tools),
            "kube-router": lambda: node.kube_router(self._site, self._node_tools),
        }
        if name in on_node:
            return on_node[name]()
        if name not in known:
            raise DevclusterError(f"no component {name}; there are {', '.join([*known, *on_node])}")
        return known[name](self._site)

    def _running(self, name: str) -> Any:
        process = self._processes.process(name)
        if process is None:
            raise DevclusterError(f"{name} does not run")
        return process

    def _start(self, programs: Sequence[Program]) -> bool:
        started = [self._processes.start(program) for program in programs]
        pool = ThreadPoolExecutor(max_workers=len(programs))
        try:
            list(pool.map(self._processes.wait, programs))
        finally:
            pool.shutdown(wait=False)  # an interrupted start does not wait until everything is ready
        return any(started)

    def _start_apiserver(self, programs: Sequence[Program]) -> bool:
        """Start the API server, and restart the components that waited for it.

        The longer it was away, the longer each informer of these waits before it tries again. The first try is told
        that its place in the history is gone, and the wait after it is twice as long. So after ten seconds of absence
        no pod is made, gets ready or is put to sleep for up to 40 s, after half a minute for up to two. On other
        clusters those with a lease lose it after ten seconds of absence, end, and are started again at once; here they
        have none to lose, or a long one.
        """
        started = self._start(programs)
        if started:
            waiting = [name for name in _CONTROL if self._processes.alive(name)]
            for name in waiting:
                self._processes.stop(name)
            if waiting:
                self._free_leases()
                self._start([self._component(name) for name in waiting])
        return started

    @property
    def _node_tools(self) -> Tools:
        if self._node_tools_ is None:
            self._node_tools_ = toolchain.ensure(toolchain.NODE, report=self._report)
        return self._node_tools_

    def _node(self, wanted: bool | None) -> bool:
        """Start the real node, if wanted. Returns whether any part of it had to be started."""
        if wanted is False:
            if node.folder(self.state).exists() and not self._processes.alive("kubelet"):
                self.kubectl("delete", "node", node.NAME, "--ignore-not-found")
            return False
        try:
            self._claim_node()
            return self._start_node()
        except DevclusterError as error:
            if wanted:
                raise
            self._report(f"no real node, all pods are simulated: {error}")
            self._leave_node()
            return False

    def _claim_node(self) -> None:
        if lacks := node.missing():
            raise node.NodeImpossible(f"a real node needs {', '.join(lacks)}")
        self._claim.take(alive=node.alive, clean=node.clean)
        try:
            node.prepare(self.state)
        except DevclusterError:
            self._leave_node()
            raise

    def _leave_node(self) -> None:
        for name in reversed(node.PROGRAMS):
            self._processes.stop(name)
        if self._claim.owner() == self.state:
            # What prevented the node may prevent this too; then there is nothing to remove.
            with contextlib.suppress(DevclusterError):
                self._claim.release(clean=node.clean)

    def _start_node(self) -> bool:
        if not self._processes.alive("kubelet"):
            self._forget_readiness()
        has_pods = self._processes.alive("containerd") and self.has_real_node
        started = self._start([self._component("containerd"), self._component("apiserver-proxy")])
        if started:
            node.load_pause(self.state)
        with ThreadPoolExecutor(max_workers=1) as pool:
            # While kubelet registers the node.
            prepared = [] if has_pods else [pool.submit(self._prepare_pods)]
            started |= self._start([self._component("kubelet"), self._component("kube-proxy")])
            # It ends where no node is registered.
            started |= self._start([self._component("kube-router")])
        for each in prepared:
            each.result()
        return started

    def _prepare_pods(self) -> None:
        """Add what pods find in the cluster: the API server and DNS."""
        self.apply(*node.objects(self._site, self._node_tools))

    def _forget_readiness(self) -> None:
        """Let a node that was ready before the cluster's last end not count as ready until its kubelet says so."""
        if self.kubectl("get", "node", node.NAME, "--ignore-not-found", "-o", "name"):
            condition = {"type": "Ready", "status": "Unknown", "reason": "Stopped", "message": "kubelet does not run"}
            patch = json.dumps({"status": {"conditions": [condition]}})
            self.kubectl("patch", "node", node.NAME, "--subresource=status", "-p", patch)

    def _free_leases(self) -> None:
        """Remove the leases of dead components, because their successors would wait until they expire."""
        if not self._processes.alive("keda"):
            self.kubectl("-n", KEDA_NAMESPACE, "delete", "lease", components.KEDA_LEASE, "--ignore-not-found")
        if not self._processes.alive("kwok"):
            self.kubectl("-n", "kube-node-lease", "delete", "lease", *_SIMULATED, "--ignore-not-found")

    def _bootstrap(self) -> None:
        """Create what the components need: KEDA's kinds and namespace, nodes, and a storage class."""
        crds = self.tools.files("keda", "crds")
        storage = self.tools.files("kwok", "stages") / "volume" / "fast" / "storage-class.yaml"
        nodes = [
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "annotations": {"kwok.x-k8s.io/node": "fake"},
                    "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": name},
                },
                "status": {"capacity": _CAPACITY, "allocatable": _CAPACITY},
            }
            for name in _SIMULATED
        ]
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": KEDA_NAMESPACE}}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crds), "-f", str(storage))
        self.apply(namespace, *node.RIGHTS)
        if not self.kubectl("get", "nodes", "-o", "name"):
            # Not an apply: that would leave out the status, and kwok's own knows no ephemeral-storage.
            self.kubectl("create", "-f", "-", stdin=yaml.safe_dump_all(nodes))
