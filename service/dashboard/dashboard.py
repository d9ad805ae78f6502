"""The pages of the dashboard, by their addresses."""

from collections.abc import Mapping, Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from service.dashboard import paths, refusals, session_page
from service.dashboard.live import LiveStreams
from service.dashboard.pages import DashboardPages
from service.dashboard.session_list import ListQuery, SessionList
from service.dashboard.sign_in import SignInPages
from service.domain.names import SESSION_ID_PATTERN, SessionId, is_session_id
from service.domain.queries import SessionQueries
from service.web.access import caller
from service.web.caller import PAGES
from service.web.problems import RequestRefused

LABELS: Final[Mapping[str, str]] = {
    "asleep": "Asleep",
    "waking": "Waking up",
    "ready": "Awake",
    "failed": "Does not start",
    "deleting": "Being deleted",
    "released": "Removed",
}
"""By phase."""
_MOST_LIVE = 50


class Dashboard:
    """See `service.web.app.Pages`."""

    def __init__(
        self,
        *,
        pages: DashboardPages,
        sign_in: SignInPages,
        sessions: SessionList,
        queries: SessionQueries,
        live: LiveStreams,
    ) -> None:
        self._pages = pages
        self._sign_in = sign_in
        self._sessions = sessions
        self._queries = queries
        self._live = live

    def routes(self) -> Sequence[web.RouteDef]:
        """A name begins with PAGES and the operation that access control asks about."""
        session = f"{paths.SESSIONS}/{{uuid:{SESSION_ID_PATTERN}}}"
        return [
            web.get(paths.SIGN_IN, self._sign_in.show, name=f"{PAGES}sign_in"),
            web.post(paths.SIGN_IN, self._sign_in.by_key, name=f"{PAGES}sign_in"),
            web.get(paths.PROVIDER, self._sign_in.at_provider, name=f"{PAGES}sign_in.provider"),
            web.get(paths.CALLBACK, self._sign_in.from_provider, name=f"{PAGES}sign_in.callback"),
            web.post(paths.SIGN_OUT, self._sign_in.sign_out, name=f"{PAGES}sign_out"),
            web.get(f"{paths.ASSETS}/{{digest:[0-9a-f]+}}/{{name}}", self._pages.asset, name=f"{PAGES}asset"),
            web.get(paths.ROOT, self._list, name=f"{PAGES}list_sessions"),
            web.get(paths.LIVE, self._list_live, name=f"{PAGES}list_sessions.live"),
            web.get(session, self._session, name=f"{PAGES}status"),
            web.get(f"{session}/live", self._session_live, name=f"{PAGES}status.live"),
        ]

    @web.middleware
    async def explain(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        return await refusals.explain(self._pages, request, handler)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        only = caller(request).user_id
        if only is not None:
            return await self._own(request, only)
        query = ListQuery.parse(request.query)
        behind = self._queries.behind()
        return self._pages.page(
            request,
            "sessions.html",
            list=await self._sessions.page(query),
            labels=LABELS,
            behind=int(behind.total_seconds()) if behind is not None else 0,
            done=None,
        )

    async def _own(self, request: web.Request, user_id: str) -> web.StreamResponse:
        uuid = await self._queries.session_of(user_id)
        if uuid is None:
            return self._pages.page(request, "no_session.html")
        raise web.HTTPSeeOther(f"{paths.SESSIONS}/{uuid}")

    async def _list_live(self, request: web.Request) -> web.StreamResponse:
        if caller(request).user_id is not None:
            raise RequestRefused("forbidden", "the caller may see one session only")
        given = request.query.get("ids", "").split(",")[:_MOST_LIVE]
        return await self._live.respond(request, [SessionId(each) for each in given if is_session_id(each)], self._rows)

    async def _rows(self, uuids: Sequence[SessionId]) -> Mapping[str, str]:
        rows = await self._sessions.rows(uuids)
        return {row.indexed.uuid: self._pages.part("state.html", row=row, labels=LABELS) for row in rows}

    async def _session(self, request: web.Request) -> web.StreamResponse:
        uuid = SessionId(request.match_info["uuid"])
        shown = await session_page.read(self._queries, uuid, longest_extension=0)
        return self._pages.page(request, "session.html", shown=shown, done=None)

    async def _session_live(self, request: web.Request) -> web.StreamResponse:
        return await self._live.respond(request, [SessionId(request.match_info["uuid"])], self._states)

    async def _states(self, uuids: Sequence[SessionId]) -> Mapping[str, str]:
        shown = await session_page.read(self._queries, uuids[0], longest_extension=0)
        return {"state": self._pages.part("now.html", shown=shown)}
