"""Who is signed in, by the cookie of their browser."""

from aiohttp import hdrs, web

from service.dashboard import paths
from service.domain.browser_sessions import BrowserSession, BrowserSessions
from service.domain.permissions import Caller
from service.edge.addresses import authority, host_of, is_loopback_host
from service.gateway.access.fetch_metadata import is_navigation
from service.gateway.sign_in import cookies
from service.web.problems import RequestRefused

_NAME = "user-pods-dashboard"
_LONGEST = 2000
_FILLING_IN = 900
"""Seconds that somebody may take over a form."""
_SESSION = web.RequestKey("dashboard session", BrowserSession)


class Visitors:
    """`origin` is where browsers reach the dashboard; empty: wherever the request says.

    Cookies are `Secure` everywhere but on this very machine, where there may be no TLS.
    """

    def __init__(self, sessions: BrowserSessions, origin: str = "") -> None:
        self.sessions = sessions
        self._origin = origin

    async def visitor(self, request: web.Request) -> Caller:
        """Raises RequestRefused, and for a page that was opened without a sign-in a redirect to where to sign in.

        Operators and viewers whose role has to be asked for again are led by way of the provider, which asks them
        nothing while they are signed in there. A form that they have begun to fill in is still accepted.
        """
        self._check_purpose(request)
        session = await self.session(request)
        reads = request.method in (hdrs.METH_GET, hdrs.METH_HEAD)
        if session is not None and session.overdue <= (0 if reads else _FILLING_IN):
            request[_SESSION] = session
            return session.caller
        if not reads:
            raise RequestRefused("unauthorized", "you are not signed in, or no longer; sign in and try again")
        if "text/event-stream" in request.headers.get(hdrs.ACCEPT, ""):
            raise web.HTTPNoContent  # the page notices, and loads itself again
        target = paths.sign_in(request.raw_path) if session is None else paths.at_provider(request.raw_path)
        if request.headers.get("HX-Request"):
            raise web.HTTPNoContent(headers={"HX-Redirect": target})
        raise web.HTTPSeeOther(target)

    async def session(self, request: web.Request) -> BrowserSession | None:
        """The browser's session, if it has not ended."""
        cookie = self._cookie(request)
        return await self.sessions.read(cookie) if cookie else None

    def keep(self, request: web.Request, response: web.StreamResponse, cookie: str) -> None:
        """Let the response sign the browser in."""
        self._set(request, response, cookie, self.sessions.seconds)

    def forget(self, request: web.Request, response: web.StreamResponse) -> None:
        """Let the response sign the browser out."""
        self._set(request, response, "", 0)

    def check_origin(self, request: web.BaseRequest) -> None:
        """Raises RequestRefused unless a page of this very origin has sent the form."""
        site = request.headers.get("Sec-Fetch-Site")
        origins = request.headers.getall(hdrs.ORIGIN, ())
        own = {authority(request.host), *([host_of(self._origin)] if self._origin else [])}
        known = len(origins) == 1 and host_of(origins[0]) in own
        # No page can set Sec-Fetch-Site. Browsers leave it out without TLS, and then say at least their origin.
        if site != "same-origin" and not (site is None and known):
            raise RequestRefused("cross-site", "forms are accepted only from the dashboard's own pages")

    @staticmethod
    def _check_purpose(request: web.BaseRequest) -> None:
        """Raises RequestRefused for what another site's page loads, instead of leading its user here.

        To a browser workspaces are the same site, so it sends the cookie with what their pages load. They cannot read
        the answer, but could learn from how long it takes, or use up the visitor's streams.
        """
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site") and not is_navigation(request):
            raise RequestRefused("cross-site", "pages of other sites may lead here, and load nothing from here")

    def _set(self, request: web.BaseRequest, response: web.StreamResponse, value: str, seconds: int) -> None:
        secure = "; Secure" if self._is_secure(request) else ""
        response.headers.add(
            hdrs.SET_COOKIE,
            f"{self._name(request)}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}",
        )

    def _cookie(self, request: web.BaseRequest) -> str:
        """The cookie's value; empty when there is none, more than one, or one that is too long."""
        cookie = cookies.read(request, self._name(request))
        return cookie if len(cookie) <= _LONGEST else ""

    def _name(self, request: web.BaseRequest) -> str:
        # No other host of the domain can set a cookie with this prefix.
        return f"__Host-{_NAME}" if self._is_secure(request) else _NAME

    def _is_secure(self, request: web.BaseRequest) -> bool:
        if self._origin:
            return self._origin.startswith("https://")
        # A proxy with TLS may call the service by its own address on this machine.
        behind_tls = request.headers.get("X-Forwarded-Proto", "").lower().startswith("https")
        return behind_tls or not is_loopback_host(request.host)


def form_token(request: web.Request) -> str:
    """What the forms of this visitor's pages contain; empty for nobody."""
    session = request.get(_SESSION)
    return session.form_token if session is not None else ""
