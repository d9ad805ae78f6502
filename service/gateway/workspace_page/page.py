"""`/.user-pods/` on each workspace's host. It needs no pod: it is there while the workspace sleeps or fails."""

from aiohttp import hdrs, web

from service.domain.activity import SessionActivity
from service.domain.names import SessionId
from service.domain.queries import SessionQueries
from service.domain.request_context import current_request_id
from service.gateway.action_audit import ActionAudit
from service.gateway.action_rate import ActionRate
from service.gateway.errors import OWN_HEADERS, GatewayError
from service.gateway.pages.pages import Pages, next_step, own_forms
from service.gateway.workspace_page.actions import Action, Actions
from service.gateway.workspace_page.view import view

PATH = "/.user-pods/"
_DONE = frozenset({Action.STAY, Action.KEEP, Action.SLEEP})
"""Actions that lead back to the page, which says that they are done."""


class WorkspacePage:
    """`signs_out`: people have a session cookie, so that the page offers to sign out. `home`: their start page."""

    def __init__(
        self,
        *,
        activity: SessionActivity,
        rate: ActionRate,
        audit: ActionAudit,
        queries: SessionQueries,
        pages: Pages,
        signs_out: bool,
        home: str | None = None,
    ) -> None:
        self._actions = Actions(activity, rate, audit)
        self._longest_extension = activity.longest_extension
        self._queries = queries
        self._pages = pages
        self._signs_out = signs_out
        self._home = home

    async def respond(self, request: web.BaseRequest, uuid: SessionId) -> web.Response:
        """The page, or the redirect after an action. The caller has checked access, and that no other site asks.

        Raises GatewayError, or as SessionQueries and SessionActivity do.
        """
        if request.method == hdrs.METH_POST:
            action, to = await self._actions.perform(request, uuid)
            target = f"{PATH}?done={action}" if action in _DONE else to
            return web.Response(status=303, headers={**OWN_HEADERS, hdrs.LOCATION: target})
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            raise GatewayError(405, "Not allowed", "Use GET, or POST a form of this page.")
        return await self._show(request, uuid)

    async def close(self) -> None:
        await self._actions.close()

    async def _show(self, request: web.BaseRequest, uuid: SessionId) -> web.Response:
        session = await self._queries.status(uuid)
        history = await self._queries.history(uuid)
        done = request.query.get("done", "")
        limit = self._longest_extension.total_seconds()
        response = self._pages.render(
            request,
            "workspace.html",
            forms=True,
            view=view(session, history, longest_extension=limit),
            limit=int(limit),
            done=done if done in _DONE else None,
            signs_out=self._signs_out,
            home=self._home,
            next_step=next_step,
            reference=current_request_id(),
        )
        own_forms(response)
        return response
