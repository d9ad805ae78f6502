"""The overhead of the gateway, compared with the simplest proxy and with no proxy at all.

Needs no cluster: workspace, gateway and pass-through are processes of their own. Throughput is counted per second of
CPU that the process used, so that other load on the machine does not count.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil

from bench.figures import Figure
from devcluster.processes import environment
from images.recipes import compile_tiny
from stack.demo import free_port
from stack.stack import ROOT

_CALLERS = 16
_RATE = 500
_SECONDS = 3.0
"""Of one round."""
_DOWNLOAD = 512 * 1024 * 1024
_SOCKETS = 1000
_PATIENCE = 10.0


@dataclass
class Way:
    """One route to the workspace; `process` is the proxy in between."""

    name: str
    url: str
    headers: dict[str, str]
    process: psutil.Process | None = None

    def busy(self) -> float:
        """CPU seconds used so far."""
        times = self.process.cpu_times() if self.process else None
        return float(times.user + times.system) if times else 0.0


async def passing(rounds: int) -> list[Figure]:
    """Measure every route, in rounds of random order."""
    async with _ways() as (direct, bare, gateway), client() as http:
        throughput: dict[str, list[float]] = {way.name: [] for way in (bare, gateway)}
        latency: dict[str, list[float]] = {way.name: [] for way in (direct, bare, gateway)}
        download: dict[str, list[float]] = {way.name: [] for way in (direct, bare, gateway)}
        for _ in range(rounds):
            for way in random.sample([bare, gateway], 2):
                throughput[way.name].append(await _saturated(http, way))
            for way in random.sample([direct, bare, gateway], 3):
                latency[way.name] += await _steady(http, way)
                download[way.name].append(await _download(http, way))
        sockets = await _sockets(http, gateway)
    floor = Figure("bare pass-through, requests per second of one core", 1, "1/s", throughput["bare"])
    straight = Figure(f"direct, a request at {_RATE}/s", 1, "s", latency["direct"])
    large = Figure(f"direct, download of {_DOWNLOAD >> 20} MB", 1, "MB/s", download["direct"])
    return [
        floor,
        Figure.against(floor, "gateway, requests per second of one core", throughput["gateway"]),
        straight,
        Figure.against(straight, f"bare pass-through, a request at {_RATE}/s", latency["bare"]),
        Figure.against(straight, f"gateway, a request at {_RATE}/s", latency["gateway"]),
        large,
        Figure.against(large, f"bare pass-through, download of {_DOWNLOAD >> 20} MB", download["bare"]),
        Figure.against(large, f"gateway, download of {_DOWNLOAD >> 20} MB", download["gateway"]),
        Figure(f"gateway, memory of each of {_SOCKETS} idle WebSockets", 1, "KB", [sockets]),
    ]


async def _saturated(http: aiohttp.ClientSession, way: Way) -> float:
    """Answers per second of the process's CPU, with callers that send without pauses."""
    until, busy = time.perf_counter() + _SECONDS, way.busy()

    async def caller() -> int:
        count = 0
        while time.perf_counter() < until:
            await _get(http, way)
            count += 1
        return count

    counts = await asyncio.gather(*(caller() for _ in range(_CALLERS)))
    return sum(counts) / (way.busy() - busy)


async def _steady(http: aiohttp.ClientSession, way: Way) -> list[float]:
    """Seconds from when a request was due until its answer, so that a stall counts for every request that it delays."""
    began = time.perf_counter() + 0.05

    async def one(due: float) -> float:
        await asyncio.sleep(due - time.perf_counter())
        await _get(http, way)
        return time.perf_counter() - due

    return await asyncio.gather(*(one(began + number / _RATE) for number in range(int(_RATE * _SECONDS))))


async def _get(http: aiohttp.ClientSession, way: Way) -> None:
    async with http.get(f"{way.url}/status/200", headers=way.headers) as answer:
        await answer.read()


async def _download(http: aiohttp.ClientSession, way: Way) -> float:
    """MB a second."""
    began, size = time.perf_counter(), 0
    async with http.get(f"{way.url}/stream?bytes={_DOWNLOAD}&length=yes", headers=way.headers) as answer:
        async for chunk in answer.content.iter_any():
            size += len(chunk)
    if size != _DOWNLOAD:
        raise RuntimeError(f"{way.name} gave {size} of {_DOWNLOAD} bytes")
    return size / 1e6 / (time.perf_counter() - began)


async def _sockets(http: aiohttp.ClientSession, way: Way) -> float:
    """KB of memory that the process needs for each idle open WebSocket."""
    if way.process is None:
        raise RuntimeError("a process is needed")
    async with AsyncExitStack() as opened:

        async def open_(count: int) -> None:
            for _ in range(count):
                socket = await opened.enter_async_context(
                    http.ws_connect(f"{way.url}/ws", headers=way.headers, autoping=False)
                )
                await socket.send_str("what a terminal prints, and prints again\n" * 50)
                await socket.receive_str()

        await open_(50)  # so that these pay for what all share
        before = way.process.memory_info().rss
        await open_(_SOCKETS)
        await asyncio.sleep(1)
        return float(way.process.memory_info().rss - before) / 1e3 / _SOCKETS


@asynccontextmanager
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, trust_env=False, raise_for_status=True) as http:
        yield http


@asynccontextmanager
async def _ways() -> AsyncIterator[tuple[Way, Way, Way]]:
    async with AsyncExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory())
        program = await asyncio.to_thread(compile_tiny, Path(folder) / "tiny")
        pod, bare = free_port(), free_port()
        variables = environment(PYTHONPATH=str(ROOT), HOME=folder)
        await opened.enter_async_context(running(str(program), "-address", f"127.0.0.1:{pod}", env=variables))
        bare_process = await opened.enter_async_context(
            running(sys.executable, "-m", "bench.bare_proxy", str(bare), str(pod), env=variables)
        )
        ways = (
            Way("direct", f"http://127.0.0.1:{pod}", {}),
            Way("bare", f"http://127.0.0.1:{bare}", {}, psutil.Process(bare_process.pid)),
            await opened.enter_async_context(gateway_process(pod, variables)),
        )
        async with client() as http:
            for way in ways:
                await until_it_answers(lambda way=way: _get(http, way))  # type: ignore[misc]
        yield ways


@asynccontextmanager
async def gateway_process(pod: int, variables: dict[str, str]) -> AsyncIterator[Way]:
    port = free_port()
    argv = (sys.executable, "-m", "bench.lone_gateway", str(port), str(pod))
    async with running(*argv, env=variables) as process:
        if process.stdout is None:
            raise RuntimeError("the gateway tells nothing")
        headers: dict[str, str] = json.loads(await process.stdout.readline())
        yield Way("gateway", f"http://127.0.0.1:{port}", headers, psutil.Process(process.pid))


async def until_it_answers(act: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                await act()
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)
            else:
                return


@asynccontextmanager
async def running(*argv: str, env: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*argv, env=env, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        await process.wait()
