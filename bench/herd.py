"""Creates thousands of sessions like those of the service, without helm and without the API server.

The service makes one, the pattern. Every object of it, those that controllers added included, is written to etcd again
with another id, user, address and uid: a fiftieth of the work that making them by requests is. Nothing is left to do
for controllers, and tests/stack/test_herd.py holds the result to a session that the service made.
"""

import asyncio
import base64
import gzip
import ipaddress
import itertools
import json
import secrets
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import aiohttp

from bench.api import Api, Json, client
from devcluster.cluster import Cluster
from service.adapters.redis.store import RedisStore
from service.domain.names import new_session_id, user_hash
from service.domain.record import Record, RecordStatus
from stack.stack import USERS

_AT_ONCE = 48
_ADDRESSES = ipaddress.ip_network("10.104.0.0/13")
"""The upper half of the cluster's Service address range."""
_KINDS = {
    # prefix in etcd, collection in the API, label by which those of a session are found
    "deployments": ("/apis/apps/v1/namespaces/{}/deployments", "uuid={}"),
    "replicasets": ("/apis/apps/v1/namespaces/{}/replicasets", "app.kubernetes.io/instance=user-{}"),
    "services/specs": ("/api/v1/namespaces/{}/services", "uuid={}"),
    "services/endpoints": ("/api/v1/namespaces/{}/endpoints", "uuid={}"),
    "endpointslices": (
        "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
        "kubernetes.io/service-name=user-{}",
    ),
    "secrets": ("/api/v1/namespaces/{}/secrets", "owner=helm,name=user-{}"),
    "keda.sh/scaledobjects": ("/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects", "uuid={}"),
    "keda.sh/triggerauthentications": ("/apis/keda.sh/v1alpha1/namespaces/{}/triggerauthentications", "uuid={}"),
}
_PATIENCE = 60.0


@dataclass(frozen=True)
class Pattern:
    """A session that the service made: id, user, Service address, uids, and its objects by their prefix in etcd."""

    uuid: str
    user_id: str
    address: str
    uids: tuple[str, ...]
    objects: tuple[tuple[str, str], ...]
    release: str
    """What helm keeps in its Secret, as JSON."""

    @classmethod
    async def of(cls, api: Api, session: str, user_id: str) -> Self:
        """Read the session as soon as KEDA has seen that it is parked."""
        async with asyncio.timeout(_PATIENCE):
            while not await _known_to_keda(api, session):  # noqa: ASYNC110 - KEDA is another process
                await asyncio.sleep(0.2)
        found: list[tuple[str, Json]] = []
        for prefix, (path, selector) in _KINDS.items():
            page = await api.get(path.format(USERS), labelSelector=selector.format(session))
            kind, version = page["kind"].removesuffix("List"), page["apiVersion"]
            found += [(prefix, {"apiVersion": version, "kind": kind, **item}) for item in page["items"]]
        address = next(item["spec"]["clusterIP"] for prefix, item in found if prefix == "services/specs")
        found.append(("ipaddresses", await api.get(f"/apis/networking.k8s.io/v1/ipaddresses/{address}")))
        for _, item in found:
            del item["metadata"]["resourceVersion"]
        secret = next(item for prefix, item in found if prefix == "secrets")
        release = gzip.decompress(base64.b64decode(base64.b64decode(secret["data"].pop("release")))).decode()
        return cls(
            session,
            user_id,
            address,
            tuple(item["metadata"]["uid"] for _, item in found),
            tuple((prefix, json.dumps(item)) for prefix, item in found),
            release,
        )

    def copies(self, session: str, user_id: str, address: str) -> Iterator[tuple[str, str]]:
        """Keys and values in etcd of all objects of another session."""
        changes = {
            self.uuid: session,
            user_hash(self.user_id): user_hash(user_id),
            self.user_id: user_id,
            self.address: address,
            **{old: str(uuid.uuid4()) for old in self.uids},
        }
        for prefix, text in self.objects:
            item = json.loads(_exchanged(text, changes))
            metadata = item["metadata"]
            if prefix == "secrets":
                packed = gzip.compress(_exchanged(self.release, changes).encode(), compresslevel=1)
                item["data"]["release"] = base64.b64encode(base64.b64encode(packed)).decode()
            place = "" if prefix == "ipaddresses" else f"{USERS}/"
            yield f"/registry/{prefix}/{place}{metadata['name']}", json.dumps(item)


class Herd:
    """All sessions of a benchmark but the pattern; `uuids` grow with `grow`."""

    def __init__(self, etcd: aiohttp.ClientSession, store: RedisStore) -> None:
        self._etcd = etcd
        self._store = store
        self._addresses = itertools.islice(_ADDRESSES.hosts(), 1000, None)
        self.uuids: list[str] = []

    @classmethod
    @asynccontextmanager
    async def gathered(cls, cluster: Cluster, redis: Any) -> AsyncIterator[Self]:
        """An empty herd."""
        crt, key = cluster.client("etcd-client", user="kube-apiserver")
        server = f"https://127.0.0.1:{cluster.port('etcd')}"
        async with client(server, ca=cluster.ca, crt=crt, key=key) as etcd:
            yield cls(etcd, RedisStore(redis))

    async def grow(self, pattern: Pattern, size: int) -> None:
        """Add sleeping, parked copies of the template until there are `size` of them."""
        while missing := size - len(self.uuids):
            self.uuids += await asyncio.gather(*(self._make(pattern) for _ in range(min(_AT_ONCE, missing))))

    async def _make(self, pattern: Pattern) -> str:
        user_id = f"herd-{secrets.token_hex(6)}@example.com"
        now, session = datetime.now(UTC), await self._store.claim(user_id, new_session_id())
        for entries in _apart(pattern.copies(session, user_id, self._address())):
            puts = [{"requestPut": {"key": _base64(key), "value": _base64(value)}} for key, value in entries]
            async with self._etcd.post("/v3/kv/txn", json={"success": puts}) as answer:
                await answer.read()
        await self._store.save(Record(session, user_id, RecordStatus.CREATED, created_at=now, written_at=now))
        return session

    def _address(self) -> str:
        return str(next(self._addresses))


def _apart(entries: Iterable[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Split the objects into transactions with at most one object of each kind.

    All writes of a transaction have one version, and a watch that is taken up again at a version would miss the rest.
    """
    found: list[list[tuple[str, str]]] = []
    seen: Counter[str] = Counter()
    for key, value in entries:
        kind = key.rsplit("/", 1)[0]
        if seen[kind] == len(found):
            found.append([])
        found[seen[kind]].append((key, value))
        seen[kind] += 1
    return found


async def _known_to_keda(api: Api, session: str) -> bool:
    path = _KINDS["keda.sh/scaledobjects"][0].format(USERS)
    scaler = await api.get(f"{path}/user-{session}-scaler")
    conditions = scaler.get("status", {}).get("conditions") or []
    paused = any(each["type"] == "Paused" and each["status"] == "True" for each in conditions)
    return paused and bool(scaler["metadata"].get("finalizers"))


def _exchanged(text: str, changes: dict[str, str]) -> str:
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
