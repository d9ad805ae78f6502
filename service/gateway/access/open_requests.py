"""The requests and WebSockets that are open, each by the session cookie that admitted it.

A cookie is checked when a request begins. A download or a WebSocket may last for days, so it has to end when its cookie
is no longer valid because somebody has revoked it.
"""

import logging
from collections.abc import Callable

from service.domain.access import WorkspaceAccess
from service.domain.errors import Unavailable
from service.domain.names import SessionId
from service.domain.ports import SignOuts, WorkloadCache

log = logging.getLogger(__name__)

Closer = Callable[[], None]
"""Ends one request. Returns at once."""


class OpenRequests:
    """Ends the requests of a session as soon as the cache shows that their cookies are refused.

    Those of one browser end when it signs out, at whichever replica.
    """

    def __init__(self, access: WorkspaceAccess, cache: WorkloadCache, sign_outs: SignOuts) -> None:
        self._access = access
        self._sign_outs = sign_outs
        self._open: dict[SessionId, dict[Closer, int]] = {}
        """By session: what ends each request, and when its user signed in."""
        self._unsubscribe = (cache.subscribe(self._on_change), sign_outs.subscribe(self._on_sign_out))

    def add(self, uuid: SessionId, since: int, closer: Closer) -> None:
        """`since` is when the request's user signed in, in seconds since 1970."""
        self._open.setdefault(uuid, {})[closer] = since

    def remove(self, uuid: SessionId, closer: Closer) -> None:
        requests = self._open[uuid]
        del requests[closer]
        if not requests:
            del self._open[uuid]

    async def end(self, uuid: SessionId, since: int) -> None:
        """End the requests of the browser that signed in at `since`, at every replica that can be reached."""
        self._on_sign_out(uuid, since)
        try:
            await self._sign_outs.publish(uuid, since)
        except Unavailable as error:
            log.warning("a sign-out ended nothing at other replicas: %s", error, extra={"uuid": uuid})

    def _on_sign_out(self, uuid: SessionId, since: int) -> None:
        for closer in [closer for closer, begun in self._open.get(uuid, {}).items() if begun == since]:
            closer()

    def close(self) -> None:
        for unsubscribe in self._unsubscribe:
            unsubscribe()

    def _on_change(self, uuid: SessionId) -> None:
        requests = self._open.get(uuid)
        if not requests:
            return
        earliest = self._access.earliest_sign_in(uuid)
        for closer in [closer for closer, since in requests.items() if since < earliest]:
            closer()
