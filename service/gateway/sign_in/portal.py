"""Serves the domain itself: signs users in at the identity provider, leads them into their workspace, signs them out.

Workspaces are other hosts of the same site, so their pages may lead here but not post here, and no cookie of this host
reaches them.
"""

from collections.abc import Callable
from urllib.parse import quote, unquote, urlencode, urlsplit

from aiohttp import hdrs, web

from service.domain.errors import SessionError
from service.domain.identity import SignInFailure, SignInRefused
from service.domain.names import SessionId
from service.domain.request_context import current_request_id
from service.domain.sign_in import SignIn, Target, User
from service.gateway.access import sign_out
from service.gateway.access.access_control import AccessControl
from service.gateway.access.fetch_metadata import is_navigation
from service.gateway.access.home import is_local_path
from service.gateway.access.hosts import Hosts
from service.gateway.access.ticket_page import is_prefetched
from service.gateway.errors import OWN_HEADERS, GatewayError, PageKind, of_session_error
from service.gateway.pages.pages import Pages
from service.gateway.proxy.headers import Forwarding
from service.gateway.sign_in import cookies, provider_answer
from service.gateway.sign_in.failures import SIGN_IN, SIGN_OUT, page_of
from service.gateway.sign_in.provider_answer import single

CALLBACK = "/.user-pods/callback"
SIGNED_OUT = "/.user-pods/signed-out"
_LONGEST_PATH = 1000
"""Characters of a path that is kept in a cookie over a sign-out, where each may take three."""


class SignInPortal:
    """Call it with a request for the domain. `origin` returns scheme and host of a session's workspace."""

    def __init__(
        self,
        sign_in: SignIn,
        hosts: Hosts,
        origin: Callable[[SessionId], str],
        pages: Pages,
        forwarding: Forwarding,
    ) -> None:
        self._sign_in = sign_in
        self._forwarding = forwarding
        self._pages = pages
        self._hosts = hosts
        self._origin = origin
        self._handlers = {
            "/": self._enter,
            SIGN_IN: self._enter,
            CALLBACK: self._complete,
            SIGN_OUT: self._sign_out,
            SIGNED_OUT: self._signed_out,
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Raises GatewayError and SessionError."""
        handler = self._handlers.get(request.raw_path.partition("?")[0])
        if handler is None:
            raise GatewayError(404, "Not found", "There is nothing at this address.", page=PageKind.NOT_FOUND)
        return await handler(request)

    async def _enter(self, request: web.BaseRequest) -> web.StreamResponse:
        """Lead the user into their workspace, by way of the provider if they are not signed in."""
        _check_opened(request)
        target = self._asked(single(request, "return_to"))
        try:
            user = await self._sign_in.user(cookies.read(request, cookies.USER))
            if user is not None and (led := await self._lead(user, target)) is not None:
                return led
            choose = bool(cookies.read(request, cookies.CHOOSE))
            begun = await self._sign_in.begin(target, choose_account=choose)
        except SignInRefused as refused:
            raise page_of(refused, self._again(target)) from refused
        response = _redirect(302, begun.url)
        if (name := cookies.attempt_name(begun.state)) is not None:
            for each in cookies.surplus_attempts(request, begun.cookie):
                cookies.add(response, each, "", 0)
            cookies.add(response, name, begun.cookie, cookies.ATTEMPT_SECONDS)
        return response

    async def _complete(self, request: web.BaseRequest) -> web.StreamResponse:
        """The provider sends the user back."""
        _check_opened(request)
        answer = provider_answer.read(request)
        name = cookies.attempt_name(answer.state)
        attempt = cookies.read(request, name) if name else ""
        try:
            signed_in = await self._sign_in.complete(attempt, answer, client=self._forwarding.client(request))
        except SignInRefused as refused:
            response = await self._not_completed(request, refused, await self._sign_in.target(attempt))
            if name is not None and refused.failure is not SignInFailure.BUSY:
                cookies.add(response, name, "", 0)
            return response
        response = await self._lead_or_explain(request, signed_in.user, signed_in.target)
        cookies.add(response, cookies.USER, signed_in.cookie, signed_in.seconds)
        if name is not None:
            cookies.add(response, name, "", 0)
        if cookies.read(request, cookies.CHOOSE):
            cookies.add(response, cookies.CHOOSE, "", 0)
        return response

    async def _not_completed(
        self, request: web.BaseRequest, refused: SignInRefused, target: Target | None
    ) -> web.StreamResponse:
        used = refused.failure in (SignInFailure.EXPIRED, SignInFailure.CODE_REFUSED)
        if used and await self._is_signed_in(request):
            return _redirect(303, self._again(target))  # the page was loaded again, or this is another tab
        return self._explain(request, page_of(refused, self._again(target)))

    async def _lead(self, user: User, target: Target | None) -> web.Response | None:
        link = await self._sign_in.link(user, target)
        return _redirect(303, link.url) if link is not None else None

    async def _lead_or_explain(self, request: web.BaseRequest, user: User, target: Target | None) -> web.StreamResponse:
        """The user stays signed in, also if they may not open what they asked for."""
        try:
            # Access was revoked after the sign-in began, or in the same second: the provider is asked once more.
            return await self._lead(user, target) or _redirect(303, self._again(target))
        except SignInRefused as refused:
            return self._explain(request, page_of(refused, self._again(target)))
        except SessionError as failed:
            return self._explain(request, of_session_error(failed))

    def _explain(self, request: web.BaseRequest, error: GatewayError) -> web.Response:
        return self._pages.refusal(request, error, name=current_request_id(), home="/")

    async def _sign_out(self, request: web.BaseRequest) -> web.StreamResponse:
        """Sign out here, and at the provider if it has a page for that. Workspaces that are open stay open."""
        try:
            provider = await self._sign_in.provider.sign_out_url()
        except SignInRefused:
            provider = None
        if not sign_out.is_signing_out(request):
            return sign_out.domain_page(self._pages, request, provider)
        AccessControl.check_origin(request)
        response = _redirect(303, provider or SIGNED_OUT)
        cookies.add(response, cookies.USER, "", 0)
        target = self._asked(single(request, "return_to"))
        asked = quote(self._url(target), safe="") if target is not None and len(target.path) <= _LONGEST_PATH else ""
        cookies.add(response, cookies.ASKED, asked, cookies.ASKED_SECONDS if asked else 0)
        if provider is None:
            cookies.add(response, cookies.CHOOSE, "1", cookies.CHOOSE_SECONDS)
        return response

    async def _signed_out(self, request: web.BaseRequest) -> web.StreamResponse:
        _check_opened(request)
        target = self._asked(unquote(cookies.read(request, cookies.ASKED)))
        return sign_out.domain_left(self._pages, request, self._again(target))

    async def _is_signed_in(self, request: web.BaseRequest) -> bool:
        return await self._sign_in.user(cookies.read(request, cookies.USER)) is not None

    def _asked(self, given: str | None) -> Target | None:
        """The page of that URL, if it is one of a workspace here."""
        if given is None:
            return None
        try:
            parts = urlsplit(given)
        except ValueError:
            return None
        uuid = self._hosts.session(parts.netloc)
        path = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
        if uuid is None or f"{parts.scheme}://{parts.netloc}" != self._origin(uuid) or not is_local_path(path):
            return None
        return Target(uuid, path)

    def _again(self, target: Target | None) -> str:
        if target is None:
            return "/"
        return f"{SIGN_IN}?{urlencode({'return_to': self._url(target)})}"

    def _url(self, target: Target) -> str:
        return self._origin(target.uuid) + target.path


def _check_opened(request: web.BaseRequest) -> None:
    """Raises GatewayError unless a person opens the page."""
    if request.method != hdrs.METH_GET or not is_navigation(request) or is_prefetched(request):
        raise GatewayError(401, "You are not signed in", "Open this address in a browser to sign in.")


def _redirect(status: int, url: str) -> web.Response:
    return web.Response(status=status, headers={**OWN_HEADERS, hdrs.LOCATION: url})
