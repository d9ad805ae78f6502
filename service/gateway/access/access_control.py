"""Decides who may enter a workspace: exchanges tickets for session cookies, and checks and renews those."""

import sys

from aiohttp import hdrs, web

from service.domain.access import ValidCookie, WorkspaceAccess
from service.domain.errors import Unavailable
from service.domain.names import SessionId
from service.gateway.access import sign_out, ticket_page
from service.gateway.access.cookie_header import RENEWED, session_cookies, set_cookie
from service.gateway.access.fetch_metadata import is_navigation, is_same_origin
from service.gateway.access.home import Home, is_local_path
from service.gateway.errors import OWN_HEADERS, GatewayError, PageKind
from service.gateway.pages.pages import Pages

_CROSS_ORIGIN = "Pages of other hosts may not use or embed this workspace. Open it in its own tab."

_ALWAYS = sys.maxsize
"""Where everybody is let in, no revocation ends a request."""


class AccessControl:
    """`closed`: every request needs a session cookie. `home`: the page that signs users in, if there is one."""

    def __init__(self, access: WorkspaceAccess, pages: Pages, *, closed: bool, home: Home | None = None) -> None:
        self._access = access
        self._pages = pages
        self._closed = closed
        self._home = home

    def known_since(self, request: web.BaseRequest, uuid: SessionId) -> int | None:
        """When the request's user signed in, in seconds since 1970; None when a check is due.

        Nearly every request brings a cookie that has been checked before.
        """
        if not self._closed:
            return _ALWAYS
        cookies = session_cookies(request)
        return self._access.known_since(cookies[0], uuid) if len(cookies) == 1 else None

    async def check(self, request: web.BaseRequest, uuid: SessionId) -> int:
        """Check the session cookie, and return when its user signed in. Raises GatewayError.

        If the cookie is renewed, the response will set the new one.
        """
        cookie = await self._valid_cookie(request, uuid)
        if cookie is None:
            raise GatewayError(
                401,
                "You are not signed in to this workspace",
                "Open it again from the page that led you here.",
                page=PageKind.NOT_SIGNED_IN,
                sign_in=self._sign_in_url(uuid, request.raw_path),
            )
        if cookie.renewed is not None:
            request[RENEWED] = self._set_cookie(cookie.renewed)
        return cookie.since

    @staticmethod
    def check_origin(request: web.BaseRequest) -> None:
        """Raises GatewayError for requests from another host's page.

        Hosts of other users are the same site to a browser, so it sends the session cookie with their requests too.
        """
        if not is_navigation(request) and not is_same_origin(request):
            raise GatewayError(403, "Cross-site request refused", _CROSS_ORIGIN)

    async def sign_out(self, request: web.BaseRequest, uuid: SessionId) -> tuple[web.Response, int | None]:
        """Remove the browser's cookie. Also returns when its user had signed in; None without a valid cookie.

        Needs no valid cookie. Raises GatewayError for another host's page.
        """
        if not sign_out.is_signing_out(request):
            return sign_out.workspace_page(self._pages, request), None
        self.check_origin(request)
        try:
            cookie = await self._valid_cookie(request, uuid)
        except Unavailable:
            cookie = None  # whatever it is, the browser loses it
        everywhere = self._home.sign_out_url if self._home is not None else None
        response = sign_out.workspace_left(self._pages, request, self._sign_in_url(uuid, "/"), everywhere)
        return response, cookie.since if cookie is not None else None

    async def exchange_ticket(self, request: web.BaseRequest, uuid: SessionId) -> web.StreamResponse:
        """Sign in whoever opens a link, and redirect to the page that it names. Raises GatewayError."""
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST):
            raise GatewayError(405, "Not allowed", "Open a link by GET or POST.")
        if ticket_page.is_prefetched(request):
            raise GatewayError(
                503,
                "Link not opened yet",
                "The browser fetched this link ahead of time. Open it to enter.",
                page=PageKind.NOT_OPENED,
            )
        if not ticket_page.is_opened(request):
            return self._pages.render(request, "ticket.html", forms=True)
        target = request.query.get("to", "/")
        target = target if is_local_path(target) else "/"
        cookie = await self._redeem(request, uuid, target)
        headers = {**OWN_HEADERS, hdrs.LOCATION: target}
        response = web.Response(status=303, headers=headers)
        if cookie is not None:
            response.headers[hdrs.SET_COOKIE] = cookie
        return response

    async def _redeem(self, request: web.BaseRequest, uuid: SessionId, target: str) -> str | None:
        """A cookie for the ticket; None when the ticket is used but the browser already has a valid cookie."""
        try:
            value = await self._access.redeem(request.query.get("ticket", ""), uuid)
        except Unavailable:
            if await self._valid_cookie(request, uuid) is None:
                raise
            return None
        if value is not None:
            return self._set_cookie(value)
        if self._closed and await self._valid_cookie(request, uuid) is None:
            raise GatewayError(
                403,
                "This link has been used or has expired",
                "Open the workspace again from the page that led you here.",
                page=PageKind.LINK_USED,
                sign_in=self._sign_in_url(uuid, target),
            )
        return None

    async def _valid_cookie(self, request: web.BaseRequest, uuid: SessionId) -> ValidCookie | None:
        cookies = session_cookies(request)
        return await self._access.check_cookie(cookies[0], uuid) if len(cookies) == 1 else None

    def _set_cookie(self, value: str) -> str:
        return set_cookie(value, self._access.seconds_left(value))

    def _sign_in_url(self, uuid: SessionId, target: str) -> str | None:
        return self._home.sign_in_url(uuid, target) if self._home is not None else None
