"""Access control of the API: who calls, and whether they may. Every request passes here, and only here."""

from typing import Protocol

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from service.domain import wake_cause
from service.domain.api_keys import ApiKeys
from service.domain.errors import SessionError, SessionNotFound, Unavailable
from service.domain.names import SessionId
from service.domain.people import People, PersonNotAdmitted
from service.domain.permissions import Caller, CallerRole, Reach, reach, user_for_rates
from service.domain.queries import SessionQueries
from service.domain.rate_limits import RateLimits
from service.edge.addresses import is_loopback_host
from service.web.caller import CALLER, is_page, operation
from service.web.problems import RequestRefused

OPEN = frozenset(
    {
        "/health", "/livez", "/readyz", "/", "/openapi.json", "/docs",
        "/dashboard/sign-in", "/dashboard/provider", "/dashboard/callback", "/dashboard/sign-out",
    }
)  # fmt: skip
"""Paths that need no key, since they reveal nothing about users."""
_DOTS_OF_A_TOKEN = 2
OPEN_BELOW = ("/docs/", "/problems/", "/dashboard/assets/")
LOCAL = Caller(name=wake_cause.API, role=CallerRole.OPERATOR)
"""Any program on this machine, where there are no keys."""


def caller(request: web.Request) -> Caller:
    return request[CALLER]


def user(request: web.Request, asked: str | None) -> str | None:
    """The user whom the request is about: the one that it asks for, or the caller's only one.

    Raises RequestRefused when the caller may not act for the user.
    """
    only = caller(request).user_id
    if only is None:
        return asked
    if asked not in (None, only):
        raise RequestRefused("forbidden", "the caller may act for one user only, and this is another")
    return only


class Visitors(Protocol):
    """Who is signed in to the dashboard."""

    async def visitor(self, request: web.Request) -> Caller:
        """Raises RequestRefused, or a redirect to the page that signs people in."""


class Gate:
    """Lets in whom the keys know, and people with tokens, to what the table of permissions allows.

    `visitors` use the dashboard: what their cookies say counts there, and nowhere else.
    """

    def __init__(
        self,
        keys: ApiKeys,
        people: People | None,
        queries: SessionQueries,
        rates: RateLimits | None = None,
        visitors: Visitors | None = None,
    ) -> None:
        self._visitors = visitors
        self._keys = keys
        self._people = people
        self._rates = rates
        self._queries = queries

    async def admit(self, request: web.Request) -> None:
        """Note who calls. Raises RequestRefused, TooManyRequests; SessionNotFound for a session of somebody else."""
        found = request[CALLER] = await self._find(request)
        route, uuid = operation(request), request.match_info.get("uuid")
        if self._rates is not None:
            self._rates.count(caller=found.name_for_rates, user=user_for_rates(route or "", found, uuid))
        if route is not None:  # otherwise there is nothing behind it but "not found"
            await self._allow(found, route, uuid)

    async def still_admits(self, request: web.Request) -> bool:
        """Whether the request would be let in now: keys and tokens are revoked, and expire, while a stream is open."""
        try:
            await self._allow(await self._find(request), operation(request) or "", request.match_info.get("uuid"))
        except (RequestRefused, SessionNotFound, web.HTTPException):
            return False
        except Unavailable:
            pass  # nobody says that it was revoked
        return True

    async def _find(self, request: web.Request) -> Caller:
        if self._visitors is not None and is_page(request):
            return await self._visitors.visitor(request)
        return await self._authenticate(request.headers.get("Authorization", ""))

    async def _allow(self, caller: Caller, route: str, uuid: str | None) -> None:
        allowed = reach(route, caller)
        if allowed is Reach.NOBODY:
            raise RequestRefused("forbidden", f"the role {caller.role} may not do this")
        if caller.user_id is not None and (allowed is Reach.OWN or caller.since is not None):
            about = SessionId(uuid) if uuid is not None else None
            await self._check_own(caller.user_id, about, caller.since)
        elif caller.person is not None and caller.since is not None:
            await self._check_revocation(caller.person, caller.since)

    async def _authenticate(self, header: str) -> Caller:
        scheme, _, credential = header.partition(" ")
        credential = credential.strip()
        found = self._keys.caller(credential)
        if found is None and self._people is not None and credential.count(".") == _DOTS_OF_A_TOKEN:
            try:
                found = await self._people.caller(credential)
            except PersonNotAdmitted:
                raise RequestRefused(
                    "forbidden", "the token is genuine, but its user may not use this service"
                ) from None
        if found is None or scheme.lower() != "bearer":
            raise RequestRefused("unauthorized", "send a valid key or token as `Authorization: Bearer <key>`")
        return found

    async def _check_own(self, user_id: str, uuid: SessionId | None, since: int | None) -> None:
        """An unknown session and somebody else's take the same steps, and get the same answer.

        Without a session in the path, the request is about the one that the user has, if any.
        """
        if uuid is not None and not await self._queries.owns(user_id, uuid):
            raise SessionNotFound
        if since is not None:
            self._refuse_revoked(uuid or await self._queries.session_of(user_id), since)

    async def _check_revocation(self, user_id: str, since: int) -> None:
        """Of an operator or a viewer, who looks for faults while Redis is away, too."""
        try:
            own = await self._queries.session_of(user_id)
        except SessionError:
            return  # nobody says that it was revoked
        self._refuse_revoked(own, since)

    def _refuse_revoked(self, own: SessionId | None, since: int) -> None:
        if own is not None and self._queries.revoked_since(own, since):
            raise RequestRefused("unauthorized", "access was revoked since you signed in; sign in again")


def middleware(gate: Gate | None) -> Middleware:
    """Without a gate, only loopback is served, and everybody there may do everything."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN or request.path.startswith(OPEN_BELOW):
            return await handler(request)
        if gate is not None:
            await gate.admit(request)
        elif request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            # A web page in the same machine's browser must not use what is there for programs.
            raise RequestRefused("cross-site", "pages of other sites may not call a service without keys")
        elif not is_loopback_host(request.headers.get(hdrs.HOST, "localhost")):
            # A page's own name may lead to this machine, too: then the browser takes the two for one site.
            raise RequestRefused(
                "cross-site",
                "without keys, call the service as localhost or 127.0.0.1; API_KEYS lets it have other names",
            )
        else:
            request[CALLER] = LOCAL
        return await handler(request)

    return check
