"""The WebSocket between the companions of all open pages and the gateway."""

import asyncio

from aiohttp import hdrs, web

from service.domain.metrics import RequestOutcome
from service.domain.names import SessionId
from service.gateway.access.cookie_header import renew
from service.gateway.access.fetch_metadata import is_websocket
from service.gateway.activity.measured import browser_of
from service.gateway.companion.session_tabs import SessionTabs, Surroundings
from service.gateway.companion.tab import Tab
from service.gateway.errors import OWN_HEADERS, GatewayError
from service.gateway.request_outcome import OutcomeRecorder
from service.gateway.texts import catalogue
from service.gateway.websocket.open_websockets import OpenWebSockets

TABS = 64
"""Companions of one session that may be connected at a time. They do not count against the pod's WebSockets."""


class CompanionChannel:
    """Serves every tab that this replica has; tabs of the same session share what is read for them."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._sockets = OpenWebSockets(TABS)
        self._sessions: dict[SessionId, SessionTabs] = {}
        self._unsubscribe = surroundings.cache.subscribe(self._on_change)

    def __len__(self) -> int:
        return len(self._sockets)

    async def serve(self, request: web.BaseRequest, uuid: SessionId, outcome: OutcomeRecorder) -> web.StreamResponse:
        """Serve one tab until it closes. Raises GatewayError. Access and origin have been checked."""
        if not is_websocket(request):
            raise GatewayError(426, "Upgrade required", "Only the workspace's own pages use this address.")
        presence = self._surroundings.presence
        with (
            self._sockets.place(uuid),
            self._sockets.opened(request) as closing,
            presence.connected(uuid, browser_of(request)),
        ):
            outcome.ended(RequestOutcome.OWN)
            tab = Tab(request.transport)
            tab.response.headers.update(OWN_HEADERS)
            renew(request, 101, tab.response.headers)
            await tab.response.prepare(request)
            tabs = self._sessions.get(uuid)
            if tabs is None:
                tabs = self._sessions[uuid] = SessionTabs(uuid, self._surroundings)
            try:
                await tabs.join(tab, dict(catalogue.texts(request.headers.get(hdrs.ACCEPT_LANGUAGE, ""))))
                await tab.run(tabs.on_message, closing)
            finally:
                tabs.leave(tab)
                if tabs.is_empty and self._sessions.get(uuid) is tabs:
                    del self._sessions[uuid]
                    await tabs.close()
            return tab.response

    def end(self, request: web.BaseRequest) -> None:
        """End the request at once, because its user's access has ended. Its page loads again, to say so."""
        self._sockets.end(request)

    async def drain(self, seconds: float) -> None:
        """Close all tabs' connections within that many seconds. They connect to another replica."""
        await self._sockets.close(seconds)

    async def close(self) -> None:
        self._unsubscribe()
        await asyncio.gather(*(tabs.close() for tabs in self._sessions.values()))

    def _on_change(self, uuid: SessionId) -> None:
        tabs = self._sessions.get(uuid)
        if tabs is not None:
            tabs.on_workload_change()
