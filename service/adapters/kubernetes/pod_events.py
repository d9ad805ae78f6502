"""The PodEvents: a watch on the events that kubelet, scheduler and others leave about pods."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.adapters.kubernetes.api import Expired, KubeApi
from service.adapters.kubernetes.fields import Json, as_dict, text
from service.domain.backoff import Backoff
from service.domain.errors import ClusterUnavailable, SessionNotFound
from service.domain.names import CONTAINER, SessionId, parse_session_id
from service.domain.progress import ProgressUpdate, Stage

_PODS = "involvedObject.kind=Pod"
_BACKOFF = (0.1, 5.0)
"""Seconds between two watches: the first pause, and the longest."""
_STEADY = 5.0
"""Seconds after which a watch counts as one that works."""


class KubePodEvents:
    """See `service.domain.ports.PodEvents`. What happened before is not told."""

    def __init__(self, api: KubeApi, *, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/events"

    async def news(self) -> AsyncIterator[tuple[SessionId, str, ProgressUpdate]]:
        version, backoff, clock = "", Backoff(*_BACKOFF), asyncio.get_running_loop().time
        while True:
            begun = clock()
            try:
                version = version or await self._now()
                async with contextlib.aclosing(self._api.watch(self._path, "", version, fields=_PODS)) as changes:
                    async for change, item in changes:
                        version = text(as_dict(item.get("metadata")).get("resourceVersion")) or version
                        told = _told(item) if change in ("ADDED", "MODIFIED") else None
                        if told is not None:
                            yield told
            except Expired as expired:
                raise ClusterUnavailable from expired
            if clock() - begun >= _STEADY:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())

    async def _now(self) -> str:
        """The version from which only what happens from now on is told."""
        async for _, version in self._api.pages(self._path, "", fields=_PODS, size=1):
            return version
        raise ClusterUnavailable


def _told(event: Json) -> tuple[SessionId, str, ProgressUpdate] | None:
    """None for what is of no interest to anybody who waits for a pod."""
    involved, reason = as_dict(event.get("involvedObject")), text(event.get("reason")) or "Unknown"
    prefix, _, rest = str(involved.get("name", "")).partition("-")
    try:
        uuid = parse_session_id(rest.partition("-")[0] if prefix == "user" else "")
    except SessionNotFound:
        return None
    uid = str(involved.get("uid", ""))
    if event.get("type") == "Warning":
        return uuid, uid, ProgressUpdate(Stage.WARNING, f"{reason}: {(text(event.get('message')) or '').strip()[:500]}")
    if reason == "Pulled" and f"{{{CONTAINER}}}" in (text(involved.get("fieldPath")) or ""):
        return uuid, uid, ProgressUpdate(Stage.PULLED)
    return None
