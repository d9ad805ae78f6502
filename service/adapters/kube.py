"""The Cluster on the Kubernetes API: plain JSON over the client's connection, since its models cost ten times the time.

What is read of a session, each by one list call over all wanted ids:
Deployments, the metadata of helm's Secrets, ScaledObjects, claims, and the pods of those that are awake but not ready.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio import client, config

from service.adapters.trouble import deployment_trouble, pod_trouble, scaler_trouble
from service.domain.errors import ClusterUnavailable, IdTaken, KedaUnavailable, SessionReleased
from service.domain.names import (
    CONTAINER,
    USER_ANNOTATION,
    USER_HASH_LABEL,
    UUID_LABEL,
    SessionId,
    parse_session_id,
    release_name,
    selector_labels,
    user_hash,
)
from service.domain.session import Release, ReleaseState, Workload

_METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_KEDA_LEASE = "operator.keda.sh"
_STALE = timedelta(seconds=45)
"""KEDA renews its lease every few seconds (15 s at most by default)."""
_PAGE = 500

Json = dict[str, Any]


class Refused(Exception):
    """The API server's 4xx answer to one request."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status


async def connect(kubeconfig: Path | None) -> client.ApiClient:
    """A client from a kubeconfig file, or with the pod's own ServiceAccount when there is none."""
    configuration = client.Configuration()
    if kubeconfig is None:
        config.load_incluster_config(client_configuration=configuration)
    else:
        await config.load_kube_config(str(kubeconfig), client_configuration=configuration, persist_config=False)
    configuration.retries = 0
    return client.ApiClient(configuration)


class KubeCluster:
    """See `service.domain.ports.Cluster`. `timeout`: seconds per request; no `keda_namespace`: do not look at KEDA."""

    def __init__(self, api: client.ApiClient, *, namespace: str, keda_namespace: str | None, timeout: float) -> None:
        self._api = api
        self._namespace = namespace
        self._keda_namespace = keda_namespace
        self._timeout = timeout
        self._deployments = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        self._scaled = f"/apis/keda.sh/v1alpha1/namespaces/{namespace}/scaledobjects"
        self._claims = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._secrets = f"/api/v1/namespaces/{namespace}/secrets"

    # --- reading ---

    async def read(self, uuids: Sequence[SessionId]) -> dict[SessionId, Workload]:
        if not uuids:
            return {}
        by_uuid = f"{UUID_LABEL} in ({','.join(uuids)})"
        by_release = f"owner=helm,name in ({','.join(map(release_name, uuids))})"
        found = await self._gather(by_uuid, by_release)
        return {uuid: found.get(uuid) or Workload(uuid) for uuid in uuids}

    async def scan(self) -> AsyncIterator[Workload]:
        for workload in (await self._gather(UUID_LABEL, "owner=helm")).values():
            yield workload

    async def _gather(self, by_uuid: str, by_release: str) -> dict[SessionId, Workload]:
        deployments, secrets, scaled, claims = await asyncio.gather(
            self._list(self._deployments, by_uuid),
            self._list(self._secrets, by_release, accept=_METADATA),
            self._list(self._scaled, by_uuid),
            self._list(self._claims, by_uuid),
        )
        parts: dict[SessionId, dict[str, Json]] = defaultdict(dict)
        for kind, objects in (("deployment", deployments), ("scaled", scaled), ("claim", claims)):
            for item in objects:
                if uuid := _session_of(item):
                    parts[uuid][kind] = item
        releases = _newest(secrets)
        restless = [uuid for uuid, part in parts.items() if _restless(part.get("deployment"))]
        pods = await self._list(self._pods, f"{UUID_LABEL} in ({','.join(restless)})") if restless else []
        pods_of = {
            uuid: [pod for pod in pods if pod["metadata"]["labels"].get(UUID_LABEL) == uuid] for uuid in restless
        }
        return {
            uuid: _workload(uuid, parts.get(uuid, {}), releases.get(uuid), pods_of.get(uuid, []))
            for uuid in parts.keys() | releases.keys()
        }

    async def find(self, user_id: str) -> SessionId | None:
        selector = f"{USER_HASH_LABEL}={user_hash(user_id)}"
        deployments, claims = await asyncio.gather(
            self._list(self._deployments, selector, accept=_METADATA),
            self._list(self._claims, selector, accept=_METADATA),
        )
        for item in [*deployments, *claims]:
            if _annotations(item).get(USER_ANNOTATION) == user_id and not _going(item):
                return _session_of(item)
        return None

    # --- writing ---

    async def reserve(self, uuid: SessionId, user_id: str) -> None:
        name, labels = release_name(uuid), selector_labels(uuid)
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": name,
                # What makes helm adopt the object as its own.
                "labels": {
                    **labels,
                    UUID_LABEL: uuid,
                    USER_HASH_LABEL: user_hash(user_id),
                    "app.kubernetes.io/managed-by": "Helm",
                },
                "annotations": {
                    USER_ANNOTATION: user_id,
                    "meta.helm.sh/release-name": name,
                    "meta.helm.sh/release-namespace": self._namespace,
                },
            },
            "spec": {
                "replicas": 0,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                # Never runs: helm replaces the image before anybody scales up.
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": CONTAINER, "image": "reserved"}]},
                },
            },
        }
        try:
            await self._request("POST", self._deployments, body=body)
        except Refused as refused:
            if refused.status != HTTPStatus.CONFLICT:
                raise ClusterUnavailable from refused
            present = await self._get(f"{self._deployments}/{name}")
            if present is not None and _annotations(present).get(USER_ANNOTATION) != user_id:
                raise IdTaken(uuid) from refused

    async def unreserve(self, uuid: SessionId) -> None:
        await self._delete(f"{self._deployments}/{release_name(uuid)}")

    async def put_to_sleep(self, uuid: SessionId) -> None:
        path = f"{self._deployments}/{release_name(uuid)}/scale"
        try:
            await self._request("PATCH", path, body={"spec": {"replicas": 0}})
        except Refused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                raise SessionReleased from refused
            raise ClusterUnavailable from refused

    async def delete_volume(self, uuid: SessionId) -> None:
        await self._delete(f"{self._claims}/{release_name(uuid)}")

    # --- health ---

    async def check(self) -> None:
        await self._list(self._deployments, UUID_LABEL, accept=_METADATA, limit=1)

    async def check_keda(self) -> None:
        """KEDA's own leader renews a Lease; one that is stale means that nobody scales."""
        try:
            await self._list(self._scaled, UUID_LABEL, accept=_METADATA, limit=1)
        except ClusterUnavailable as error:
            if isinstance(error.__cause__, Refused):
                raise KedaUnavailable("KEDA is not installed, or the service may not see its objects") from error
            raise
        if self._keda_namespace is None:
            return
        lease = await self._get(f"/apis/coordination.k8s.io/v1/namespaces/{self._keda_namespace}/leases/{_KEDA_LEASE}")
        renewed = _time(((lease or {}).get("spec") or {}).get("renewTime"))
        if renewed is None or datetime.now(UTC) - renewed > _STALE:
            raise KedaUnavailable

    # --- the API ---

    async def _list(
        self, path: str, selector: str, *, accept: str = "application/json", limit: int | None = None
    ) -> list[Json]:
        """All objects that the selector matches (in pages), or the first `limit`."""
        items: list[Json] = []
        proceed = ""
        while True:
            query = {"labelSelector": selector, "limit": str(limit or _PAGE)}
            if proceed:
                query["continue"] = proceed
            try:
                answer = await self._request("GET", path, query=query, accept=accept)
            except Refused as refused:
                raise ClusterUnavailable from refused
            items += answer.get("items") or []
            proceed = answer["metadata"].get("continue") or ""
            if limit is not None or not proceed:
                return items

    async def _get(self, path: str) -> Json | None:
        try:
            return await self._request("GET", path)
        except Refused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return None
            raise ClusterUnavailable from refused

    async def _delete(self, path: str) -> None:
        try:
            await self._request("DELETE", path)
        except Refused as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise ClusterUnavailable from refused

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        accept: str = "application/json",
    ) -> Json:
        """One request. Raises Refused for 4xx, ClusterUnavailable for everything else that is no answer."""
        headers = {"Accept": accept}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        try:
            method, url, sent, payload, _ = await self._api.param_serialize(
                method, path, header_params=headers, query_params=list((query or {}).items()), body=body,
                auth_settings=["BearerToken"],
            )  # fmt: skip
            response = await self._api.call_api(method, url, sent, payload, _request_timeout=self._timeout)
            data = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError, client.ApiException) as error:
            raise ClusterUnavailable from error
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status == HTTPStatus.TOO_MANY_REQUESTS:
            raise ClusterUnavailable from Refused(response.status, response.reason)
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise Refused(response.status, response.reason)
        answer = json.loads(data)
        return answer if isinstance(answer, dict) else {}


def _workload(uuid: SessionId, part: Mapping[str, Json], release: Release | None, pods: Sequence[Json]) -> Workload:
    deployment, scaled, claim = part.get("deployment"), part.get("scaled"), part.get("claim")
    spec: Json = (deployment or {}).get("spec") or {}
    status: Json = (deployment or {}).get("status") or {}
    owners = [_annotations(item).get(USER_ANNOTATION) for item in (deployment, claim) if item]
    metadata: Json = (deployment or {}).get("metadata") or {}
    return Workload(
        uuid,
        user_id=next(filter(None, owners), None),
        release=release,
        deployed=deployment is not None,
        scaled=scaled is not None,
        deleting=any(_going(item) for item in (deployment, scaled) if item),
        # One that is being deleted stays until the last pod lets go of it; nobody can have it any more.
        volume=claim is not None and not _going(claim),
        created_at=_time(metadata.get("creationTimestamp")),
        replicas=int(spec.get("replicas", 0)),
        ready=int(status.get("readyReplicas", 0)),
        chart=(metadata.get("labels") or {}).get("helm.sh/chart"),
        trouble=pod_trouble(pods) or deployment_trouble(status) or scaler_trouble(scaled),
    )


def _newest(secrets: Sequence[Json]) -> dict[SessionId, Release]:
    """The newest revision of each release, from helm's labels; one that was uninstalled with history is none."""
    newest: dict[SessionId, Release] = {}
    for secret in secrets:
        labels = secret["metadata"].get("labels") or {}
        try:
            uuid = parse_session_id(labels["name"].removeprefix("user-"))
            revision, state = int(labels["version"]), ReleaseState(labels["status"])
        except Exception:  # noqa: BLE001, S112 - somebody else's Secret that happens to bear helm's label
            continue
        known = newest.get(uuid)
        if known is None or known.revision < revision:
            stamp = labels.get("modifiedAt") or labels.get("createdAt")
            modified = (
                datetime.fromtimestamp(int(stamp), UTC) if stamp else _time(secret["metadata"]["creationTimestamp"])
            )
            newest[uuid] = Release(labels["name"], revision, state, modified or datetime.now(UTC))
    return {uuid: release for uuid, release in newest.items() if release.state is not ReleaseState.UNINSTALLED}


def _restless(deployment: Json | None) -> bool:
    """Awake and not ready: worth a look at its pods."""
    if deployment is None:
        return False
    wanted = int(deployment["spec"].get("replicas", 0))
    return wanted > int((deployment.get("status") or {}).get("readyReplicas", 0))


def _session_of(item: Json) -> SessionId | None:
    uuid = (item["metadata"].get("labels") or {}).get(UUID_LABEL, "")
    # Only objects of the very name count: a label can be put on anything.
    return SessionId(uuid) if item["metadata"]["name"].startswith(f"user-{uuid}") and len(uuid) == 8 else None


def _going(item: Json) -> bool:
    return "deletionTimestamp" in item["metadata"]


def _annotations(item: Json) -> dict[str, str]:
    return item["metadata"].get("annotations") or {}


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
