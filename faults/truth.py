"""The contents of the cluster and Redis, read without the service and the proxies of the trials."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import redis.asyncio

from bench.api import Api, Json
from faults.ledger import Seen
from stack.stack import USERS

DEPLOYMENTS = f"/apis/apps/v1/namespaces/{USERS}/deployments"
_SECRETS = f"/api/v1/namespaces/{USERS}/secrets"
_OWNER = "user-pods/user-id"
_RETRY = 0.3


class Observer:
    """Watches all Deployments of sessions with an administrator's rights, and calls `told` with every change."""

    def __init__(self, api: Api, told: Callable[[str, Seen], None]) -> None:
        self._api = api
        self.told = told
        self._present: dict[str, Seen] = {}
        self.news = asyncio.Event()
        """Set at every change; the waiter clears it."""

    @classmethod
    @asynccontextmanager
    async def following(cls, api: Api, told: Callable[[str, Seen], None]) -> AsyncIterator["Observer"]:
        observer = cls(api, told)
        task = asyncio.create_task(observer._follow())
        try:
            yield observer
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def replay(self) -> None:
        """Report every existing Deployment again, for a new ledger."""
        for uuid, seen in self._present.items():
            self.told(uuid, seen)

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, ValueError):
                page = await self._api.get(DEPLOYMENTS)
                there = {found for item in page["items"] if (found := _session(item))}
                for uuid in self._present.keys() - there:
                    self._note(uuid, 0, 0)
                async for change, item in self._api.watch(DEPLOYMENTS, "uuid"):
                    self._take(change, item)
            await asyncio.sleep(_RETRY)

    def _take(self, change: str, item: Json) -> None:
        if change == "ERROR":
            raise ValueError(item)  # too old to go on from
        uuid = _session(item)
        if uuid:
            gone = change == "DELETED"
            ready = item.get("status", {}).get("readyReplicas", 0)
            self._note(uuid, 0 if gone else item["spec"]["replicas"], 0 if gone else ready)

    def _note(self, uuid: str, replicas: int, ready: int) -> None:
        seen, before = Seen(time.monotonic(), replicas, ready), self._present.get(uuid)
        if before is None or (before.replicas, before.ready) != (replicas, ready):
            self._present[uuid] = seen
            self.told(uuid, seen)
            self.news.set()


def _session(item: Json) -> str:
    """Session id of a Deployment; empty for anything else, such as an operator's copy."""
    uuid = str(item["metadata"].get("labels", {}).get("uuid", ""))
    return uuid if item["metadata"]["name"] == f"user-{uuid}" else ""


async def owners(api: Api) -> dict[str, str]:
    """Deployments of sessions, each with its user."""
    items = (await api.get(DEPLOYMENTS, labelSelector="uuid"))["items"]
    return {uuid: item["metadata"].get("annotations", {}).get(_OWNER, "") for item in items if (uuid := _session(item))}


async def releases(api: Api) -> dict[str, str]:
    """Helm releases by their session's id, with the state of their newest revision."""
    newest: dict[str, tuple[int, str]] = {}
    for item in (await api.get(_SECRETS, labelSelector="owner=helm"))["items"]:
        labels = item["metadata"]["labels"]
        found = int(labels["version"]), str(labels["status"])
        uuid = labels["name"].removeprefix("user-")
        newest[uuid] = max(newest.get(uuid, (0, "")), found)
    return {uuid: state for uuid, (_, state) in newest.items()}


async def keys(port: int, password: str, uuids: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Redis keys of each of these sessions, and entries of the index that name it."""
    async with connected(port, password) as client:
        found: dict[str, list[str]] = {}
        taken = set((await client.hgetall("user-pods:users")).values())
        for uuid in uuids:
            names = [name for name in (f"session:{uuid}", f"queue:{uuid}") if await client.exists(name)]
            names += ["an entry in user-pods:users"] if uuid in taken else []
            found[uuid] = names
        return found


@asynccontextmanager
async def connected(port: int, password: str) -> AsyncIterator[Any]:
    """A client of the Redis at that port, as its administrator."""
    client = redis.asyncio.Redis(port=port, password=password, decode_responses=True, socket_timeout=5)
    try:
        yield client
    finally:
        await client.aclose()
