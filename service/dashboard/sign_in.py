"""Signs people in: with an API key, or at the identity provider."""

import contextlib
from dataclasses import replace

from aiohttp import hdrs, web

from service.dashboard import forms, paths
from service.dashboard.pages import DashboardPages, see_other, text
from service.dashboard.visitors import Visitors
from service.domain.errors import Unavailable
from service.domain.identity import SignInRefused
from service.domain.people import PersonRule
from service.domain.request_context import current_request_id
from service.domain.sign_in_attempts import SignInAttempts
from service.gateway.proxy.headers import Forwarding
from service.gateway.sign_in import cookies, provider_answer
from service.gateway.sign_in.failures import page_of
from service.web.caller import CALLER
from service.web.problems import PROBLEM

_UNKNOWN = "This is not a valid key. It may have been revoked, or copied only in part."
_NOT_KEPT = (
    "Your browser did not keep the sign-in. Open this page by https; without it, only a browser on this machine"
    " can sign in (http://localhost or http://127.0.0.1)."
)


class SignInPages:
    """`attempts` is None without an identity provider."""

    def __init__(
        self,
        pages: DashboardPages,
        visitors: Visitors,
        attempts: SignInAttempts | None,
        rule: PersonRule,
        forwarding: Forwarding,
    ) -> None:
        self._pages = pages
        self._visitors = visitors
        self._attempts = attempts
        self._rule = rule
        self._forwarding = forwarding

    async def show(self, request: web.Request) -> web.StreamResponse:
        to = paths.own_page(request.query.get("to", ""))
        session = await self._visitors.session(request)
        if session is not None and not session.overdue:
            raise web.HTTPSeeOther(to)
        if request.headers.get("Sec-Fetch-Site") in ("cross-site", "same-site"):
            # A link on another site brings no strict cookie. Loaded again by itself, the page shows who is signed in.
            response = self._pages.page(request, "again.html", here_again=request.path_qs)
            response.headers["Refresh"] = f"0; url={request.path_qs}"
            return response
        return self._form(request, to, _NOT_KEPT if "kept" in request.query else "")

    async def by_key(self, request: web.Request) -> web.StreamResponse:
        fields = await forms.read_open(request, self._visitors)
        to = paths.own_page(fields.get("to", ""))
        signed_in = await self._visitors.sessions.sign_in(fields.get("key", "").strip())
        if signed_in is None:
            response = self._form(request, to, _UNKNOWN, 401)
            response[PROBLEM] = "unauthorized"
            return response
        request[CALLER], cookie = signed_in
        # By way of the form's own page, which notices when the browser has not kept the cookie.
        query = paths.sign_in(to).partition("?")[2]
        redirect = see_other(f"{paths.SIGN_IN}?{query}&kept" if query else f"{paths.SIGN_IN}?kept")
        self._visitors.keep(request, redirect, cookie)
        return redirect

    async def at_provider(self, request: web.Request) -> web.StreamResponse:
        """Lead the browser to the provider."""
        if self._attempts is None:
            raise web.HTTPNotFound
        to = paths.own_page(request.query.get("to", ""))
        try:
            begun = await self._attempts.begin(to, choose_account=bool(cookies.read(request, cookies.CHOOSE)))
        except SignInRefused as refused:
            return self._refused(request, refused)
        response = see_other(begun.url)
        if (name := cookies.attempt_name(begun.state)) is not None:
            for each in cookies.surplus_attempts(request, begun.cookie):
                cookies.add(response, each, "", 0)
            cookies.add(response, name, begun.cookie, cookies.ATTEMPT_SECONDS)
        return response

    async def from_provider(self, request: web.Request) -> web.StreamResponse:
        """The provider sends the browser back."""
        if self._attempts is None:
            raise web.HTTPNotFound
        answer = provider_answer.read(request)
        name = cookies.attempt_name(answer.state)
        attempt = cookies.read(request, name) if name else ""
        client = self._forwarding.client(request)
        try:
            completed = await self._attempts.complete(attempt, answer, client=client)
            # What the provider vouched for before a revocation must not be used after it.
            person = replace(self._rule.caller(completed.claims), since=completed.begun)
        except SignInRefused as refused:
            return self._refused(request, refused)
        to = paths.own_page(completed.place)
        # A redirect would still belong to the provider's page, and bring no cookie that is strictly of this site.
        response = self._pages.page(request, "signed_in.html", to=to)
        response.headers["Refresh"] = f"0; url={to}"
        self._visitors.keep(request, response, await self._visitors.sessions.sign_in_person(person))
        if name is not None:
            cookies.add(response, name, "", 0)
        if cookies.read(request, cookies.CHOOSE):
            cookies.add(response, cookies.CHOOSE, "", 0)
        return response

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        self._visitors.check_origin(request)
        with contextlib.suppress(Unavailable):  # whoever it is, the browser loses the cookie
            if (session := await self._visitors.session(request)) is not None:
                request[CALLER] = session.caller
        response = see_other(paths.SIGN_IN)
        self._visitors.forget(request, response)
        if self._attempts is not None:
            # Otherwise the provider would sign the same person in again without a question.
            cookies.add(response, cookies.CHOOSE, "1", cookies.CHOOSE_SECONDS)
        return response

    def _form(self, request: web.Request, to: str, wrong: str, status: int = 200) -> web.Response:
        provider = self._attempts is not None
        return self._pages.page(request, "sign_in.html", status=status, to=to, wrong=wrong, provider=provider)

    def _refused(self, request: web.Request, refused: SignInRefused) -> web.Response:
        error = page_of(refused)
        response = self._pages.page(
            request,
            "refusal.html",
            status=error.status,
            title=text(f"page.{error.page}.title"),
            detail=text(f"page.{error.page}.text"),
            next=text(f"page.{error.page}.next"),
            signs_in=paths.SIGN_IN,
            gone=None,
            reference=current_request_id(),
        )
        if error.retry_after is not None:
            response.headers[hdrs.RETRY_AFTER] = str(error.retry_after)
        if error.status == 403:
            response[PROBLEM] = "forbidden"
        return response
