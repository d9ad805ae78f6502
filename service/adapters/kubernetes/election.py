"""The Election on a Lease of coordination.k8s.io.

The client library has one too, but it cannot resign, so a restart would leave the sessions without a leader for a term.
Clocks are not compared: a lease counts as run out when it has not changed for its term, by the clock of who looks.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from service.adapters.kubernetes.api import InvalidAnswer, KubeApi, Refused
from service.adapters.kubernetes.fields import Json, as_dict, text
from service.domain.errors import ClusterUnavailable

NAME = "user-pods-controller"


class KubeElection:
    """See `service.domain.ports.Election`. `identity` must be this process's own."""

    def __init__(self, api: KubeApi, *, namespace: str, identity: str, lease_duration: timedelta) -> None:
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{NAME}"
        self._identity = identity
        self.lease_duration = lease_duration
        self._seen: tuple[str, float] = ("", 0.0)
        """The lease's version, and when it was first seen."""

    async def acquire_or_renew(self) -> bool:
        lease = await self._api.get(self._path)
        if lease is None:
            return await self._write("POST", self._collection, {"metadata": {"name": NAME}}, self._identity)
        spec, version, now = as_dict(lease.get("spec")), _version(lease), asyncio.get_running_loop().time()
        if self._seen[0] != version:
            self._seen = (version, now)
        holder = spec.get("holderIdentity")
        running = now - self._seen[1] < _number(spec.get("leaseDurationSeconds"))
        if holder and holder != self._identity and running:
            return False
        return await self._write("PUT", self._path, lease, self._identity)

    async def release(self) -> None:
        lease = await self._api.get(self._path)
        if lease is not None and as_dict(lease.get("spec")).get("holderIdentity") == self._identity:
            await self._write("PUT", self._path, lease, "")

    async def _write(self, method: str, path: str, lease: dict[str, Any], holder: str) -> bool:
        """Whether it could be written; another candidate may have been faster."""
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = dict(as_dict(lease.get("spec")))
        if spec.get("holderIdentity") != holder:
            spec |= {"acquireTime": now, "leaseTransitions": int(_number(spec.get("leaseTransitions"))) + 1}
        spec |= {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(self.lease_duration.total_seconds())),
            "renewTime": now,
        }
        known = as_dict(lease.get("metadata"))
        metadata = {key: known[key] for key in ("name", "resourceVersion") if key in known}
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
        try:
            await self._api.request(method, path, body=body)
        except Refused as refused:
            if refused.status in (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND):
                return False
            raise ClusterUnavailable from refused
        return True


def _version(lease: Json) -> str:
    """Raises ClusterUnavailable for what is no object of the API."""
    version = text(as_dict(lease.get("metadata")).get("resourceVersion"))
    if version is None:
        raise ClusterUnavailable from InvalidAnswer("a Lease without a version")
    return version


def _number(value: Any) -> float:
    """0 for what somebody else wrote there and is none."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6 else 0
