"""The Cluster port: uncached reads of whole sessions, and every write to the cluster that helm does not make."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

from service.adapters.kubernetes.api import ApiRefused, KubeApi
from service.adapters.kubernetes.fields import annotations, as_dict, as_dicts, is_terminating, moment, name_of
from service.adapters.kubernetes.idle_times_text import to_text
from service.adapters.kubernetes.managed_fields import without_agreed
from service.adapters.kubernetes.objects import PAUSED, Kind, Objects, parse, session_id_of
from service.adapters.kubernetes.paths import collections
from service.domain.errors import ClusterUnavailable, IdTaken, KedaUnavailable, SessionReleased
from service.domain.hand_edits import HELM
from service.domain.names import (
    CONTAINER,
    GROUP_LABEL,
    IDLE_TIMES_ANNOTATION,
    PARKED_ANNOTATION,
    PROFILE_LABEL,
    REVOKED_ANNOTATION,
    USER_ANNOTATION,
    USER_HASH_LABEL,
    UUID_LABEL,
    SessionId,
    release_name,
    scaler_name,
    selector_labels,
    user_hash,
)
from service.domain.workload import UNASSIGNED, Assignment, Workload

_KEDA_LEASE = "operator.keda.sh"
_KEDA_LEASE_MAX_AGE = timedelta(seconds=45)
"""KEDA renews its lease every few seconds (at most every 15 s by default)."""


class KubeCluster:
    """See `service.domain.ports.Cluster`. Without a `keda_namespace`, `check_keda` ignores KEDA's lease.

    A pod that waits longer than `schedule_timeout` for a node gets a warning.
    """

    def __init__(
        self, api: KubeApi, *, namespace: str, keda_namespace: str | None, schedule_timeout: timedelta
    ) -> None:
        self._api = api
        self._namespace = namespace
        self._keda_namespace = keda_namespace
        self._schedule_timeout = schedule_timeout
        self._collections = collections(namespace)

    # --- reading ---

    async def read(self, uuids: Sequence[SessionId]) -> dict[SessionId, Workload]:
        if not uuids:
            return {}
        by_release = f"owner=helm,name in ({','.join(map(release_name, uuids))})"
        found = await self._list_workloads(f"{UUID_LABEL} in ({','.join(uuids)})", by_release)
        return {uuid: found.get(uuid) or Workload(uuid) for uuid in uuids}

    async def scan(self) -> AsyncIterator[Workload]:
        for workload in (await self._list_workloads(UUID_LABEL, "owner=helm")).values():
            yield workload

    async def _list_workloads(self, by_uuid: str, by_release: str) -> dict[SessionId, Workload]:
        """List each kind once, all kinds concurrently."""
        selectors = {kind: by_release if kind is Kind.REVISION else by_uuid for kind in Kind}
        lists = await asyncio.gather(
            *(self._api.list(replace(self._collections[kind], labels=selectors[kind])) for kind in Kind)
        )
        sessions: dict[SessionId, Objects] = defaultdict(Objects)
        for kind, items in zip(Kind, lists, strict=True):
            for item in items:
                if uuid := session_id_of(kind, item):
                    sessions[uuid].put(kind, name_of(item), parse(kind, item))
        return {
            uuid: objects.workload(uuid, namespace=self._namespace, schedule_timeout=self._schedule_timeout)
            for uuid, objects in sessions.items()
        }

    async def find(self, user_id: str) -> SessionId | None:
        selector, kinds = f"{USER_HASH_LABEL}={user_hash(user_id)}", (Kind.DEPLOYMENT, Kind.CLAIM)
        searched = [replace(self._collections[kind], labels=selector, metadata=True) for kind in kinds]
        lists = await asyncio.gather(*map(self._api.list, searched))
        for kind, items in zip(kinds, lists, strict=True):
            for item in items:
                uuid = session_id_of(kind, item) if annotations(item).get(USER_ANNOTATION) == user_id else None
                if uuid is not None and not is_terminating(item):
                    return uuid
        return None

    # --- writing ---

    async def reserve(self, uuid: SessionId, user_id: str, assignment: Assignment = UNASSIGNED) -> None:
        name, labels = release_name(uuid), selector_labels(uuid)
        chosen = {PROFILE_LABEL: assignment.profile, GROUP_LABEL: assignment.group}
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": name,
                # These make helm adopt the object.
                "labels": {
                    **labels,
                    UUID_LABEL: uuid,
                    USER_HASH_LABEL: user_hash(user_id),
                    "app.kubernetes.io/managed-by": "Helm",
                    **{name: text for name, text in chosen.items() if text is not None},
                },
                "annotations": {
                    USER_ANNOTATION: user_id,
                    **({IDLE_TIMES_ANNOTATION: to_text(assignment.idle_times)} if assignment.idle_times else {}),
                    "meta.helm.sh/release-name": name,
                    "meta.helm.sh/release-namespace": self._namespace,
                },
            },
            "spec": {
                "replicas": 0,
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                # This image never runs: helm replaces it before anybody scales up.
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{"name": CONTAINER, "image": "reserved"}]},
                },
            },
        }
        path = self._collections[Kind.DEPLOYMENT].path
        if await self._api.attempt("POST", path, body=body, allowed=(HTTPStatus.CONFLICT,)) is None:
            present = await self._api.get(self._deployment(uuid))
            if present is not None and annotations(present).get(USER_ANNOTATION) != user_id:
                raise IdTaken(uuid)

    async def unreserve(self, uuid: SessionId) -> None:
        await self._api.delete(self._deployment(uuid))

    async def scale(self, uuid: SessionId, replicas: int) -> None:
        if not await self._api.patch(f"{self._deployment(uuid)}/scale", {"spec": {"replicas": replicas}}):
            raise SessionReleased

    async def park(self, uuid: SessionId) -> None:
        await self._set_paused_annotation(uuid, "true")

    async def unpark(self, uuid: SessionId) -> None:
        await self._set_paused_annotation(uuid, None)

    async def _set_paused_annotation(self, uuid: SessionId, value: str | None) -> None:
        path = self._collections[Kind.SCALER].item(scaler_name(uuid))
        await self._api.patch(path, {"metadata": {"annotations": {PAUSED: value, PARKED_ANNOTATION: value}}})

    async def revoke(self, uuid: SessionId, at: datetime) -> None:
        text = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        await self._api.patch(self._deployment(uuid), {"metadata": {"annotations": {REVOKED_ANNOTATION: text}}})

    async def delete_volume(self, uuid: SessionId) -> None:
        await self._api.delete(self._collections[Kind.CLAIM].item(release_name(uuid)))

    async def disown(self, uuid: SessionId, managers: Collection[str]) -> bool:
        name, services = release_name(uuid), f"/api/v1/namespaces/{self._namespace}/services"
        paths = [self._collections[kind].item(name) for kind in (Kind.DEPLOYMENT, Kind.CLAIM)]
        paths += [self._collections[Kind.SCALER].item(scaler_name(uuid)), f"{services}/{name}"]
        return any([await self._disown(path, managers) for path in paths])

    async def _disown(self, path: str, managers: Collection[str]) -> bool:
        metadata = as_dict((await self._api.get(path) or {}).get("metadata"))
        entries = as_dicts(metadata.get("managedFields"))
        if (left := without_agreed(entries, HELM, managers)) == entries:
            return False
        # With the version, so that nobody's change in between is lost.
        body = {"metadata": {"managedFields": left, "resourceVersion": metadata.get("resourceVersion")}}
        return await self._api.patch(path, body)

    def _deployment(self, uuid: SessionId) -> str:
        return self._collections[Kind.DEPLOYMENT].item(release_name(uuid))

    # --- health ---

    async def check(self) -> None:
        await self._api.check_readable(self._collections[Kind.DEPLOYMENT])

    async def check_keda(self) -> None:
        """Check that KEDA's objects are readable, and that its leader renews its Lease: otherwise nothing scales."""
        try:
            await self._api.check_readable(self._collections[Kind.SCALER])
        except ClusterUnavailable as error:
            if isinstance(error.__cause__, ApiRefused):
                raise KedaUnavailable("KEDA is not installed, or the service may not read its objects") from error
            raise
        if self._keda_namespace is None:
            return
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self._keda_namespace}/leases/{_KEDA_LEASE}"
        lease = await self._api.get(path)
        renewed = moment(as_dict((lease or {}).get("spec")).get("renewTime"))
        if renewed is None or datetime.now(UTC) - renewed > _KEDA_LEASE_MAX_AGE:
            raise KedaUnavailable
