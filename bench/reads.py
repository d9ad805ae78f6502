"""Status and list: how many a second one core answers, and how long one takes at a given rate.

Throughput is counted per second of CPU that the process used, so that other load on the machine does not count.
"""

import asyncio
import itertools
import random
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp

from bench.figures import Figure
from bench.ground import Ground
from devcluster.processes import environment
from stack.demo import free_port
from stack.stack import ROOT

_FLOOR = "bench-floor"
_CALLERS = 16
_RATE = 500
_SECONDS = 3.0
"""Of one round."""
_REFUSED = 10.0
"""Seconds that a refused call counts as."""
LIST = 50
"""Default number of sessions per page."""


async def reads(ground: Ground, rounds: int) -> list[Figure]:
    """Measure the service and the baseline, in rounds of random order."""
    with _floor(ground) as floor:
        uuids = itertools.cycle(random.sample(ground.herd.uuids, min(1000, len(ground.herd.uuids))))
        kinds: dict[str, tuple[str, Callable[[], str]]] = {
            "bare handler": (_FLOOR, lambda: f"{floor}/{next(uuids)}"),
            "status": (ground.stack.name, lambda: f"{ground.stack.url}/session/{next(uuids)}/status"),
            f"list of {LIST}": (
                ground.stack.name,
                lambda: f"{ground.stack.url}/sessions?limit={LIST}&cursor={next(uuids)}",
            ),
        }
        throughput: dict[str, list[float]] = {name: [] for name in kinds}
        latency: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(rounds):
            for name in random.sample(list(kinds), len(kinds)):
                part, url = kinds[name]
                throughput[name].append(await _saturated(ground, part, url))
                rate = _RATE if name != f"list of {LIST}" else _RATE / 10
                latency[name] += await _steady(ground.http, url, rate)
    size = len(ground.herd.uuids)
    base = Figure("bare handler, per second of one core", size, "1/s", throughput["bare handler"])
    slow = Figure(f"bare handler at {_RATE}/s", size, "s", latency["bare handler"])
    return [
        base,
        Figure.against(base, "status, per second of one core", throughput["status"]),
        Figure(f"list of {LIST}, per second of one core", size, "1/s", throughput[f"list of {LIST}"]),
        slow,
        Figure.against(slow, f"status at {_RATE}/s", latency["status"]),
        Figure(f"list of {LIST} at {_RATE // 10}/s", size, "s", latency[f"list of {LIST}"]),
    ]


async def _saturated(ground: Ground, part: str, url: Callable[[], str]) -> float:
    """Answers per second of the part's CPU, with callers that send without pauses."""
    until, counts = time.perf_counter() + _SECONDS, [0] * _CALLERS

    async def caller(number: int) -> None:
        while time.perf_counter() < until:
            counts[number] += await _get(ground.http, url())

    busy = ground.metrics.busy(part)
    await asyncio.gather(*(caller(number) for number in range(_CALLERS)))
    return sum(counts) / (ground.metrics.busy(part) - busy)


async def _steady(http: aiohttp.ClientSession, url: Callable[[], str], rate: float) -> list[float]:
    """Seconds from when a call was due until its answer, so that a stall counts for every call that it delays."""
    loop, began = asyncio.get_running_loop(), time.perf_counter() + 0.05

    async def one(due: float) -> float:
        await asyncio.sleep(due - time.perf_counter())
        return time.perf_counter() - due if await _get(http, url()) else _REFUSED

    tasks = [loop.create_task(one(began + number / rate)) for number in range(int(rate * _SECONDS))]
    return await asyncio.gather(*tasks)


async def _get(http: aiohttp.ClientSession, url: str) -> bool:
    """Whether the call succeeded: on an overloaded machine, reads of Redis can time out."""
    async with http.get(url, raise_for_status=False) as answer:
        await answer.read()
        return answer.ok


@contextmanager
def _floor(ground: Ground) -> Iterator[str]:
    """Run the bare handler as a process beside the service; yields its address."""
    cluster, port = ground.stack.cluster, free_port()
    url = f"http://127.0.0.1:{port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ready() -> bool:
        with opener.open(f"{url}/{ground.pattern.uuid}", timeout=2) as answer:
            return bool(answer.status == 200)

    argv = [sys.executable, "-m", "bench.floor", str(port)]
    cluster.run(_FLOOR, argv, env=environment(PYTHONPATH=str(ROOT), REDIS_URL=cluster.redis_url), ready=ready)
    try:
        yield url
    finally:
        cluster.stop(_FLOOR)
