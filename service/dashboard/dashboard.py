"""The pages of the dashboard, by their addresses."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from aiohttp import web
from aiohttp.typedefs import Handler

from service.dashboard import actions, audit_page, findings, forms, paths, refusals, session_page, upgrade_page
from service.dashboard.actions import ACTIONS, Action
from service.dashboard.live import LiveStreams
from service.dashboard.overview import OverviewPage
from service.dashboard.pages import DashboardPages, permitted, see_other, text_for
from service.dashboard.session_list import ListQuery, SessionList
from service.dashboard.sign_in import SignInPages
from service.dashboard.visitors import Visitors
from service.domain.cluster_facts import HOW_TO_GRANT
from service.domain.names import SESSION_ID_PATTERN, SessionId, is_session_id
from service.domain.permissions import Caller
from service.domain.ports import WorkloadCache
from service.web.access import caller
from service.web.caller import PAGES, SESSION, operation
from service.web.keys import API, PROBES, ApiParts
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
STEPS: Final[Mapping[str, str]] = {
    "scaled": "The service asks for a pod",
    "scheduled": "It is assigned to a node",
    "started": "Its container starts, with its image and volume",
    "ready": "The program in it answers",
}
"""By the stage that ends the step."""
RESOURCES: Final[Mapping[str, str]] = {"cpu": "the CPUs", "memory": "the memory", "pods": "the number of pods"}
_MOST_LIVE = 50
_PATHS: Final[Mapping[str, Any]] = {"mend_path": findings.mend_path, "session_path": findings.session_path}
"""Where findings lead to."""
_OF_A_SCRIPT = "HX-Request"
"""The header by which htmx says that it asks."""


class Dashboard:
    """See `service.web.app.Pages`."""

    def __init__(
        self,
        *,
        pages: DashboardPages,
        sign_in: SignInPages,
        sessions: SessionList,
        overview: OverviewPage,
        live: LiveStreams,
        visitors: Visitors,
        cache: WorkloadCache,
    ) -> None:
        self._visitors = visitors
        self._cache = cache
        self._pages = pages
        self._sign_in = sign_in
        self._sessions = sessions
        self._overview = overview
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
            web.get(f"{paths.ROOT}/", self._list, name=f"{PAGES}list_sessions.slash"),
            web.get(paths.LIVE, self._list_live, name=f"{PAGES}list_sessions.live"),
            web.get(session, self._session, name=f"{PAGES}status"),
            web.get(f"{session}/live", self._session_live, name=f"{PAGES}status.live"),
            web.get(paths.OVERVIEW, self._show_overview, name=f"{PAGES}summary"),
            web.get(paths.FINDINGS, self._findings, name=f"{PAGES}diagnosis"),
            web.get(paths.LOOK, self._look, name=f"{PAGES}diagnosis.live"),
            web.get(paths.MEND, self._ask_to_mend, name=f"{PAGES}fix"),
            web.post(paths.MEND, self._mend, name=f"{PAGES}fix"),
            web.get(paths.UPGRADE, self._upgrade, name=f"{PAGES}show_upgrade"),
            *(
                route
                for step in upgrade_page.STEPS.values()
                for route in (
                    web.get(f"{paths.UPGRADE}/{step.name}", self._ask_to_upgrade, name=f"{PAGES}{step.operation}"),
                    web.post(f"{paths.UPGRADE}/{step.name}", self._do_upgrade, name=f"{PAGES}{step.operation}"),
                )
            ),
            web.get(paths.AUDIT, self._audit, name=f"{PAGES}audit"),
            *(
                route
                for name in ACTIONS
                for route in (
                    web.get(f"{session}/{name}", self._ask, name=f"{PAGES}{name}"),
                    web.post(f"{session}/{name}", self._act, name=f"{PAGES}{name}"),
                )
            ),
        ]

    @web.middleware
    async def explain(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        return await refusals.explain(self._pages, self._visitors, request, handler)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        only = caller(request).user_id
        if only is not None:
            return await self._own(request, only)
        query = ListQuery.parse(request.query)
        return self._pages.page(
            request,
            "sessions.html",
            list=await self._sessions.page(query),
            labels=LABELS,
            behind=_behind(request),
            done=ACTIONS["delete"].done if request.query.get("done") == "delete" else None,
        )

    async def _show_overview(self, request: web.Request) -> web.StreamResponse:
        return self._pages.page(
            request,
            "overview.html",
            overview=await self._overview.read(
                request.app[PROBES].health, request.app[API].awake_limits, request.app[API].capacity
            ),
            resources=RESOURCES,
            how_to_grant=HOW_TO_GRANT,
            currency=self._overview.prices.currency,
            labels=LABELS,
            steps=STEPS,
            behind=_behind(request),
        )

    async def _own(self, request: web.Request, user_id: str) -> web.StreamResponse:
        uuid = await request.app[API].queries.session_of(user_id)
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
        shown = await session_page.read(request.app[API], _uuid(request))
        done = ACTIONS.get(request.query.get("done", ""))
        return self._pages.page(request, "session.html", shown=shown, done=done.done if done is not None else None)

    async def _session_live(self, request: web.Request) -> web.StreamResponse:
        states = partial(self._states, request.app[API], caller(request))
        return await self._live.respond(request, [_uuid(request)], states, follows_one=True)

    async def _states(self, parts: ApiParts, visitor: Caller, uuids: Sequence[SessionId]) -> Mapping[str, str]:
        shown = await session_page.read(parts, uuids[0])
        return {
            "state": self._pages.part("now.html", shown=shown, text=text_for(visitor), caller=visitor),
            "actions": self._pages.part("actions.html", shown=shown, permitted=permitted(visitor)),
            "history": self._pages.part("history.html", shown=shown, text=text_for(visitor)),
            "details": self._pages.part("details.html", shown=shown),
        }

    async def _ask(self, request: web.Request) -> web.StreamResponse:
        """The page that confirms an action."""
        parts, uuid = request.app[API], _uuid(request)
        action = _action(request)
        return self._pages.page(
            request,
            "confirm.html",
            action=action,
            session=await parts.queries.status(uuid),
            hours=actions.hours(parts.activity.longest_extension),
            form_target=parts.access.origin(uuid) if action.name == "open" and parts.access is not None else "",
        )

    async def _act(self, request: web.Request) -> web.StreamResponse:
        form, uuid, action = await forms.read(request, self._visitors), _uuid(request), _action(request)
        link = await actions.perform(request.app[API], request, action, uuid, form)
        if link is None:
            page = paths.ROOT if action.name == "delete" else f"{paths.SESSIONS}/{uuid}"
            link = f"{page}?done={action.name}"
        return see_other(link)

    async def _findings(self, request: web.Request) -> web.StreamResponse:
        doctor, asked = request.app[API].doctor, "look" in request.query
        # A page that can follow the look begins it by `_look`, at whichever replica that reaches.
        run, follows = doctor.running, asked and request.headers.get(_OF_A_SCRIPT) == "true"
        if follows or (run is not None and not asked):
            looking = findings.Looking.at(run, joined=True) if run is not None else None
            return self._pages.page(request, "findings.html", follows=True, looking=looking)
        shown = await findings.read(doctor, now=asked)
        return self._pages.page(request, "findings.html", follows=False, shown=shown, **_PATHS)

    async def _look(self, request: web.Request) -> web.StreamResponse:
        """Look for faults, or join whoever does."""
        doctor = request.app[API].doctor
        joined = doctor.running is not None
        run, visitor = doctor.begin(), caller(request)

        def parts() -> Mapping[str, str]:
            if not run.is_over:
                looking = findings.Looking.at(run, joined=joined)
                return {"looking": self._pages.part("looking.html", looking=looking)}
            shown = findings.Shown(found=findings.Findings.of(run.result))
            return {"found": self._pages.part("found.html", shown=shown, permitted=permitted(visitor), **_PATHS)}

        return await self._live.follow(request, run, parts)

    async def _ask_to_mend(self, request: web.Request) -> web.StreamResponse:
        return self._pages.page(request, "mend.html", place=findings.place(request.query), mended=None)

    async def _mend(self, request: web.Request) -> web.StreamResponse:
        place = findings.place(await forms.read(request, self._visitors))
        if place.uuid is not None:
            request[SESSION] = place.uuid
        mended = await findings.mend(request.app[API].doctor, place)
        return self._pages.page(request, "mend.html", place=place, mended=mended)

    async def _upgrade(self, request: web.Request) -> web.StreamResponse:
        done = upgrade_page.STEPS.get(request.query.get("done", ""))
        return self._pages.page(
            request,
            "upgrade.html",
            shown=await upgrade_page.read(request.app[API], self._cache),
            done=done.done if done is not None else None,
        )

    async def _ask_to_upgrade(self, request: web.Request) -> web.StreamResponse:
        return self._pages.page(request, "upgrade_step.html", step=_step(request))

    async def _do_upgrade(self, request: web.Request) -> web.StreamResponse:
        form, step = await forms.read(request, self._visitors), _step(request)
        await upgrade_page.perform(request.app[API], request, step, form)
        return see_other(f"{paths.UPGRADE}?done={step.name}")

    async def _audit(self, request: web.Request) -> web.StreamResponse:
        return self._pages.page(
            request, "audit.html", audit=await audit_page.read(request.app[API].audit, request.query)
        )


def _uuid(request: web.Request) -> SessionId:
    return SessionId(request.match_info["uuid"])


def _step(request: web.Request) -> upgrade_page.Step:
    return upgrade_page.STEPS[request.path.rpartition("/")[2]]


def _behind(request: web.Request) -> int:
    """Seconds by which the cluster's data may be old; 0 when they are not."""
    behind = request.app[API].queries.behind()
    return int(behind.total_seconds()) if behind is not None else 0


def _action(request: web.Request) -> Action:
    return ACTIONS[operation(request) or ""]
