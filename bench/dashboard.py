"""What the pages of the dashboard cost that show all sessions: `python -m bench.dashboard [sessions]`.

Redis is real, the cluster is in memory, as the service's cache has it. One visitor at a time, over HTTP, from the
request to the whole answer: the time that passes, and the CPU time of this process, which is server and client in one,
and of Redis.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import psutil
from rich.console import Console
from rich.table import Table

from service.domain.clock import utc_now
from service.domain.cluster_facts import Node
from service.domain.wake_times import KEPT
from service.domain.workload import Pod, Requests
from tests.dashboard.conftest import OPERATOR, serving
from tests.dashboard.real_redis import on_redis
from tests.dashboard.sessions import show
from tests.domain.test_wake_times import wake
from tests.redis_servers import redis_server

_RUNS = 30
_REQUESTS = Requests(cpu=0.1, memory=0.25)
_PAUSE = 0.01
_PAGES = {
    "first page": "/dashboard",
    "search for a part of a user id": "/dashboard?q=er0424",
    "search that finds nothing": "/dashboard?q=nobody",
    "sessions that do not start": "/dashboard?phase=failed",
    "one reason": "/dashboard?reason=image",
    "last page, newest first": "/dashboard?sort=-created&page=9999",
    "overview": "/dashboard/overview",
}


@dataclass
class Costs:
    """In milliseconds."""

    passed: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    redis: list[float] = field(default_factory=list)

    @contextmanager
    def measured(self, redis: psutil.Process) -> Iterator[None]:
        began, cpu, before = time.perf_counter(), time.process_time(), _spent(redis)
        yield
        self.passed.append((time.perf_counter() - began) * 1000)
        self.own.append((time.process_time() - cpu) * 1000)
        self.redis.append((_spent(redis) - before) * 1000)


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def main(sessions: int) -> None:
    with redis_server() as server:
        async with on_redis(server.port) as world:
            await world.keep([show(world, number, f"user{number:05}@example.com") for number in range(sessions)])
            world.facts.allowed = True
            world.facts.machines = [Node(name=f"n{number}", cpu=64, memory=256, pods=110) for number in range(100)]
            for number, (uuid, workload) in enumerate(world.cluster.workloads.items()):
                pod = Pod("pod", node=f"n{number % 100}") if workload.replicas else None
                world.cluster.workloads[uuid] = replace(workload, requests=_REQUESTS, pod=pod)
            now = utc_now()
            for number in range(KEPT):
                at = now - timedelta(days=1) * (number / KEPT)
                await world.measured.append(wake(1 + number % 97 / 12, pod=f"{number:08x}", at=at))
            async with serving(world) as board:
                visitor = await board.visitor(OPERATOR)
                await visitor.read("/dashboard")
                redis, costs = psutil.Process(server.process.pid), {name: Costs() for name in _PAGES}
                for _ in range(_RUNS):
                    for name, path in _PAGES.items():
                        await asyncio.sleep(_PAUSE)
                        with costs[name].measured(redis):
                            await visitor.read(path)
    _show(sessions, costs)


def _show(sessions: int, costs: dict[str, Costs]) -> None:
    table = Table(title=f"{sessions:,} sessions, {_RUNS} runs, milliseconds")
    for column in ("page", "time p50", "p95", "max", "CPU p50", "CPU max", "CPU of Redis, mean"):
        table.add_column(column)
    for name, each in costs.items():
        passed = sorted(each.passed)
        figures = (
            statistics.median(passed), passed[round(0.95 * (len(passed) - 1))], passed[-1],
            statistics.median(each.own), max(each.own), statistics.mean(each.redis),
        )  # fmt: skip
        table.add_row(name, *(f"{figure:.1f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
