"""Makes sessions by the thousand that are like those the service makes, without a helm process for each.

The service makes one, the pattern. Everything of it (helm's Secret with the release in it, the rendered objects) then
gets another id and user, and goes to the cluster by the same requests in the same order: reservation, helm's apply,
park. tests/bench/test_herd.py holds the result to a session that the service made.
"""

import asyncio
import base64
import gzip
import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import yaml

from bench.api import Api, Json
from devcluster.cluster import Cluster
from service.adapters.kube import KubeCluster
from service.adapters.kube_api import KubeApi, connect
from service.adapters.redis_store import RedisStore
from service.domain.names import SessionId, new_session_id, user_hash
from service.domain.session import Record, RecordStatus
from stack.stack import USERS

_AT_ONCE = 24
_CONTROLLERS = ("kube-controller-manager", "keda")
_SECRETS = f"/api/v1/namespaces/{USERS}/secrets"
_PATHS = {
    "Deployment": f"/apis/apps/v1/namespaces/{USERS}/deployments",
    "Service": f"/api/v1/namespaces/{USERS}/services",
    "ScaledObject": f"/apis/keda.sh/v1alpha1/namespaces/{USERS}/scaledobjects",
    "TriggerAuthentication": f"/apis/keda.sh/v1alpha1/namespaces/{USERS}/triggerauthentications",
}


@dataclass(frozen=True)
class Pattern:
    """A session that the service made, as text in which id and user can be exchanged."""

    uuid: str
    user_id: str
    secret: Json
    release: str
    """What helm keeps in its Secret, as JSON."""
    objects: Sequence[tuple[str, str]]
    """Kind and JSON of what helm applied, in its order."""

    @classmethod
    async def of(cls, api: Api, uuid: str, user_id: str) -> "Pattern":
        secret = await api.get(f"{_SECRETS}/sh.helm.release.v1.user-{uuid}.v1")
        release = gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))).decode()
        manifest = [item for item in yaml.safe_load_all(json.loads(release)["manifest"]) if item]
        for item in manifest:
            notes = item["metadata"].setdefault("annotations", {})
            notes |= {"meta.helm.sh/release-name": f"user-{uuid}", "meta.helm.sh/release-namespace": USERS}
        return cls(uuid, user_id, secret, release, [(item["kind"], json.dumps(item)) for item in manifest])

    def exchanged(self, text: str, uuid: str, user_id: str) -> str:
        """`text` for another session."""
        text = text.replace(self.uuid, uuid).replace(user_hash(self.user_id), user_hash(user_id))
        return text.replace(self.user_id, user_id)

    def revision(self, uuid: str, user_id: str) -> Json:
        """helm's Secret for another session."""
        packed = gzip.compress(self.exchanged(self.release, uuid, user_id).encode(), compresslevel=1)
        metadata = self.secret["metadata"]
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": self.secret["type"],
            "metadata": {
                "name": metadata["name"].replace(self.uuid, uuid),
                "labels": {name: value.replace(self.uuid, uuid) for name, value in metadata["labels"].items()},
            },
            "data": {"release": base64.b64encode(base64.b64encode(packed)).decode()},
        }


class Herd:
    """All sessions of a benchmark but the pattern; `uuids` grow with `grow`."""

    def __init__(self, cluster: Cluster, api: Api, kube: KubeCluster, store: RedisStore) -> None:
        self._cluster = cluster
        self._api = api
        self._kube = kube
        self._store = store
        self.uuids: list[str] = []

    @classmethod
    @asynccontextmanager
    async def gathered(cls, cluster: Cluster, api: Api, redis: Any) -> AsyncIterator[Self]:
        """A herd that is empty yet."""
        async with await connect(cluster.kubeconfig) as client:
            requests = KubeApi(client, timeout=60)
            kube = KubeCluster(requests, namespace=USERS, keda_namespace=None, patience=timedelta())
            yield cls(cluster, api, kube, RedisStore(redis))

    async def grow(self, pattern: Pattern, size: int) -> None:
        """Make parked sessions until there are `size` of them."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def one() -> None:
            async with places:
                self.uuids.append(await self.make(pattern))

        async with _controllers_away(self._cluster), asyncio.TaskGroup() as group:
            for _ in range(size - len(self.uuids)):
                group.create_task(one())

    async def make(self, pattern: Pattern) -> str:
        """One session: the steps of `Sessions.finish` with helm's requests in the place of helm."""
        user_id = f"herd-{secrets.token_hex(6)}@example.com"
        uuid = await self._store.claim(user_id, new_session_id())
        await self._kube.reserve(uuid, user_id)
        await self._api.post(_SECRETS, pattern.revision(uuid, user_id), fieldManager="Helm")
        for kind, text in pattern.objects:
            body = pattern.exchanged(text, uuid, user_id)
            path = f"{_PATHS[kind]}/{json.loads(body)['metadata']['name']}"
            await self._api.apply(path, body, manager="helm")
        await self._kube.park(uuid)
        await self._store.save(_record(uuid, user_id))
        return uuid


@asynccontextmanager
async def _controllers_away(cluster: Cluster) -> AsyncIterator[None]:
    """Without KEDA and the controller-manager, which find all of the herd at once when they come back.

    Two thirds of the requests for a new session are theirs, and most of those repeat what the next one changes again.
    """
    for name in _CONTROLLERS:
        await asyncio.to_thread(cluster.stop, name)
    try:
        yield
    finally:
        for name in _CONTROLLERS:
            await asyncio.to_thread(cluster.start, name)


def _record(uuid: SessionId, user_id: str) -> Record:
    now = datetime.now(UTC)
    return Record(uuid, user_id, RecordStatus.CREATED, created_at=now, written_at=now)
