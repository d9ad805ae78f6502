"""Streams of events that keep pages up to date: the state of each session that they show, whenever it changes."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp_sse import EventSourceResponse

from service.domain.counting import counted
from service.domain.diagnosis.run import Run
from service.domain.errors import SessionError
from service.domain.names import SessionId
from service.domain.phase import Phase
from service.domain.ports import WorkloadCache
from service.domain.request_context import current_request_id
from service.edge.event_stream import event_stream, wait_for_change
from service.edge.readiness import Readiness
from service.web import request_id
from service.web.access import caller
from service.web.keys import GATE
from service.web.problems import RequestRefused

_HEARTBEAT = 15
"""Seconds between two comments, and between two checks that the visitor is still signed in."""
_GATHER = 0.25
"""Seconds for which changes are gathered: a start changes a session several times a second."""

DONE = "done"
"""The event at the end of what ends by itself."""
_LONGEST = 600
"""Seconds after which a stream ends. The browser opens another one, and passes access control again."""

Parts = Callable[[Sequence[SessionId]], Awaitable[Mapping[str, str]]]
"""Renders those sessions: the names of events, and the markup that each brings."""


class LiveStreams:
    """At most `total` at a time, `per_caller` of one key or person, and `per_user` of whoever sees one session only."""

    def __init__(
        self,
        cache: WorkloadCache,
        readiness: Readiness,
        *,
        total: int = 500,
        per_caller: int = 100,
        per_user: int = 16,
    ) -> None:
        self._cache = cache
        self._readiness = readiness
        self._total = total
        self._per_caller = per_caller
        self._per_user = per_user
        self._open: Counter[str] = Counter()

    async def respond(
        self, request: web.Request, uuids: Sequence[SessionId], parts: Parts, *, follows_one: bool = False
    ) -> web.StreamResponse:
        """Send the parts of each of the sessions now, and when it changes. Raises RequestRefused.

        `follows_one`: the parts show how far a wake has come, and what Redis knows, so they are made again each second
        of a wake, and each quarter of a minute otherwise.
        """
        wanted, changed, event = frozenset(uuids), set(uuids), asyncio.Event()

        def note(uuid: SessionId) -> None:
            if uuid in wanted:
                changed.add(uuid)
                event.set()

        unsubscribe = self._cache.subscribe(note)
        try:
            async with self._stream(request) as response:
                sent: dict[str, str] = {}
                ends = time.monotonic() + _LONGEST
                while time.monotonic() < ends and await self._is_welcome(request):
                    await _send(response, await _rendered(parts, changed), sent)
                    waking = follows_one and any(map(self._is_waking, uuids))
                    await self._until(request, event, 1 if waking else _HEARTBEAT)
                    changed.update(uuids if follows_one else ())
            return response
        finally:
            unsubscribe()

    async def follow(
        self, request: web.Request, run: Run, parts: Callable[[], Mapping[str, str]]
    ) -> web.StreamResponse:
        """Send the parts when the run has come further, and each second, until it is over. Raises RequestRefused.

        The last event is `done`: a browser that came back would begin another run.
        """
        async with self._stream(request) as response:
            sent: dict[str, str] = {}
            while await self._is_welcome(request):
                changed, is_over = run.changed, run.is_over
                await _send(response, parts(), sent)
                if is_over:
                    await response.send("", event=DONE)
                    break
                await self._until(request, changed, 1)
        return response

    @asynccontextmanager
    async def _stream(self, request: web.Request) -> AsyncIterator[EventSourceResponse]:
        visitor = caller(request)
        name = visitor.name_for_rates
        most = self._per_caller if visitor.user_id is None else self._per_user
        if self._open.total() >= self._total or self._open[name] >= most:
            raise RequestRefused("too-many-streams", "too many pages are live; this one shows what it has loaded")
        headers = {
            request_id.HEADER: current_request_id(),
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        with counted(self._open, name):
            async with event_stream(request, headers, _HEARTBEAT) as response:
                yield response

    async def _is_welcome(self, request: web.Request) -> bool:
        """Whether the visitor would still be let in: keys are revoked, and sign-ins end, while a page is open."""
        return not self._readiness.closing and await request.app[GATE].still_admits(request)

    def _is_waking(self, uuid: SessionId) -> bool:
        return self._cache.workload(uuid).phase(is_wanted=False) is Phase.WAKING

    async def _until(self, request: web.Request, event: asyncio.Event, seconds: int) -> None:
        """Wait for a change, at most for so long. Raises ConnectionResetError when the client is gone."""
        for _ in range(seconds):
            if await wait_for_change(request, event, 1):
                break
            if self._readiness.closing:
                return
        await asyncio.sleep(_GATHER)
        event.clear()


async def _send(response: EventSourceResponse, parts: Mapping[str, str], sent: dict[str, str]) -> None:
    """Send what differs from what was sent before."""
    for name, markup in parts.items():
        if sent.get(name) != markup:
            sent[name] = markup
            await response.send(markup, event=name)


async def _rendered(parts: Parts, changed: set[SessionId]) -> Mapping[str, str]:
    """The parts of what has changed. Nothing while Redis does not answer: then they stay changed."""
    uuids = sorted(changed)
    changed.clear()  # before the read: what changes meanwhile is to be read again
    try:
        return await parts(uuids) if uuids else {}
    except SessionError:
        changed.update(uuids)
        return {}
