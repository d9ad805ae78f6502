"""The Election port on a Lease of coordination.k8s.io.

The client library has an election as well, but it cannot release the lease: after each restart there would be no leader
until the lease expires. As in client-go, replicas do not compare clocks: a lease has expired when the local clock says
that it has not changed for its duration.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from service.adapters.kubernetes.api import InvalidResponse, KubeApi
from service.adapters.kubernetes.fields import as_dict, text
from service.domain.errors import ClusterUnavailable

NAME = "user-pods-controller"


class KubeElection:
    """See `service.domain.ports.Election`. `identity` must be unique to this process."""

    def __init__(self, api: KubeApi, *, namespace: str, identity: str, lease_duration: timedelta) -> None:
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{NAME}"
        self._identity = identity
        self.lease_duration = lease_duration
        self._observed: tuple[str, float] = ("", 0.0)
        """The lease's resourceVersion, and when this process first saw it."""

    async def acquire_or_renew(self) -> bool:
        lease = await self._api.get(self._path)
        if lease is None:
            return await self._write("POST", self._collection, {"metadata": {"name": NAME}}, self._identity)
        spec, now = as_dict(lease.get("spec")), asyncio.get_running_loop().time()
        version = text(as_dict(lease.get("metadata")).get("resourceVersion"))
        if version is None:
            raise ClusterUnavailable from InvalidResponse("a Lease without a resourceVersion")
        if self._observed[0] != version:
            self._observed = (version, now)
        holder = spec.get("holderIdentity")
        valid = now - self._observed[1] < _number(spec.get("leaseDurationSeconds"))
        if holder and holder != self._identity and valid:
            return False
        return await self._write("PUT", self._path, lease, self._identity)

    async def release(self) -> None:
        lease = await self._api.get(self._path)
        if lease is not None and as_dict(lease.get("spec")).get("holderIdentity") == self._identity:
            await self._write("PUT", self._path, lease, "")

    async def _write(self, method: str, path: str, lease: dict[str, Any], holder: str) -> bool:
        """Write the lease. Returns False when another candidate was faster."""
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
        lost = (HTTPStatus.CONFLICT, HTTPStatus.NOT_FOUND)
        return await self._api.attempt(method, path, body=body, allowed=lost) is not None


def _number(value: Any) -> float:
    """The number, or 0 when another program has written something that is not a sensible number."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6 else 0
