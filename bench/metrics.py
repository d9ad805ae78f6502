"""The cost of every part while the system is idle: CPU, memory, connections, requests."""

import asyncio
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import psutil

from bench.api import Api
from devcluster.cluster import Cluster

PARTS = ("keda", "kube-apiserver", "kube-controller-manager", "etcd", "redis", "service")
CLIENT_NAME = "bench"
"""Identifies this benchmark's connections to Redis."""
_SENT = re.compile(r"^rest_client_requests_total\{.*\} (\S+)$", re.MULTILINE)
_HPAS = "/apis/autoscaling/v2/horizontalpodautoscalers"


@dataclass(frozen=True)
class Cost:
    """Of one stretch of time; `cpu` in per cent of a core and `memory` in MB, both by part."""

    seconds: float
    cpu: Mapping[str, float]
    memory: Mapping[str, float]
    connections: int
    hpas: int
    data: float
    """MB of Redis' data."""
    requests_per_minute: float

    @property
    def total_cpu(self) -> float:
        return sum(self.cpu.values())


class ServiceMetrics:
    """Reads the resource use of a cluster's processes."""

    def __init__(self, cluster: Cluster, api: Api, redis: Any) -> None:
        self._cluster = cluster
        self._api = api
        self._redis = redis

    async def idle(self, seconds: float) -> Cost:
        """Measure for this number of seconds; the system should be idle."""
        processes = {part: psutil.Process(self._cluster.pid(part)) for part in PARTS}
        requests, cpu, began = await self._api.requests(), _cpu(processes), time.perf_counter()
        await asyncio.sleep(seconds)
        took, used = time.perf_counter() - began, _cpu(processes)
        return Cost(
            seconds=took,
            cpu={part: 100 * (used[part] - cpu[part]) / took for part in PARTS},
            memory={part: process.memory_info().rss / 1e6 for part, process in processes.items()},
            connections=await self.connections(),
            hpas=await self.hpas(),
            data=await self.redis_memory(),
            requests_per_minute=60 * (await self._api.requests() - requests - 1) / took,
        )

    async def connections(self) -> int:
        """Redis' clients, without those of this benchmark."""
        clients = await self._redis.client_list()
        return sum(client["name"] != CLIENT_NAME for client in clients)

    async def keda_requests(self) -> int:
        """Requests that KEDA has sent to the API server since its start."""
        url = f"http://127.0.0.1:{self._cluster.port('keda-metrics')}/metrics"
        async with aiohttp.request("GET", url) as answer:
            return sum(int(float(number)) for number in _SENT.findall(await answer.text()))

    async def redis_memory(self) -> float:
        """Size of Redis' data in MB."""
        return float((await self._redis.info("memory"))["used_memory"]) / 1e6

    async def hpas(self) -> int:
        return await self._api.count(_HPAS)

    def memory(self, part: str = "service") -> float:
        """MB."""
        return float(psutil.Process(self._cluster.pid(part)).memory_info().rss / 1e6)

    def busy(self, part: str = "service") -> float:
        """CPU seconds that the part has used so far."""
        times = psutil.Process(self._cluster.pid(part)).cpu_times()
        return float(times.user + times.system)


def _cpu(processes: Mapping[str, psutil.Process]) -> dict[str, float]:
    found = {part: process.cpu_times() for part, process in processes.items()}
    return {part: times.user + times.system for part, times in found.items()}
