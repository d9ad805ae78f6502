"""The system under trial: a cluster, and two replicas of the service, each with proxies to its dependencies."""

import asyncio
import contextlib
import json
import os
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import yaml

from bench.api import Api
from devcluster import kubeconfig
from devcluster.cluster import Cluster
from faults import truth
from faults.calls import PATIENCE, Call, Operation
from faults.ledger import Ledger, Seen, Snapshot, Times
from faults.proxy import TcpProxy
from faults.truth import Observer
from stack.demo import free_port
from stack.stack import SERVICE, SYSTEM, Stack

SETTINGS: Mapping[str, str] = {
    "POLLING_INTERVAL": "1",
    "LEASE": "4",
    "COOLDOWN": "3",
    "HELM_TIMEOUT": "15",
    "HEALTH_CACHE": "0",
    "RECOVERY_INTERVAL": "0.5",
    "KUBE_TIMEOUT": "3",
    "REDIS_TIMEOUT": "2",
    "SWEEP_INTERVAL": "5",
    "LEADER_TERM": "2",
    "DRAIN_SECONDS": "2",
}
"""The idle times of production, ten times as fast."""
TIMES = Times(lease=4, cooldown=3, poll=1)

_PATHS: Mapping[Operation, tuple[str, str]] = {
    Operation.CREATE: ("POST", "/session/create"),
    Operation.WAKE: ("POST", "/session/{uuid}/wake"),
    Operation.ACTIVITY: ("POST", "/session/{uuid}/activity"),
    Operation.SLEEP: ("POST", "/session/{uuid}/sleep"),
    Operation.DELETE: ("DELETE", "/session/{uuid}?keep_data=false"),
    Operation.STATUS: ("GET", "/session/{uuid}/status"),
    Operation.LIST: ("GET", "/sessions?user_id={user}"),
    Operation.HEALTH: ("GET", "/health"),
}
_LOOK = 0.2
"""Seconds between two readiness checks, as by a load balancer."""
_ENDING = 30.0
"""Seconds that a replica may take to exit: its drain, and a helm run in progress."""
_PAGE = 500


@dataclass
class Replica:
    """One process of the service."""

    name: str
    stack: Stack
    kube: TcpProxy
    redis: TcpProxy
    ready: bool = False
    """Whether calls are sent to it, by its last answer of /readyz."""
    down_since: float | None = None
    """Time since which the trial has kept it from answering."""
    _down: list[tuple[float, float]] = field(default_factory=list)

    def away(self) -> None:
        self.down_since, self.ready = time.monotonic(), False

    def back(self) -> None:
        if self.down_since is not None:
            self._down.append((self.down_since, time.monotonic()))
        self.down_since = None

    def was_away(self, began: float, ended: float) -> bool:
        """Whether the trial kept it from answering at any time in this interval."""
        now = (self.down_since, float("inf")) if self.down_since is not None else None
        return any(a < ended and b > began for a, b in [*self._down, *([now] if now else [])])


class System:
    """Both replicas and their dependencies. `ledger` is that of the running trial."""

    def __init__(self, cluster: Cluster, replicas: Sequence[Replica], http: aiohttp.ClientSession, api: Api) -> None:
        self.cluster = cluster
        self.replicas = replicas
        self.api = api
        self.ledger = Ledger(TIMES)
        self.redis_port = cluster.redis_port
        """Where the primary is."""
        self.run = secrets.token_hex(3)
        """Part of every user name of this run."""
        self.settled = AsyncExitStack()
        """Clean-up that a fault leaves for after its trial."""
        self._http = http
        self._users = 0

    @classmethod
    @asynccontextmanager
    async def started(cls, cluster: Cluster) -> AsyncIterator["System"]:
        """Run on a running cluster; both replicas are stopped with the context."""
        async with AsyncExitStack() as opened:
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            http = await opened.enter_async_context(aiohttp.ClientSession(connector=connector, trust_env=False))
            api = await opened.enter_async_context(Api.connected(cluster.kubeconfig))
            await asyncio.to_thread(Stack(cluster).prepare)
            replicas = []
            for letter in "ab":
                kube = await opened.enter_async_context(TcpProxy.to(cluster.port("apiserver")))
                redis = await opened.enter_async_context(TcpProxy.to(cluster.redis_port))
                name = f"faults-{letter}"
                stack = await asyncio.to_thread(_stack, cluster, name, kube=kube.port, redis=redis.port)
                opened.push_async_callback(asyncio.to_thread, cluster.stop, name)
                replicas.append(Replica(name, stack, kube, redis))
            system = cls(cluster, replicas, http, api)
            await asyncio.gather(*(system.start(replica) for replica in replicas))
            observer = Observer.following(api, system.saw)
            system.observer = await opened.enter_async_context(observer)
            looking = [asyncio.create_task(system._look(replica)) for replica in replicas]
            opened.push_async_callback(_ended, looking)
            yield system

    observer: Observer

    def saw(self, uuid: str, seen: Seen) -> None:
        self.ledger.saw(uuid, seen)

    def user(self, what: str) -> str:
        """An unused name."""
        self._users += 1
        return f"{what}-{self._users}-{self.run}@example.com"

    # --- replicas ---

    async def start(self, replica: Replica) -> None:
        """Start it and wait until it is ready."""
        await asyncio.to_thread(replica.stack.start)
        replica.back()
        replica.ready = True

    async def kill(self, replica: Replica) -> None:
        replica.away()
        await asyncio.to_thread(self.cluster.stop, replica.name, how=signal.SIGKILL)

    async def terminate(self, replica: Replica) -> None:
        """Send SIGTERM and wait until it has exited: calls in that time must be served."""
        os.kill(self.cluster.pid(replica.name), signal.SIGTERM)
        deadline = time.monotonic() + _ENDING
        while self.cluster.status()[replica.name]:
            if time.monotonic() > deadline:
                self.ledger.wrong.append(f"{replica.name} is still there {_ENDING:.0f} s after SIGTERM")
                break
            await asyncio.sleep(0.1)
        replica.away()
        await asyncio.to_thread(self.cluster.stop, replica.name)

    async def _look(self, replica: Replica) -> None:
        while True:
            replica.ready = replica.down_since is None and await self._is_ready(replica)
            await asyncio.sleep(_LOOK)

    async def _is_ready(self, replica: Replica) -> bool:
        timeout = aiohttp.ClientTimeout(total=2)
        try:
            async with self._http.get(f"{replica.stack.url}/readyz", timeout=timeout) as answer:
                return answer.status == 200 and replica.down_since is None
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def any_replica(self) -> Replica:
        """Where a load balancer would send the next call."""
        ready = [replica for replica in self.replicas if replica.ready]
        living = ready or [replica for replica in self.replicas if replica.down_since is None] or self.replicas
        return random.choice(list(living))  # noqa: S311

    # --- calls ---

    async def call(self, operation: Operation, user: str, *, at: Replica | None = None) -> Call:
        """Make one call and enter it in the ledger."""
        ledger, replica = self.ledger, at or self.any_replica()
        uuid = ledger.account(user).uuid
        ledger.asking(operation, user)
        began = time.monotonic()
        method, path = _PATHS[operation]
        found: dict[str, Any] = {}
        try:
            found = await self._answer(method, replica.stack.url + path.format(uuid=uuid, user=user), operation, user)
        except (aiohttp.ClientError, OSError) as error:
            found = {"error": f"{type(error).__name__} {error}".strip()}
        ended = time.monotonic()
        call = Call(
            operation=operation,
            replica=replica.name,
            user=user,
            uuid=uuid,
            began=began,
            ended=ended,
            excused=replica.was_away(began, ended),
            **found,
        )
        ledger.record(call)
        return call

    async def _answer(self, method: str, url: str, operation: Operation, user: str) -> dict[str, Any]:
        bodies = {Operation.CREATE: {"user_id": user}, Operation.ACTIVITY: {"source": "trial"}}
        timeout = aiohttp.ClientTimeout(total=PATIENCE[operation] + 5)
        async with self._http.request(method, url, json=bodies.get(operation), timeout=timeout) as answer:
            content = await answer.read()
        try:
            body = json.loads(content) if content else None
        except ValueError:
            body = None
        return {"status": answer.status, "media": answer.content_type, "body": body}

    # --- the state ---

    async def seen(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition holds in the cluster. Returns whether it did in time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self.observer.news.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self.observer.news.wait(), 0.1)
                return True
        return condition()

    async def snapshot(self, ledger: Ledger) -> Snapshot:
        uuids = [account.uuid for account in ledger.accounts.values() if account.uuid]
        owners, releases = await asyncio.gather(truth.owners(self.api), truth.releases(self.api))
        listed = await asyncio.gather(*(self._listed(replica) for replica in self.replicas))
        keys = await truth.keys(self.redis_port, self.cluster.redis_password, uuids)
        return Snapshot(
            owners=owners,
            releases=releases,
            keys=keys,
            listed=dict(zip((replica.name for replica in self.replicas), listed, strict=True)),
        )

    async def _listed(self, replica: Replica) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = {}
        url: str | None = f"{replica.stack.url}/sessions?limit={_PAGE}"
        while url:
            async with self._http.get(url, raise_for_status=True) as answer:
                page = await answer.json()
            found |= {s["uuid"]: (s["session"]["user_id"], s["session"]["status"]) for s in page["sessions"]}
            url = page["cursor"] and f"{replica.stack.url}/sessions?limit={_PAGE}&cursor={page['cursor']}"
        return found


def _stack(cluster: Cluster, name: str, *, kube: int, redis: int) -> Stack:
    """A replica that connects through these ports; KEDA connects to Redis directly."""
    config = json.loads(cluster.service_account(SYSTEM, SERVICE).read_text())
    folder = cluster.state / "config"
    own = kubeconfig.write(
        folder / f"{name}.kubeconfig",
        server=f"https://127.0.0.1:{kube}",
        ca=cluster.ca,
        user=config["users"][0]["user"],
    )
    values = folder / f"{name}.yaml"
    address = f"127.0.0.1:{cluster.redis_port}"
    values.write_text(yaml.safe_dump({"redis": {"address": address, "passwordSecret": {"name": "redis-password"}}}))
    settings = {
        **SETTINGS,
        "REDIS_URL": cluster.redis_url.replace(f":{cluster.redis_port}/", f":{redis}/"),
        "KUBECONFIG": str(own),
        "CHART_VALUES": str(values),
    }
    return Stack(cluster, port=free_port(), settings=settings, name=name)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
