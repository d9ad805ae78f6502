"""The PodEvents port: a watch on the events that the kubelet, the scheduler and others record about pods."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from service.adapters.kubernetes.api import Collection, KubeApi, ResourceVersionExpired
from service.adapters.kubernetes.fields import Json, as_dict, text
from service.domain.backoff import Backoff
from service.domain.errors import ClusterUnavailable, SessionNotFound
from service.domain.names import CONTAINER, SessionId, parse_session_id
from service.domain.progress import ProgressUpdate, Stage

_BACKOFF = (0.1, 5.0)
"""Seconds between two watches: the shortest and the longest delay."""
_HEALTHY_AFTER = 5.0
"""Seconds after which a watch counts as healthy and the backoff is reset."""


class KubePodEvents:
    """See `service.domain.ports.PodEvents`. Yields no event from before the call."""

    def __init__(self, api: KubeApi, *, namespace: str) -> None:
        self._api = api
        self._events = Collection(f"/api/v1/namespaces/{namespace}/events", fields="involvedObject.kind=Pod")

    async def updates(self) -> AsyncIterator[tuple[SessionId, str, ProgressUpdate]]:
        version, backoff, clock = "", Backoff(*_BACKOFF), asyncio.get_running_loop().time
        while True:
            begun = clock()
            try:
                version = version or await self._api.check_readable(self._events)  # only new events
                async with contextlib.aclosing(self._api.watch(self._events, version)) as changes:
                    async for change, item in changes:
                        version = text(as_dict(item.get("metadata")).get("resourceVersion")) or version
                        update = _parse(item) if change in ("ADDED", "MODIFIED") else None
                        if update is not None:
                            yield update
            except ResourceVersionExpired as expired:
                raise ClusterUnavailable from expired
            if clock() - begun >= _HEALTHY_AFTER:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())


def _parse(event: Json) -> tuple[SessionId, str, ProgressUpdate] | None:
    """The session, pod uid and update in the event; None when it is irrelevant to a wake."""
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
