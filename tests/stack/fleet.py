"""Many sessions at once: one is made by the service, the others are copies of what it and helm have left."""

import asyncio
import base64
import gzip
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from redis.asyncio import Redis

from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.cluster import KubeCluster
from service.domain.names import SessionId, new_session_id, user_hash
from stack.stack import Stack
from tests.stack.client import Caller, until

_KINDS = "deployments,services,scaledobjects,networkpolicies,triggerauthentications"
_OF_THE_SERVER = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "finalizers")
_WRITTEN_LATER = (
    "deployment.kubernetes.io/revision",
    "autoscaling.keda.sh/paused",
    "user-pods/parked",
    "user-pods/idle-times",
)
_RESERVED_AT_A_TIME = 10
_PROCESSES = 5
"""kubectl limits its own requests to 50 a second."""


async def make(stack: Stack, caller: Caller, redis: Redis, number: int) -> list[SessionId]:
    """That many sessions, asleep, parked and known to the service, ordered by id."""
    created: dict[str, Any] = {}

    async def is_created() -> bool:
        nonlocal created
        code, created = await caller.create("u0@example.com")  # refused until an empty Redis is refilled
        return code in (200, 201)

    await until(is_created, 30, lambda: f"no session was created: {created}")
    first = SessionId(created["uuid"])
    copies = {new_session_id(): f"u{n}@example.com" for n in range(1, number)}
    original, release = _objects(stack, first), _release(stack, first)
    async with await connect(stack.cluster.kubeconfig) as api:
        cluster = KubeCluster(
            KubeApi(api, timeout=10), namespace=stack.users, keda_namespace=None, schedule_timeout=timedelta(minutes=2)
        )
        slots = asyncio.Semaphore(_RESERVED_AT_A_TIME)

        async def reserve(uuid: SessionId, user: str) -> None:
            async with slots:
                await cluster.reserve(uuid, user)

        await asyncio.gather(*(reserve(uuid, user) for uuid, user in copies.items()))
    made = [_copies(original, release, first, uuid, user) for uuid, user in copies.items()]
    await asyncio.gather(*(_apply(stack, made[start::_PROCESSES]) for start in range(_PROCESSES)))
    await redis.delete("user-pods:whole")  # the service finds them as after a loss of Redis

    async def known() -> bool:
        summary = (await caller.call("GET", "/summary"))[1]
        listed = await redis.zcard("user-pods:ids")
        return bool(listed == number and summary.get("parked") == number)

    await until(known, 120, lambda: "the copies are not all known and parked")
    return sorted([first, *copies])


async def _apply(stack: Stack, sessions: Sequence[Sequence[dict[str, Any]]]) -> None:
    """As helm 4 does. The number of replicas stays that of the reservation."""
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=helm", "-f", "-")
    items = {"apiVersion": "v1", "kind": "List", "items": [each for session in sessions for each in session]}
    await asyncio.to_thread(stack.cluster.kubectl, *apply, stdin=json.dumps(items))


def _objects(stack: Stack, uuid: SessionId) -> list[dict[str, Any]]:
    found = json.loads(stack.cluster.kubectl("-n", stack.users, "get", _KINDS, "-l", f"uuid={uuid}", "-o", "json"))
    items: list[dict[str, Any]] = found["items"]
    for item in items:
        item.pop("status", None)
        for name in _OF_THE_SERVER:
            item["metadata"].pop(name, None)
        for name in _WRITTEN_LATER:
            item["metadata"].get("annotations", {}).pop(name, None)
        if item["kind"] == "Deployment":
            del item["spec"]["replicas"]
        for name in ("clusterIP", "clusterIPs"):
            item["spec"].pop(name, None)
    assert {item["kind"] for item in items} >= {"Deployment", "Service", "ScaledObject"}
    return items


def _release(stack: Stack, uuid: SessionId) -> dict[str, Any]:
    name = f"sh.helm.release.v1.user-{uuid}.v1"
    secret: dict[str, Any] = json.loads(stack.cluster.kubectl("-n", stack.users, "get", "secret", name, "-o", "json"))
    for each in _OF_THE_SERVER:
        secret["metadata"].pop(each, None)
    return secret


def _copies(
    objects: list[dict[str, Any]], release: dict[str, Any], first: SessionId, uuid: SessionId, user: str
) -> list[dict[str, Any]]:
    def renamed(text: str) -> str:
        original = "u0@example.com"
        return text.replace(first, uuid).replace(user_hash(original), user_hash(user)).replace(original, user)

    secret: dict[str, Any] = json.loads(renamed(json.dumps({**release, "data": {}})))
    content = gzip.decompress(base64.b64decode(base64.b64decode(release["data"]["release"]))).decode()
    packed = base64.b64encode(gzip.compress(renamed(content).encode(), compresslevel=1))
    secret["data"] = {"release": base64.b64encode(packed).decode()}
    copied: list[dict[str, Any]] = json.loads(renamed(json.dumps(objects)))
    return [*copied, secret]
