"""Handles a request: finds its session, checks access, wakes the pod if necessary, and proxies to it."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import istr

from service.domain import journal as journals
from service.domain import request_context
from service.domain.access import ENTER, WorkspaceAccess
from service.domain.activity import SessionActivity
from service.domain.audit import Audit
from service.domain.backoff import Backoff
from service.domain.errors import SessionError
from service.domain.journal import Journal
from service.domain.metrics import SILENT, ActivitySource, GatewayMetrics, RequestOutcome, Slow, Traffic
from service.domain.names import SessionId
from service.domain.ports import Companions, Progress, SignOuts, WorkloadCache
from service.domain.queries import SessionQueries
from service.edge.connections import OpenConnections
from service.gateway.access.access_control import AccessControl
from service.gateway.access.fetch_metadata import is_form, is_navigation, is_websocket
from service.gateway.access.home import MOST_TRIES, Home, redirect, tries_of
from service.gateway.access.hosts import Hosts
from service.gateway.access.open_requests import OpenRequests
from service.gateway.action_audit import ActionAudit
from service.gateway.action_rate import ActionRate
from service.gateway.activity.background import BackgroundRecorder, Download
from service.gateway.activity.measured import browser_by_itself
from service.gateway.activity.presence import CompanionPresence
from service.gateway.activity.recorder import ActivityRecorder
from service.gateway.activity.rules import is_background, is_prefetch
from service.gateway.activity.visits import VisitRecorder
from service.gateway.companion.channel import CompanionChannel
from service.gateway.companion.script import CompanionScript
from service.gateway.companion.session_tabs import Surroundings
from service.gateway.errors import NO_SUCH_WORKSPACE, OWN_HEADERS, GatewayError, PageKind, of_session_error
from service.gateway.injection.injector import SCRIPT_PATH, Injector
from service.gateway.keep_awake import KEEP_AWAKE, KeepAwake
from service.gateway.limits import GatewayLimits
from service.gateway.pages.pages import Pages
from service.gateway.proxy.headers import OWN_PATHS, Forwarding
from service.gateway.proxy.http_proxy import proxy_request
from service.gateway.proxy.pods import PodLost, Pods, Upstream
from service.gateway.proxy.request_body import RequestBody
from service.gateway.proxy.request_queue import RequestQueues
from service.gateway.request_outcome import OutcomeRecorder
from service.gateway.sign_in.portal import SignInPortal
from service.gateway.waiting.events import WakeEvents
from service.gateway.waiting.page import waiting_page
from service.gateway.waiting.pod_waiter import PodWaiter
from service.gateway.waiting.wake_times import WakeTimes
from service.gateway.websocket.open_websockets import OpenWebSockets
from service.gateway.websocket.websocket_proxy import WebSocketProxy, is_handshake
from service.gateway.workspace_page.page import PATH, WorkspacePage

WAKE_EVENTS = f"{OWN_PATHS}wake"
SIGN_OUT = f"{OWN_PATHS}sign-out"
COMPANION = f"{OWN_PATHS}companion"
"""Where the companions of pages connect."""
HEALTH = f"{OWN_PATHS}healthz"
"""Answers load balancers, whatever host they name."""
_HEALTH_OF_OTHER_HOSTS = "/healthz"
"""The same for hosts that are no workspace's; a workspace may have a path of that name itself."""
_PROBE_BEFORE_PAGE = 0.05
"""Seconds that a person's request waits for a pod that may be about to respond, before it gets the waiting page."""
_RETRY_BACKOFF = (0.05, 1.0)
"""Seconds between two attempts at a request: the first pause, and the longest."""
_REQUEST_ID = istr("X-Request-Id")


class Gateway:
    """Call it with a request; it returns the response. Holds no state that another replica would need."""

    def __init__(
        self,
        *,
        hosts: Hosts,
        access: WorkspaceAccess,
        activity: SessionActivity,
        queries: SessionQueries,
        progress: Progress,
        companions: Companions,
        cache: WorkloadCache,
        sign_outs: SignOuts,
        forwarding: Forwarding,
        limits: GatewayLimits,
        pages: Pages | None = None,
        script: CompanionScript | None = None,
        home: Home | None = None,
        portal: SignInPortal | None = None,
        metrics: GatewayMetrics = SILENT,
        ready: Callable[[], bool] = lambda: True,
        journal: Journal = journals.SILENT,
        audit: Audit | None = None,
    ) -> None:
        """`home`: the page that signs users in, if there is one. `portal` serves the domain itself.

        `script`: added to pages, and served. `ready`: whether load balancers should send requests here. Requests are
        served in any case.
        """
        self.limits = limits
        self.metrics = metrics
        self.connections = OpenConnections()
        """Counted by the server."""
        self._hosts = hosts
        self._pages = pages or Pages()
        self._home = home
        self._start_page = home.url if home is not None else None
        self._portal = portal
        self._forwarding = forwarding
        self._script = script
        self._injector = Injector(script.element, script.version, metrics) if script is not None else None
        self._ready = ready
        self._closing = asyncio.Event()
        self._hold_timeout = limits.hold_timeout.total_seconds()
        self._stall_timeout = limits.connection_limits.stall
        self._access = AccessControl(access, self._pages, closed=limits.closed, home=home)
        self._open = OpenRequests(access, cache, sign_outs)
        self._visits = VisitRecorder(journal, cache)
        self._activity = ActivityRecorder(activity, metrics)
        self._presence = CompanionPresence(companions, cache, self._activity)
        self._background = BackgroundRecorder(activity, metrics)
        rate, self._audit = ActionRate(), ActionAudit(audit)
        programs = ActionRate()  # a program must not use up what its user has
        self._keep_awake = KeepAwake(activity, cache, programs, self._audit)
        self._pods = Pods(cache, head_limit=limits.connection_limits.head_bytes)
        self._waiter = PodWaiter(
            activity=activity, queries=queries, cache=cache, pods=self._pods, recorder=self._activity, limits=limits
        )
        self._wake_events = WakeEvents(
            waiter=self._waiter,
            progress=progress,
            wake_times=WakeTimes(queries),
            metrics=metrics,
            closing=self._closing,
            home=self._start_page,
        )
        self._workspace_page = WorkspacePage(
            activity=activity,
            rate=rate,
            audit=self._audit,
            queries=queries,
            pages=self._pages,
            signs_out=limits.closed,
            home=self._start_page,
        )
        self._queues = RequestQueues(
            limit=limits.session_requests, size=limits.queued_requests, timeout=self._hold_timeout
        )
        self._websockets = OpenWebSockets(limits.session_requests)
        self._websocket_proxy = WebSocketProxy(
            self._websockets, self._activity, self._presence, self._background, limits
        )

        self._companions = CompanionChannel(
            Surroundings(
                activity=activity,
                queries=queries,
                progress=progress,
                cache=cache,
                waiter=self._waiter,
                recorder=self._activity,
                rate=rate,
                audit=self._audit,
                presence=self._presence,
                notice=limits.sleep_notice,
                stay=limits.stay_awake,
            )
        )

    @property
    def traffic(self) -> Traffic:
        return Traffic(
            connections=self.connections.count,
            websockets=len(self._websockets),
            held=self._waiter.waiting,
            queued=self._queues.waiting,
        )

    async def drain(self, seconds: float) -> None:
        """At shutdown: end the waiting pages, and close all WebSockets within that many seconds.

        Their clients reconnect to another replica.
        """
        self._closing.set()
        await asyncio.gather(self._websockets.close(seconds), self._companions.drain(seconds))

    async def close(self) -> None:
        self._open.close()
        await self._workspace_page.close()
        await self._companions.close()
        await self._presence.close()
        await self._activity.close()
        await self._background.close()
        await self._pods.close()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.endswith("/healthz") and self._is_health_check(request):
            return self._health(request)
        request_context.begin(request.headers.get(_REQUEST_ID, ""))
        outcome = OutcomeRecorder(self.metrics)
        try:
            if request.raw_path == KEEP_AWAKE and self._hosts.session(request.headers.get(hdrs.HOST, "")) is None:
                outcome.ended(RequestOutcome.OWN)
                return await self._keep_awake.respond(request)
            self._check_shape(request)
            if self._portal is not None and self._hosts.is_domain(request.host):
                response = await self._portal(request)
                outcome.ended(RequestOutcome.OWN)
                return response
            return await self._respond(request, self._session(request), outcome)
        except (GatewayError, SessionError) as error:
            refusal = error if isinstance(error, GatewayError) else of_session_error(error)
            outcome.ended(refusal.outcome)
            return self._refuse(request, refusal)
        except asyncio.CancelledError:
            outcome.ended(RequestOutcome.LEFT)
            raise
        finally:
            outcome.ended(RequestOutcome.FAILED)  # by a fault of the gateway, if nothing was recorded before

    def _refuse(self, request: web.BaseRequest, refusal: GatewayError) -> web.Response:
        """Lead a person without access to sign in; tell everybody else why the request is refused."""
        if refusal.sign_in is not None:
            if (redirected := redirect(request, refusal.sign_in)) is not None:
                return redirected
            if tries_of(request) >= MOST_TRIES:
                refusal.page = PageKind.SIGN_IN_LOOP
        name = request_context.current_request_id()
        if is_navigation(request) or is_form(request):
            response = self._pages.refusal(request, refusal, name=name, home=self._start_page)
        else:
            response = refusal.response(name)
        if refusal.status == HTTPStatus.BAD_REQUEST:
            response.force_close()  # it is not certain where the next request would begin
        return response

    def _is_health_check(self, request: web.BaseRequest) -> bool:
        if request.raw_path == HEALTH:
            return True
        host = request.headers.get(hdrs.HOST, "")
        return request.raw_path == _HEALTH_OF_OTHER_HOSTS and self._hosts.session(host) is None

    def _health(self, request: web.BaseRequest) -> web.StreamResponse:
        """Not counted in the metrics: it comes every few seconds."""
        if request.method not in ("GET", "HEAD"):
            return GatewayError(405, "Not allowed", "Use GET or HEAD for health checks.").response()
        if self._ready():
            return web.Response(text="ok\n", headers=OWN_HEADERS)
        return web.Response(status=503, text="not ready: starting or draining\n", headers=OWN_HEADERS)

    @staticmethod
    def _check_shape(request: web.BaseRequest) -> None:
        """Refuse requests that a pod could interpret differently."""
        if not request.raw_path.startswith("/") or "#" in request.raw_path or request.method == hdrs.METH_CONNECT:
            raise GatewayError(400, "Bad request", "Request a path of this host, not a URL.")
        if is_websocket(request) and not is_handshake(request):
            raise GatewayError(400, "Bad request", "A WebSocket handshake must be a GET without a body.")
        if len(request.headers.getall(hdrs.HOST, ())) != 1:
            raise GatewayError(400, "Bad request", "Send exactly one host.")

    def _session(self, request: web.BaseRequest) -> SessionId:
        """The session that the request is for."""
        uuid = self._hosts.session(request.host)
        if uuid is None:
            home = self._start_page if self._hosts.is_domain(request.host) else None
            raise GatewayError(404, "No such workspace", NO_SUCH_WORKSPACE, page=PageKind.UNKNOWN, sign_in=home)
        return uuid

    async def _respond(self, request: web.BaseRequest, uuid: SessionId, outcome: OutcomeRecorder) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path == ENTER:
            response = await self._access.exchange_ticket(request, uuid)
            outcome.ended(RequestOutcome.OWN)
            return response
        if path == SIGN_OUT:
            response, signed_in = await self._access.sign_out(request, uuid)
            if signed_in is not None:
                with self._audit.entering("sign_out", uuid):
                    await self._open.end(uuid, signed_in)
            outcome.ended(RequestOutcome.OWN)
            return response
        since = self._access.known_since(request, uuid)
        if since is None:
            since = await self._access.check(request, uuid)
        self._access.check_origin(request)
        end = partial((self._companions if path == COMPANION else self._websockets).end, request)
        self._open.add(uuid, since, end)
        try:
            return await self._respond_to_user(request, uuid, path, outcome)
        finally:
            self._open.remove(uuid, end)

    async def _respond_to_user(
        self, request: web.BaseRequest, uuid: SessionId, path: str, outcome: OutcomeRecorder
    ) -> web.StreamResponse:
        if path.startswith(OWN_PATHS):
            return await self._respond_itself(path, request, uuid, outcome)
        if is_websocket(request):
            with self._websockets.place(uuid):
                return await self._forward(request, uuid, outcome)
        slot = self._queues.acquire_now(uuid) or await self._queues.acquire(uuid)
        try:
            return await self._forward(request, uuid, outcome)
        finally:
            self._queues.release(uuid, slot)

    async def _respond_itself(
        self, path: str, request: web.BaseRequest, uuid: SessionId, outcome: OutcomeRecorder
    ) -> web.StreamResponse:
        """Answer a request for one of the gateway's own paths."""
        if path == WAKE_EVENTS:
            return await self._wake_events.stream(request, uuid, outcome)
        if path == COMPANION:
            return await self._companions.serve(request, uuid, outcome)
        if path == SCRIPT_PATH and self._script is not None:
            outcome.ended(RequestOutcome.OWN)
            return self._script.respond(request)
        if path == PATH:
            outcome.ended(RequestOutcome.OWN)
            return await self._workspace_page.respond(request, uuid)
        raise GatewayError(404, "Not found", "There is nothing at this address.", page=PageKind.NOT_FOUND)

    async def _forward(self, request: web.BaseRequest, uuid: SessionId, outcome: OutcomeRecorder) -> web.StreamResponse:
        """Proxy the request to the pod, if it is awake. Otherwise wake it: people get a page, programs wait."""
        browser = browser_by_itself(request)
        background = is_background(request)
        wakes = browser is None and not background
        opens_page = is_navigation(request) and not is_prefetch(request)
        if opens_page and browser is None:
            outcome.opens_page(self._visits, uuid)
        body = RequestBody(request, self._stall_timeout, self._on_chunk(uuid, browser, background))
        deadline = time.monotonic() + self._hold_timeout
        attempts: Backoff | None = None
        try:
            while True:
                upstream = self._pods.current(uuid)
                if upstream is None or not (upstream.responds or await self._responds(request, upstream)):
                    if opens_page:
                        await (self._waiter.wake(uuid) if browser is None else self._waiter.check_wanted(uuid))
                        outcome.ended(RequestOutcome.PAGE)
                        name = request_context.current_request_id()
                        return waiting_page(
                            self._pages, request, self._waiter.delay(uuid), name=name, home=self._start_page
                        )
                    upstream = await self._waiter.hold(uuid, outcome=outcome, deadline=deadline, wakes=wakes)
                elif not background:
                    self._record_visit(uuid, browser)
                with contextlib.suppress(PodLost):
                    headers = self._forwarding.to_pod(request)
                    if is_websocket(request):
                        return await self._websocket_proxy.proxy(
                            request, uuid, upstream, headers, outcome=outcome, deadline=deadline
                        )
                    download = Download(self._background, uuid)
                    return await proxy_request(
                        request,
                        upstream,
                        headers,
                        body,
                        outcome=outcome,
                        deadline=deadline,
                        download=download,
                        injector=self._injector,
                    )
                attempts = attempts or Backoff(*_RETRY_BACKOFF)
                await self._waiter.pause(uuid, upstream, attempts, outcome=outcome, deadline=deadline)
        finally:
            if body.stalled:
                self.metrics.slow_client_closed(Slow.BODY)

    def _record_visit(self, uuid: SessionId, browser: str | None) -> None:
        """`browser`: where a page sends this by itself, if a companion should report its user's input."""
        if browser is None:
            self._activity.record(uuid, ActivitySource.VISIT)
        else:
            self._presence.record(uuid, browser, ActivitySource.VISIT)

    def _on_chunk(self, uuid: SessionId, browser: str | None, background: bool) -> Callable[[], None] | None:
        """What to do with each piece of an upload."""
        if browser is not None:
            return partial(self._activity.record_upload, uuid, time.monotonic())
        return None if background else partial(self._activity.record, uuid, ActivitySource.VISIT)

    @staticmethod
    async def _responds(request: web.BaseRequest, upstream: Upstream) -> bool:
        """Whether the pod responds yet."""
        if upstream.ready or not is_navigation(request):
            return await upstream.accepts_connections()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PROBE_BEFORE_PAGE):
                return await upstream.accepts_connections()
        return False
