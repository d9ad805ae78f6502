"""Creates: one at a time and as many as the machine can handle, compared with plain helm installs of the same chart."""

import asyncio
import itertools
import os
import random
import subprocess
import time
from collections.abc import Awaitable, Callable

import yaml

from bench.figures import Figure
from bench.ground import Ground, until
from stack.stack import ROOT, USERS

_HELM = "/api/v1/namespaces/by-helm"
_SECRET = "redis-password"  # noqa: S105 - a name

_AT_ONCE = max(2, os.cpu_count() or 2)
"""Concurrent creates in the throughput figures: each helm process keeps a core busy."""


async def creates(ground: Ground, rounds: int, sustained: int) -> list[Figure]:
    """`rounds` of single creates in random order, then `sustained` of each kind in two batches."""
    await _namespace(ground)
    acts: dict[str, Callable[[], Awaitable[None]]] = {"create": _creator(ground), "helm": _installer(ground)}
    single: dict[str, list[float]] = {name: [] for name in acts}
    for name in random.sample(["create", "helm"] * rounds, 2 * rounds):
        began = time.perf_counter()
        await acts[name]()
        single[name].append(time.perf_counter() - began)
    rates: dict[str, list[float]] = {name: [] for name in acts}
    for name in random.sample(["create", "helm"] * 2, 4):
        rates[name].append(await _rate(acts[name], sustained // 2))
    await _gone(ground)
    one = Figure("helm install, bare", 0, "s", single["helm"])
    many = Figure(f"helm installs, {_AT_ONCE} at once", 0, "1/s", rates["helm"])
    return [
        one,
        Figure.against(one, "create", single["create"]),
        many,
        Figure.against(many, f"creates, {_AT_ONCE} at once", rates["create"]),
    ]


async def _rate(act: Callable[[], Awaitable[None]], count: int) -> float:
    places, began = asyncio.Semaphore(_AT_ONCE), time.perf_counter()

    async def one() -> None:
        async with places:
            await act()

    await asyncio.gather(*(one() for _ in range(count)))
    return count / (time.perf_counter() - began)


def _creator(ground: Ground) -> Callable[[], Awaitable[None]]:
    numbers = itertools.count()

    async def create() -> None:
        created = await ground.call("POST", "/session/create", {"user_id": f"created-{next(numbers)}@example.com"})
        ground.herd.uuids.append(created["uuid"])

    return create


def _installer(ground: Ground) -> Callable[[], Awaitable[None]]:
    """helm itself, with the service's values, in a namespace of its own."""
    cluster, numbers = ground.stack.cluster, itertools.count()
    values = cluster.state / "config" / "bare.yaml"
    redis = {"address": f"127.0.0.1:{cluster.redis_port}", "passwordSecret": {"name": _SECRET}}
    values.write_text(yaml.safe_dump({"redis": redis}))
    helm, chart = str(cluster.tools.path("helm")), str(ROOT / "chart" / "user-pod")
    fixed = ["-n", "by-helm", "--kubeconfig", str(cluster.kubeconfig), "--values", str(values)]

    async def install() -> None:
        argv = [helm, "install", f"user-{next(numbers):08d}", chart, *fixed]
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.DEVNULL)
        if await process.wait():
            raise RuntimeError("helm failed")

    return install


async def _namespace(ground: Ground) -> None:
    """A namespace for the plain releases, with KEDA's Secret, so that KEDA has the same work with them."""
    await ground.api.post("/api/v1/namespaces", {"metadata": {"name": "by-helm"}})
    secret = await ground.api.get(f"/api/v1/namespaces/{USERS}/secrets/{_SECRET}")
    await ground.api.post(f"{_HELM}/secrets", {"metadata": {"name": _SECRET}, "data": secret["data"]})


async def _gone(ground: Ground) -> None:
    """Remove them, so that nothing polls while the cost of sleepers is measured."""
    await ground.api.delete(_HELM)

    async def gone() -> bool:
        return not await ground.api.count("/api/v1/namespaces", fieldSelector="metadata.name=by-helm")

    await until(gone)
