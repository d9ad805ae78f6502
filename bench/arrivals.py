"""When pods became ready, from a watch: polling would load the system that is measured."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from bench.api import Api, Json

_PATIENCE = 180.0
"""Seconds after which a pod that is not ready is an error."""


class Arrivals:
    """Watches the pods of all namespaces that have the label `uuid`."""

    def __init__(self) -> None:
        self._ready: dict[str, float] = {}
        self._addresses: dict[str, str] = {}
        self._standing: dict[str, set[str]] = {}
        self._news = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def watched(cls, api: Api) -> AsyncIterator[Self]:
        arrivals = cls()
        task = asyncio.create_task(arrivals._follow(api))
        try:
            yield arrivals
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, api: Api) -> None:
        async for change, pod in api.watch("/api/v1/pods", "uuid"):
            now, uuid = time.perf_counter(), pod["metadata"]["labels"]["uuid"]
            pods = self._standing.setdefault(uuid, set())
            if change == "DELETED":
                pods.discard(pod["metadata"]["uid"])
            else:
                pods.add(pod["metadata"]["uid"])
                address = pod.get("status", {}).get("podIP")
                if address and "deletionTimestamp" not in pod["metadata"]:
                    self._addresses.setdefault(uuid, address)
                if _is_ready(pod):
                    self._ready.setdefault(uuid, now)
            async with self._news:
                self._news.notify_all()

    async def ready(self, uuid: str) -> float:
        """Wait for the pod; returns the `time.perf_counter` at which the watch reported it ready."""
        async with asyncio.timeout(_PATIENCE), self._news:
            await self._news.wait_for(lambda: uuid in self._ready)
        return self._ready[uuid]

    async def address(self, uuid: str) -> str:
        """Wait until the pod has an address."""
        async with asyncio.timeout(_PATIENCE), self._news:
            await self._news.wait_for(lambda: uuid in self._addresses)
        return self._addresses[uuid]

    async def gone(self, uuid: str) -> None:
        """Wait until the session has no pod, so that the next one is counted separately."""
        async with asyncio.timeout(_PATIENCE), self._news:
            await self._news.wait_for(lambda: not self._standing.get(uuid))
        self._ready.pop(uuid, None)
        self._addresses.pop(uuid, None)


def _is_ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions") or []
    going = "deletionTimestamp" in pod["metadata"]
    return not going and any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
