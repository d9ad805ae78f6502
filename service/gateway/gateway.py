"""A request's way through the gateway: whose workspace, who may enter, awake or to be woken, and on to the pod."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http import HTTPStatus

from aiohttp import hdrs, web
from multidict import istr

from service.domain import journal as journals
from service.domain import request_context as calls
from service.domain.access import ENTER, ValidCookie, WorkspaceAccess
from service.domain.activity import SessionActivity
from service.domain.backoff import Backoff
from service.domain.errors import (
    SessionAsleep,
    SessionBroken,
    SessionDeleting,
    SessionError,
    SessionNotFound,
    SessionReleased,
    SessionUnreadable,
    SigningKeysUnavailable,
    Unavailable,
    causes,
)
from service.domain.journal import Journal
from service.domain.metrics import SILENT, Activity, GatewayMetrics, Patient, Slow, Traffic
from service.domain.metrics import Visit as Outcome
from service.domain.names import SessionId
from service.domain.ports import Progress, WorkloadCache
from service.domain.queries import SessionQueries
from service.domain.session import Phase
from service.domain.wake import VISIT
from service.edge.connection_limits import ConnectionLimits
from service.gateway import waiting_page as waiting
from service.gateway.access import tickets as entering
from service.gateway.access.hosts import Hosts
from service.gateway.activity import recorder as attention
from service.gateway.activity.recorder import ActivityRecorder, Mode
from service.gateway.activity.visits import Arrivals
from service.gateway.activity.vscode import LOOKED_AT
from service.gateway.errors import KEEP_OUT, GatewayError
from service.gateway.outcome import Visit
from service.gateway.proxy import headers
from service.gateway.proxy.headers import COOKIE, OWN, Forwarding
from service.gateway.proxy.http_proxy import Body, exchange
from service.gateway.proxy.pods import CannotStart, PodLost, Pods, Upstream
from service.gateway.proxy.request_queue import LineFull, Lines, Turn
from service.gateway.websocket.frames import Frame
from service.gateway.websocket.websocket_proxy import is_handshake, is_websocket, proxy_websocket

log = logging.getLogger(__name__)

_WAKE = f"{OWN}wake"
HEALTH = f"{OWN}healthz"
"""Answers load balancers, whatever host they name."""
_HEALTH_ELSEWHERE = "/healthz"
"""The same for hosts that are no workspace's; a workspace has its own."""
_LOOK = 1.0
"""Seconds between two looks whether waiting is still of use."""
_WAKE_AGAIN = 3
"""After so many looks at a sleeping pod it is woken again: somebody has put it to sleep meanwhile."""
_STARTING = 0.05
"""Seconds that a person's request waits for a pod that may be about to answer, before there is a page instead."""
_ATTEMPTS = 6
"""So often a request is made anew whose pod, which is ready, went away before it had answered."""
_AGAIN = (0.05, 1.0)
"""Seconds between two attempts: the first pause, and the longest."""
_PAGE_WAITS = 3600.0
"""Seconds that a page waits at most: one that somebody has forgotten must not have Kubernetes try for ever."""
_ROOM = 4
"""So many times the requests that may be under way may wait in line."""
_BEAT = 5.0
"""Seconds between two notes of activity of one session."""

_UNREADABLE = (
    "What the service holds of it cannot be read; your files are not affected. Tell whoever runs this service: the"
    " session's status says what to repair."
)
_UNKNOWN = "No workspace has this address. Check it, or open your workspace anew from where you came."
_NO_POD = "It takes longer than expected. Try again in a moment."
_NO_PROGRAM = "Its pod is there, but its program does not answer yet. Try again in a moment."
_FOR_GOOD = "(Nothing tries again by itself: open the workspace anew once that is repaired.)"
_FOREIGN = "Pages of another host may neither use this workspace nor show it within them. Open it in a tab of its own."

_REQUEST_ID = istr("X-Request-Id")
_MODE, _DEST, _SITE = istr("Sec-Fetch-Mode"), istr("Sec-Fetch-Dest"), istr("Sec-Fetch-Site")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the gateway allows. `patience`: how long a request is held for a pod that wakes."""

    closed: bool = True
    """Nobody gets in without a pass."""
    mode: Mode = Mode.INPUT
    longest_connection: timedelta = timedelta(hours=8)
    """So long an open WebSocket counts as activity, where the mode is that it does."""
    patience: timedelta = timedelta(seconds=60)
    held: int = 1000
    held_per_session: int = 64
    session_requests: int = 256
    """Requests of one session that are under way at the same time, and as many WebSockets."""
    connection_limits: ConnectionLimits = field(default_factory=ConnectionLimits)


class Gateway:
    """Call it with a request; it answers it. Holds no state that another replica would need."""

    def __init__(
        self,
        *,
        hosts: Hosts,
        access: WorkspaceAccess,
        activity: SessionActivity,
        queries: SessionQueries,
        progress: Progress,
        cache: WorkloadCache,
        forwarding: Forwarding,
        terms: Terms,
        metrics: GatewayMetrics = SILENT,
        ready: Callable[[], bool] = lambda: True,
        journal: Journal = journals.SILENT,
    ) -> None:
        """`ready`: whether load balancers shall send requests here; while it is not, all that come are served."""
        self._hosts = hosts
        self._access = access
        self._activity = activity
        self._queries = queries
        self._progress = progress
        self._cache = cache
        self._forwarding = forwarding
        self._terms = terms
        self.metrics = metrics
        self._ready = ready
        self._pods = Pods(cache, head_limit=terms.connection_limits.head_bytes)
        self._arrivals = Arrivals(journal, cache)
        self._attention = ActivityRecorder(self._heartbeat, _BEAT)
        self._held: Counter[SessionId] = Counter()
        self._patience = terms.patience.total_seconds()
        limit = terms.session_requests
        self._lines = Lines(limit=limit, room=_ROOM * limit, patience=self._patience)
        self._sockets: Counter[SessionId] = Counter()
        self._websockets: set[asyncio.Future[None]] = set()
        """Of each that is open what makes it leave."""
        self._leaving = False
        self.connections: Callable[[], int] = lambda: 0
        """How many connections are open; set by whoever serves."""

    @property
    def connection_limits(self) -> ConnectionLimits:
        return self._terms.connection_limits

    @property
    def traffic(self) -> Traffic:
        return Traffic(
            connections=self.connections(),
            websockets=len(self._websockets),
            held=self._held.total(),
            queued=self._lines.waiting,
        )

    async def leave(self, seconds: float) -> None:
        """The process ends: close every WebSocket, one after the other in so many seconds, and end the waiting pages.

        Their clients come back to another replica.
        """
        self._leaving = True
        leaving = list(self._websockets)
        for number, each in enumerate(leaving):
            if number:
                await asyncio.sleep(seconds / len(leaving))
            if not each.done():
                each.set_result(None)

    async def close(self) -> None:
        await self._attention.close()
        await self._pods.close()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.endswith("/healthz") and self._is_health_check(request):
            return self._health(request)
        calls.begin(request.headers.get(_REQUEST_ID, ""))
        visit = Visit(self.metrics)
        try:
            return await self._serve(request, self._session(request), visit)
        except (GatewayError, SessionError) as error:
            refusal = error if isinstance(error, GatewayError) else _told(error)
            visit.ended(refusal.outcome)
            answer = refusal.answer(page=_is_navigation(request), name=calls.current_request_id())
            if refusal.status == HTTPStatus.BAD_REQUEST:
                answer.force_close()  # where a next request would begin is not certain
            return answer
        except asyncio.CancelledError:
            visit.ended(Outcome.LEFT)
            raise
        finally:
            visit.ended(Outcome.FAILED)  # by a fault of our own

    def _is_health_check(self, request: web.BaseRequest) -> bool:
        if request.raw_path == HEALTH:
            return True
        host = request.headers.get(hdrs.HOST, "")
        return request.raw_path == _HEALTH_ELSEWHERE and self._hosts.session(host) is None

    def _health(self, request: web.BaseRequest) -> web.StreamResponse:
        """Counted as nobody's visit: it comes every few seconds."""
        if request.method not in ("GET", "HEAD"):
            return GatewayError(405, "Not allowed", "Health is asked for by GET.").answer(page=False)
        if self._ready():
            return web.Response(text="ok\n", headers=KEEP_OUT)
        return web.Response(status=503, text="not ready: starting or draining\n", headers=KEEP_OUT)

    def _session(self, request: web.BaseRequest) -> SessionId:
        """Whose workspace it is; refuses whatever could be understood differently by somebody behind."""
        if not request.raw_path.startswith("/") or "#" in request.raw_path or request.method == hdrs.METH_CONNECT:
            raise GatewayError(400, "Bad request", "Ask for a path of this host.")
        if is_websocket(request) and not is_handshake(request):
            raise GatewayError(400, "Bad request", "A handshake is a GET without a body.")
        if len(request.headers.getall(hdrs.HOST, ())) != 1:
            raise GatewayError(400, "Bad request", "Name one host.")
        uuid = self._hosts.session(request.host)
        if uuid is None:
            raise GatewayError(404, "No such workspace", _UNKNOWN)
        return uuid

    async def _serve(self, request: web.BaseRequest, uuid: SessionId, visit: Visit) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path == ENTER:
            answer = await self._enter(request, uuid)
            visit.ended(Outcome.OWN)
            return answer
        if self._terms.closed and not self._is_known(request, uuid):
            await self._admit(request, uuid)
        # Hosts of other users are the same site to a browser, so it sends the pass along when their pages ask it to.
        if not _is_navigation(request) and not _is_from_here(request):
            raise GatewayError(403, "Not from here", _FOREIGN)
        if path == _WAKE:
            return await self._tell_of_wake(request, uuid, visit)
        if path.startswith(OWN):
            raise GatewayError(404, "Not found", "There is nothing at this address.")
        if is_websocket(request):
            if self._sockets[uuid] >= self._terms.session_requests:
                raise _too_many("This workspace has as many WebSockets open as it may. Close some of its tabs.")
            with _Counted(self._sockets, uuid):
                return await self._pass_on(request, uuid, visit)
        turn = self._lines.enter(uuid) or await self._in_line(uuid)
        try:
            return await self._pass_on(request, uuid, visit)
        finally:
            self._lines.leave(uuid, turn)

    async def _in_line(self, uuid: SessionId) -> Turn:
        try:
            return await self._lines.wait(uuid)
        except LineFull:
            raise _too_many("This workspace has as many open requests as it may. Try again in a moment.") from None

    # --- who may enter ---

    async def _enter(self, request: web.BaseRequest, uuid: SessionId) -> web.StreamResponse:
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_POST):
            raise GatewayError(405, "Not allowed", "A link is opened by GET or POST.")
        if entering.is_ahead(request):
            raise GatewayError(503, "Not opened yet", "The link was fetched ahead of time. Open it to enter.")
        if not entering.is_opened(request):
            return entering.page()
        cookie = await self._trade(request, uuid)
        target = request.query.get("to", "/")
        answer = web.Response(status=303, headers={**KEEP_OUT, hdrs.LOCATION: target if _is_path(target) else "/"})
        if cookie is not None:
            answer.headers[hdrs.SET_COOKIE] = cookie
        return answer

    async def _trade(self, request: web.BaseRequest, uuid: SessionId) -> str | None:
        """A cookie for the ticket; None when it is used, and its bearer is let in already. Others are refused."""
        try:
            given = await self._access.redeem(request.query.get("ticket", ""), uuid)
        except Unavailable:
            if await self._admission(request, uuid) is None:
                raise
            return None
        if given is not None:
            return self._cookie(given)
        if self._terms.closed and await self._admission(request, uuid) is None:
            raise GatewayError(
                403, "This link has been used or is too old", "Open the workspace anew from where you came."
            )
        return None

    def _cookie(self, given: str) -> str:
        age = self._access.seconds_left(given)
        return f"{COOKIE}={given}; Path=/; Max-Age={age}; Secure; HttpOnly; SameSite=Lax"

    def _is_known(self, request: web.BaseRequest, uuid: SessionId) -> bool:
        """Whether its pass has been here before, as that of nearly every request."""
        given = headers.passes(request)
        return len(given) == 1 and self._access.knows(given[0], uuid)

    async def _admission(self, request: web.BaseRequest, uuid: SessionId) -> ValidCookie | None:
        given = headers.passes(request)
        return await self._access.check_cookie(given[0], uuid) if len(given) == 1 else None

    async def _admit(self, request: web.BaseRequest, uuid: SessionId) -> None:
        admission = await self._admission(request, uuid)
        if admission is None:
            raise GatewayError(401, "You are not signed in to this workspace", "Open it anew from where you came.")
        if admission.renewed is not None:
            request[entering.RENEWED] = self._cookie(admission.renewed)

    # --- awake, or to be woken ---

    async def _pass_on(self, request: web.BaseRequest, uuid: SessionId, visit: Visit) -> web.StreamResponse:
        background = attention.is_background(request)
        opens = _is_navigation(request) and not attention.is_prefetch(request)
        if opens:
            visit.opens(partial(self._arrivals.opened, uuid))
        moves = _nothing if background else partial(self._attention.note, uuid, Activity.VISIT)
        body = Body(request, self.connection_limits.stall, moves)
        deadline = time.monotonic() + self._patience
        tries: Backoff | None = None
        try:
            while True:
                upstream = self._pods.present(uuid)
                if upstream is None or not (upstream.answered or await self._takes(request, upstream)):
                    if opens:
                        return await self._page(uuid, visit)
                    upstream = await self._hold(uuid, visit, deadline, rouse=not background)
                elif not background:
                    self._attention.note(uuid, Activity.VISIT)
                with contextlib.suppress(PodLost):
                    if is_websocket(request):
                        return await self._connect(request, uuid, upstream, visit, deadline)
                    passed, target = self._forwarding.to_pod(request), request.raw_path
                    return await exchange(
                        request, upstream, passed, target, body, heard=visit.answered, deadline=deadline
                    )
                tries = tries or Backoff(*_AGAIN)
                visit.held()
                await self._pause(uuid, upstream, tries, deadline)
                visit.served()
        finally:
            if body.stalled:
                self.metrics.ended(Slow.BODY)

    async def _page(self, uuid: SessionId, visit: Visit) -> web.StreamResponse:
        """For a person, who sees how the wake comes along and goes on from there."""
        await self._activity.wake(uuid, by=VISIT)
        visit.ended(Outcome.PAGE)
        return waiting.page(self._why(uuid))

    def _why(self, uuid: SessionId) -> str | None:
        """What holds the pod up, for people."""
        workload = self._cache.workload(uuid)
        if workload.phase(is_wanted=True) is Phase.READY:
            return None
        if workload.failure:
            return workload.failure if workload.final else f"Kubernetes is still trying. {workload.failure}"
        return workload.paused or workload.blocker or workload.warning

    async def _takes(self, request: web.BaseRequest, upstream: Upstream) -> bool:
        """Whether the pod answers by now."""
        if upstream.ready or not _is_navigation(request):
            return await upstream.accepts_connections()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STARTING):
                return await upstream.accepts_connections()
        return False

    async def _pause(self, uuid: SessionId, upstream: Upstream, tries: Backoff, deadline: float) -> None:
        """Between two attempts; refuses when there is no use in another."""
        if upstream.ready and tries.failures >= _ATTEMPTS:
            why = "It takes connections and ends them. Try again in a moment; if that goes on, restart its program."
            raise GatewayError(502, "The workspace does not answer", why, retry_after=2)
        if not upstream.ready and time.monotonic() >= deadline:
            why = self._why(uuid) or _NO_PROGRAM
            raise GatewayError(504, "The workspace is not ready", why, retry_after=5)
        self._has_room(uuid)
        with _Counted(self._held, uuid):
            await asyncio.sleep(tries.next())

    async def _hold(self, uuid: SessionId, visit: Visit, deadline: float, *, rouse: bool) -> Upstream:
        """Keep the request until the pod answers; refuses when too many wait, or waiting is of no use."""
        if not rouse and self._cache.workload(uuid).replicas == 0:
            why = "The workspace is asleep. Open or reload its page to wake it."
            raise GatewayError(503, "Asleep", why, outcome=Outcome.ASLEEP)
        visit.held()
        self._has_room(uuid)
        with _Counted(self._held, uuid):
            if rouse:
                await self._activity.wake(uuid, by=VISIT)
            async with self._answering(uuid, deadline, rouse=rouse, keeps=rouse) as answers:
                upstream = await answers
                visit.served()
                return upstream

    def _has_room(self, uuid: SessionId) -> None:
        """Raises Refusal when too many wait."""
        if self._held.total() >= self._terms.held or self._held[uuid] >= self._terms.held_per_session:
            why = "Too many requests wait for workspaces to wake."
            raise GatewayError(503, "Too many wait", why, retry_after=2, outcome=Outcome.BUSY)

    @asynccontextmanager
    async def _answering(
        self, uuid: SessionId, deadline: float, *, rouse: bool, keeps: bool
    ) -> AsyncIterator["asyncio.Task[Upstream]"]:
        task = asyncio.create_task(self._wait_for(uuid, deadline, rouse=rouse, keeps=keeps))
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _wait_for(self, uuid: SessionId, deadline: float, *, rouse: bool, keeps: bool) -> Upstream:
        """Wait until the pod answers. `rouse`: wake it, again where need be; `keeps`: keep it awake meanwhile.

        Raises Refusal when waiting is of no use or has taken too long.
        """
        answering = asyncio.create_task(self._pods.answering(uuid))
        try:
            looks = 0
            while time.monotonic() < deadline:
                done, _ = await asyncio.wait({answering}, timeout=_LOOK)
                if done:
                    return answering.result()
                looks += 1
                self._pods.must_be_possible(uuid)
                if keeps and self._cache.workload(uuid).replicas:
                    # However long Kubernetes tries to start the pod, it must not be put to sleep meanwhile.
                    self._attention.note(uuid, Activity.VISIT)
                elif looks % _WAKE_AGAIN == 0:
                    await self._must_be_waking(uuid, rouse=rouse)
        except CannotStart as error:
            raise GatewayError(503, "The workspace could not be started", f"{error} {_FOR_GOOD}") from None
        finally:
            answering.cancel()
        why = self._why(uuid) or (_NO_POD if self._pods.present(uuid) is None else _NO_PROGRAM)
        raise GatewayError(504, "The workspace did not wake in time", why, retry_after=5)

    async def _must_be_waking(self, uuid: SessionId, *, rouse: bool) -> None:
        """Of a pod that nobody wants, wake it or refuse to wait for it. While Redis is away, both can wait."""
        if self._cache.workload(uuid).replicas:
            return
        with contextlib.suppress(Unavailable):
            if rouse:
                await self._activity.wake(uuid, by=VISIT)
            elif not (await self._queries.status(uuid)).awake:
                why = "The workspace fell asleep. Open or reload its page to wake it."
                raise GatewayError(503, "Asleep", why, outcome=Outcome.ASLEEP)

    async def _tell_of_wake(self, request: web.BaseRequest, uuid: SessionId, visit: Visit) -> web.StreamResponse:
        """For the page of somebody who waits, which has woken the pod already."""
        if request.method != hdrs.METH_GET:
            raise GatewayError(405, "Not allowed", "Ask for the news of a wake by GET.")
        self._has_room(uuid)
        visit.ended(Outcome.OWN)
        begun = time.monotonic()
        with _Counted(self._held, uuid):
            # One that was cut off and comes back by itself wakes nobody.
            rouse = not attention.is_background(request)
            async with self._answering(uuid, begun + _PAGE_WAITS, rouse=rouse, keeps=True) as answers:
                answer = await waiting.stream(
                    request, uuid, self._progress, answers, partial(self._why, uuid), leaving=lambda: self._leaving
                )
                if answers.done() and not answers.cancelled() and answers.exception() is None:
                    self.metrics.waited(Patient.PAGE, time.monotonic() - begun)
                return answer

    # --- on to the pod ---

    async def _connect(
        self, request: web.BaseRequest, uuid: SessionId, upstream: Upstream, visit: Visit, deadline: float
    ) -> web.StreamResponse:
        passed = self._forwarding.to_pod(request)
        watched = attention.editor(request)

        def on_frame(frame: Frame) -> None:
            if attention.is_input(frame, watched):
                self._attention.note(uuid, Activity.INPUT)

        by_input = self._terms.mode is Mode.INPUT
        keeping = None if by_input else asyncio.create_task(self._keep_awake(uuid))
        leave = asyncio.get_running_loop().create_future()
        if self._leaving:
            leave.set_result(None)
        self._websockets.add(leave)
        try:
            return await proxy_websocket(
                request,
                upstream,
                passed,
                request.raw_path,
                keep=LOOKED_AT if by_input and watched else 0,
                on_frame=on_frame if by_input else lambda _: None,
                on_response=visit.answered,
                deadline=deadline,
                shutdown=leave,
            )
        finally:
            self._websockets.discard(leave)
            if keeping is not None:
                keeping.cancel()

    async def _keep_awake(self, uuid: SessionId) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._terms.longest_connection.total_seconds()):
                while True:
                    self._attention.note(uuid, Activity.CONNECTION)
                    await asyncio.sleep(_BEAT)

    async def _heartbeat(self, uuid: SessionId, source: str) -> None:
        with contextlib.suppress(SessionAsleep):
            await self._activity.heartbeat(uuid, source)
            self.metrics.noted(Activity(source))


class _Counted:
    """Counts who is within, by session; no generator, for that would cost every request as much as its headers do."""

    __slots__ = ("_counter", "_uuid")

    def __init__(self, counter: Counter[SessionId], uuid: SessionId) -> None:
        self._counter = counter
        self._uuid = uuid

    def __enter__(self) -> None:
        self._counter[self._uuid] += 1

    def __exit__(self, *_: object) -> None:
        self._counter[self._uuid] -= 1
        if not self._counter[self._uuid]:
            del self._counter[self._uuid]


def _nothing() -> None:
    pass


def _too_many(why: str) -> GatewayError:
    return GatewayError(429, "Too many requests", why, retry_after=2, outcome=Outcome.BUSY)


def _is_navigation(request: web.BaseRequest) -> bool:
    """Whether a person looks at a page as a whole, who can be shown another one meanwhile."""
    if request.method not in ("GET", "HEAD") or is_websocket(request):
        return False
    mode = request.headers.get(_MODE)
    if mode is None:
        return "text/html" in request.headers.get(hdrs.ACCEPT, "")
    return mode == "navigate" and request.headers.get(_DEST, "document") == "document"


def _is_from_here(request: web.BaseRequest) -> bool:
    """Whether the request comes from a page of this very host, or from no page at all."""
    site = request.headers.get(_SITE)
    if site not in ("same-origin", "none", None):
        return False
    origins = request.headers.getall(hdrs.ORIGIN, ())
    if site == "same-origin" and origins == ["null"]:
        # A page without a referrer says no origin with its forms. No page can set Sec-Fetch-Site, and a sandboxed
        # one, whose origin is null as well, is "cross-site".
        return True
    return all(_place(origin.partition("://")[2]) == _place(request.host) for origin in origins)


def _place(host: str) -> str:
    # In ASCII alone: in Unicode, other letters become these (the sign of Kelvin a k).
    return (host.lower() if host.isascii() else host).removesuffix(":443").removesuffix(":80")


def _is_path(target: str) -> bool:
    """Whether it leads to this host for sure, however a browser reads it."""
    return target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable() and target.isascii()


def _told(error: SessionError) -> GatewayError:
    match error:
        case SessionNotFound():
            return GatewayError(404, "No such workspace", _UNKNOWN)
        case SessionReleased():
            return GatewayError(410, "The workspace was removed", "Create it again to bring it back.")
        case SessionDeleting():
            return GatewayError(409, "The workspace is being deleted", "Wait until that is done, then create it again.")
        case SessionBroken() | SessionUnreadable():
            # What repairs an unreadable one is a command for operators: status has it.
            detail = _UNREADABLE if isinstance(error, SessionUnreadable) else str(error)
            return GatewayError(503, "The workspace is broken", detail)
        case SigningKeysUnavailable():
            return GatewayError(503, "Nobody can be let in just now", f"{str(error).capitalize()}.", retry_after=5)
        case _:
            log.error("%s", error, extra={"cause": causes(error)})
            return GatewayError(503, "Not now", "A part of the system does not answer; try again.", retry_after=2)
