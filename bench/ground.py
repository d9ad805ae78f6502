"""The basis of every measurement: cluster, service, clients for both, copied sessions, and bare Deployments."""

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil
import redis.asyncio

from bench.api import Api, Json
from bench.arrivals import Arrivals
from bench.herd import Herd, Pattern
from bench.metrics import CLIENT_NAME, ServiceMetrics
from devcluster import node
from devcluster.cluster import Cluster
from images import recipes
from images.recipes import Name
from stack.demo import free_port
from stack.stack import USERS, Stack

BARE = "bare"
"""Namespace of Deployments that neither the service nor KEDA knows, to measure Kubernetes alone."""
_DEPLOYMENTS = "/apis/apps/v1/namespaces/{}/deployments"
_PATTERN = "pattern@example.com"
_PATIENCE = 1200.0


@contextmanager
def real_pods(state: Path) -> Iterator[Stack]:
    """A running stack in its own cluster, with real pods of the tiny workspace; all of it is removed afterwards."""
    image = recipes.build(Name.TINY)
    cluster = Cluster(state)
    cluster.down(purge=True)
    try:
        cluster.up(real_node=True)
        stack = Stack(cluster, port=free_port(), gateway_port=free_port(), image=image)
        stack.up()
        yield stack
    finally:
        cluster.down(purge=True)


def lacks_for_real_pods() -> list[str]:
    """What this machine lacks."""
    return [*node.missing(), *recipes.missing(Name.TINY)]


@dataclass
class Ground:
    stack: Stack
    api: Api
    http: aiohttp.ClientSession
    redis: Any
    herd: Herd
    metrics: ServiceMetrics
    arrivals: Arrivals
    pattern: Pattern
    bare: list[str]

    @classmethod
    @asynccontextmanager
    async def prepared(cls, stack: Stack, *, bare: int) -> AsyncIterator[Self]:
        """A running stack with one session (the template to copy) and this number of bare Deployments."""
        cluster = stack.cluster
        async with AsyncExitStack() as opened:
            api = await opened.enter_async_context(Api.connected(cluster.kubeconfig))
            connector = aiohttp.TCPConnector(limit=0)
            http = await opened.enter_async_context(
                aiohttp.ClientSession(stack.url, connector=connector, raise_for_status=True, trust_env=False)
            )
            redis_ = await opened.enter_async_context(
                redis.asyncio.Redis.from_url(
                    cluster.redis_url, decode_responses=True, client_name=CLIENT_NAME, max_connections=1000
                )
            )
            pattern = await Pattern.of(api, await _first(http), _PATTERN)
            yield cls(
                stack=stack,
                api=api,
                http=http,
                redis=redis_,
                herd=await opened.enter_async_context(Herd.gathered(cluster, redis_)),
                metrics=ServiceMetrics(cluster, api, redis_),
                arrivals=await opened.enter_async_context(Arrivals.watched(api)),
                pattern=pattern,
                bare=await _bare(api, pattern.uuid, bare),
            )

    # --- single acts ---

    async def call(self, method: str, path: str, body: Json | None = None) -> Json:
        async with self.http.request(method, path, json=body) as answer:
            found: Json = await answer.json() if answer.status != 204 else {}
            return found

    async def scale(self, name: str, replicas: int) -> None:
        """Scale a bare Deployment."""
        path = f"{_DEPLOYMENTS.format(BARE)}/{name}/scale"
        await self.api.merge(path, {"spec": {"replicas": replicas}})

    async def pod(self) -> Json:
        """The spec of a bare Deployment's pods, which is the chart's."""
        deployment = await self.api.get(f"{_DEPLOYMENTS.format(BARE)}/{self.bare[0]}")
        spec: Json = deployment["spec"]["template"]["spec"]
        return spec

    async def put_to_sleep(self, sessions: Iterable[str], bare: Iterable[str] = ()) -> None:
        """End all their pods, and wait until they are gone."""
        sessions, bare = list(sessions), list(bare)
        await asyncio.gather(*(self.call("POST", f"/session/{uuid}/sleep") for uuid in sessions))
        await asyncio.gather(*(self.scale(name, 0) for name in bare))
        await asyncio.gather(*(self.arrivals.gone(name) for name in (*sessions, *bare)))

    # --- the service's two ways ---

    async def restart(self, **settings: str) -> float:
        """Restart the service with other settings; returns the seconds until it was ready."""
        cluster = self.stack.cluster
        await asyncio.to_thread(cluster.stop, self.stack.name)
        stack = Stack(cluster, port=self.stack.port, settings=self.stack.settings | settings, name=self.stack.name)
        await asyncio.to_thread(stack.start)
        return time.time() - psutil.Process(cluster.pid(stack.name)).create_time()

    async def settled(self, *, parked: bool) -> None:
        """Wait until KEDA watches no session (or every one), and no work is left."""
        wanted = 0 if parked else len(self.herd.uuids) + 1
        await until(lambda: self._hpas_are(wanted))
        await self._quiet()

    async def _hpas_are(self, wanted: int) -> bool:
        connections = await self.metrics.connections()
        return await self.metrics.hpas() == wanted and (connections > wanted or connections < 50)

    async def _quiet(self) -> None:
        """Wait until the API server hardly writes: the controllers have finished with the sleeping sessions."""
        writes, pause = await self.api.writes(), 5.0
        while True:
            await asyncio.sleep(pause)
            before, writes = writes, await self.api.writes()
            if writes - before < 5 * pause:
                return


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while not await done():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(1)


async def _first(http: aiohttp.ClientSession) -> str:
    """Create the template session, as soon as the service's index is complete."""
    while True:
        async with http.post("/session/create", json={"user_id": _PATTERN}, raise_for_status=False) as answer:
            if answer.status < 300:
                return str((await answer.json())["uuid"])
        await asyncio.sleep(0.5)


async def _bare(api: Api, uuid: str, count: int) -> list[str]:
    """Sleeping Deployments with the pods of sessions, and a Service each, so that endpoints are written here too."""
    await api.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": BARE}})
    model = await api.get(f"{_DEPLOYMENTS.format(USERS)}/user-{uuid}")
    names = [f"bare{number:04d}" for number in range(count)]
    for name in names:
        body = copy.deepcopy(model)
        body["metadata"] = {"name": name}
        body["spec"]["selector"]["matchLabels"] = {"uuid": name}
        body["spec"]["template"]["metadata"]["labels"] = {"uuid": name}
        body["spec"]["replicas"] = 0
        del body["status"]
        await api.post(_DEPLOYMENTS.format(BARE), body)
        service = {"selector": {"uuid": name}, "ports": [{"port": 80}]}
        await api.post(
            f"/api/v1/namespaces/{BARE}/services",
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": service},
        )
    return names
