"""The requests and WebSockets that are open, each by the session cookie that admitted it.

A cookie is checked when a request begins. A download or a WebSocket may last for days, so it has to end when its cookie
is no longer valid because somebody has revoked it.
"""

from collections.abc import Callable

from service.domain.access import WorkspaceAccess
from service.domain.names import SessionId
from service.domain.ports import WorkloadCache

Closer = Callable[[], None]
"""Ends one request. Returns at once."""


class OpenRequests:
    """Ends the requests of a session as soon as the cache shows that their cookies are refused."""

    def __init__(self, access: WorkspaceAccess, cache: WorkloadCache) -> None:
        self._access = access
        self._open: dict[SessionId, dict[Closer, int]] = {}
        """By session: what ends each request, and when its user signed in."""
        self._unsubscribe = cache.subscribe(self._on_change)

    def add(self, uuid: SessionId, since: int, closer: Closer) -> None:
        """`since` is when the request's user signed in, in seconds since 1970."""
        self._open.setdefault(uuid, {})[closer] = since

    def remove(self, uuid: SessionId, closer: Closer) -> None:
        requests = self._open[uuid]
        del requests[closer]
        if not requests:
            del self._open[uuid]

    def end(self, uuid: SessionId, since: int) -> None:
        """End the requests of the browser that signed in at `since`."""
        for closer in [closer for closer, begun in self._open.get(uuid, {}).items() if begun == since]:
            closer()

    def close(self) -> None:
        self._unsubscribe()

    def _on_change(self, uuid: SessionId) -> None:
        requests = self._open.get(uuid)
        if not requests:
            return
        earliest = self._access.earliest_sign_in(uuid)
        for closer in [closer for closer, since in requests.items() if since < earliest]:
            closer()
