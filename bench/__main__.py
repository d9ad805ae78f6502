"""`make bench`: creates, wakes and status on the embedded cluster, with bare helm and plain KEDA beside them.

All in one run on one machine: trust the ratios, not the milliseconds.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import aiohttp
import redis.asyncio
import typer

from bench.figures import Figure, report
from devcluster.cluster import Cluster
from stack.demo import free_port
from stack.stack import ROOT, USERS, Stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_SETTINGS = {"LOG_LEVEL": "warning", "HELM_QUEUE": "2000", "COOLDOWN": "20"}
_AT_ONCE = 8
"""Creates under way at once in the throughput figures: enough to keep every core busy."""


@app.command()
def main(
    sizes: Annotated[str, typer.Option(help="Numbers of sessions at which status is measured.")] = "1,100,1000",
    rounds: Annotated[int, typer.Option(help="Wakes per figure.")] = 12,
    state: Annotated[Path, typer.Option(help="Folder of the benchmark's own cluster.")] = Path(".cluster-bench"),
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("bench/results/bench.json"),
) -> None:
    cluster = Cluster(state)
    stack = Stack(cluster, port=free_port(), settings=_SETTINGS)
    stack.up()
    try:
        counts = [int(size) for size in sizes.split(",")]
        figures = asyncio.run(Bench(stack, counts, rounds).run())
        facts = {"cores": os.cpu_count(), "poll": "5 s", "pods": "simulated"}
        report(figures, facts=facts, path=output)
    finally:
        cluster.down(purge=True)


class Bench:
    """One run: `counts` are the growing numbers of sessions, `rounds` the wakes per figure."""

    def __init__(self, stack: Stack, counts: list[int], rounds: int) -> None:
        self._stack = stack
        self._counts = sorted(counts)
        self._rounds = rounds
        self._uuids: list[str] = []

    async def run(self) -> list[Figure]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as self._http:
            return await self._all()

    async def _all(self) -> list[Figure]:
        bare = [await self._timed(partial(self._bare_install, f"{n:08d}")) for n in range(10)]
        helm = Figure("helm install, bare", bare)
        figures = [helm]
        creates = [await self._timed(self._create)]
        if self._counts[0] == 1:
            figures.append(await self._status(1))
        creates += [await self._timed(self._create) for _ in range(9)]
        median = helm.quantile(0.5)
        create = Figure("create", creates, "ratio: to bare helm")
        figures.append(Figure(create.name, creates, create.note, create.quantile(0.5) / median))
        for count in (count for count in self._counts if count > 1):
            if count > len(self._uuids):
                missing = count - len(self._uuids)
                print(f"creating {missing} sessions, about {missing / 6:.0f} s")
                started = time.perf_counter()
                await self._grow(missing)
                each = (time.perf_counter() - started) / missing
                if missing >= 50:
                    note = f"{1 / each:.1f} per second; ratio: to bare helm, one at a time"
                    figures.append(Figure(f"create, {_AT_ONCE} at once, each", [each], note, each / median))
            figures.append(await self._status(count))
        figures += await self._wakes()
        return figures

    async def _status(self, count: int) -> Figure:
        uuids = self._uuids[:count]
        times = [
            await self._timed(partial(self._call, "GET", f"/session/{uuids[n % count]}/status")) for n in range(300)
        ]
        return Figure(f"status at {count} sessions", times)

    async def _wakes(self) -> list[Figure]:
        """Rounds of three kinds in turn, so that a noisy moment hits all of them."""
        sleepers = iter(self._uuids[::-1])
        slow = next(sleepers)
        self._stack.cluster.kubectl(
            "-n",
            USERS,
            "patch",
            "scaledobject",
            f"user-{slow}-scaler",
            "--type=merge",
            "-p",
            '{"spec":{"pollingInterval":30}}',
        )
        wakes, accepted, pushes, pushes30, scales = [], [], [], [], []
        print(f"waking, {self._rounds} rounds of each kind, about {self._rounds * 20} s")
        for number in range(self._rounds):
            uuid = next(sleepers)
            started = time.perf_counter()
            await self._call("POST", f"/session/{uuid}/wake")
            accepted.append(time.perf_counter() - started)
            await self._ready(uuid)
            wakes.append(time.perf_counter() - started)
            uuid = next(sleepers)
            pushes.append(await self._timed(partial(self._push, uuid)))
            uuid = next(sleepers)
            scales.append(await self._timed(partial(self._scale, uuid)))
            if number < 3:
                pushes30.append(await self._timed(partial(self._push, slow, lease=70)))
                await self._call("POST", f"/session/{slow}/sleep")
        five, floor = Figure("", pushes).quantile(0.5), Figure("", scales).quantile(0.5)
        wake = Figure("wake call to pod ready", wakes)
        return [
            Figure("wake call accepted", accepted),
            Figure(wake.name, wakes, "ratio: to plain KEDA, poll 5 s", wake.quantile(0.5) / five),
            Figure("plain KEDA, poll 5 s: bare push to ready", pushes),
            Figure(
                "plain KEDA, poll 30 s: bare push to ready",
                pushes30,
                "ratio: to poll 5 s",
                Figure("", pushes30).quantile(0.5) / five,
            ),
            Figure("bare scale 0 to 1 to ready: the floor", scales, "ratio: to plain KEDA, poll 5 s", floor / five),
        ]

    # --- single acts ---

    async def _timed(self, act: Callable[[], Awaitable[object]]) -> float:
        started = time.perf_counter()
        await act()
        return time.perf_counter() - started

    async def _grow(self, count: int) -> None:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one() -> None:
            async with places:
                await self._create()

        await asyncio.gather(*(one() for _ in range(count)))

    async def _create(self) -> None:
        name = f"user{len(self._uuids)}-{time.perf_counter_ns()}"
        body = await self._call("POST", "/session/create", {"user_id": name})
        self._uuids.append(body["uuid"])

    async def _call(self, method: str, path: str, body: dict[str, str] | None = None) -> dict[str, str]:
        async with self._http.request(method, self._stack.url + path, json=body) as answer:
            answer.raise_for_status()
            found: dict[str, str] = await answer.json()
            return found

    async def _bare_install(self, uuid: str) -> None:
        cluster = self._stack.cluster
        redis_ = f"redis.address=127.0.0.1:{cluster.redis_port},redis.passwordSecret.name=redis-password"
        argv = [
            str(cluster.tools.path("helm")),
            "install",
            f"user-{uuid}",
            str(ROOT / "chart" / "user-pod"),
            "-n",
            "default",
        ]
        argv += ["--kubeconfig", str(cluster.kubeconfig), "--set-string", redis_]
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.DEVNULL)
        if await process.wait():
            raise RuntimeError("helm failed")

    async def _push(self, uuid: str, lease: int = 15) -> None:
        async with redis.asyncio.Redis.from_url(self._stack.cluster.redis_url) as client:
            await client.rpush(f"queue:{uuid}", "wake")
            await client.expire(f"queue:{uuid}", lease)
        await self._ready(uuid, 90)

    async def _scale(self, uuid: str) -> None:
        argv = [str(self._stack.cluster.tools.path("kubectl")), "--kubeconfig", str(self._stack.cluster.kubeconfig)]
        argv += ["-n", USERS, "scale", "deployment", f"user-{uuid}", "--replicas=1"]
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.DEVNULL)
        await process.wait()
        await self._ready(uuid)

    async def _ready(self, uuid: str, seconds: float = 30) -> None:
        deadline = time.perf_counter() + seconds
        while (await self._call("GET", f"/session/{uuid}/status"))["phase"] != "ready":
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{uuid} did not get ready within {seconds:.0f} s")
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    app()
