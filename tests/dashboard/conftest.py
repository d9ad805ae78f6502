"""The dashboard on the memory adapters, at the API's application."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from aiohttp import ClientResponse, DummyCookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from service.adapters.log.audit import LogAudit
from service.adapters.prometheus.exposition import Exposition
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.dashboard.dashboard import Dashboard
from service.dashboard.live import LiveStreams
from service.dashboard.overview import OverviewPage
from service.dashboard.pages import DashboardPages
from service.dashboard.session_list import SessionList
from service.dashboard.sign_in import SignInPages
from service.dashboard.visitors import Visitors
from service.domain.access import WorkspaceAccess
from service.domain.api_keys import ApiKey, ApiKeys, new_api_key
from service.domain.audit import Audit, AuditEntry
from service.domain.awake_quota import AwakeLimits
from service.domain.browser_sessions import BrowserSessions
from service.domain.capacity import ClusterCapacity
from service.domain.diagnosis.diagnosis import Doctor
from service.domain.health import Health
from service.domain.identity import IdentityProvider, UserRule
from service.domain.keyring import Keyring
from service.domain.people import PersonRule
from service.domain.permissions import CallerRole
from service.domain.rate_limits import RateLimits
from service.domain.savings import Prices
from service.domain.session_counts import SessionCounter
from service.domain.session_index import SessionIndex
from service.domain.sign_in_attempts import SignInAttempts
from service.domain.supervisor import Supervisor
from service.domain.wake_times import WakeTimes
from service.edge.drain import Drain
from service.edge.readiness import Readiness
from service.gateway.pages.brand import Brand
from service.gateway.proxy.headers import Forwarding
from service.web.access import Gate
from service.web.app import make_app
from service.web.keys import ApiParts, ProbeParts
from tests.domain.conftest import World
from tests.fakes import MemoryApiKeyFile, MemorySigningKeys, MemoryTickets
from tests.waiting import until

OPERATOR, FRONTEND, VIEWER, USER = CallerRole
FORMER = "k" * 16
_TOKEN = re.compile(r'name="form" value="([^"]+)"')


class SyncedCache:
    has_synced = True


@dataclass
class Board:
    """A running dashboard."""

    world: World
    client: TestClient[web.Request, web.Application]
    file: MemoryApiKeyFile
    keys: ApiKeys
    sessions: BrowserSessions
    audit: Audit
    origin: str
    live: LiveStreams
    doctor: Doctor

    async def add_key(self, name: str, role: CallerRole, user_id: str | None = None) -> str:
        key, stored = new_api_key(name, role, user_id)
        await self.set_lines([*(self.file.text or "").splitlines(), stored.line])
        return key

    async def set_lines(self, lines: Sequence[str]) -> None:
        self.file.text = "\n".join(lines)
        await self.keys.load()

    async def entries(self, count: int) -> Sequence[AuditEntry]:
        """What the audit has, newest first, once it has that many entries."""
        await until(lambda: self.world.trail.added >= count)
        return (await self.audit.page(cursor=None, limit=99)).entries

    def browser(self) -> "Visitor":
        return Visitor(self)

    async def visitor(self, role: CallerRole, user_id: str | None = None) -> "Visitor":
        """Somebody who has signed in with a key of that role."""
        visitor = self.browser()
        answer = await visitor.sign_in(await self.add_key(f"{role}-{'one' if user_id else 'all'}", role, user_id))
        assert answer.status == 303, await answer.text()
        return visitor


@dataclass
class Visitor:
    """A browser: it keeps cookies, says where requests come from, and follows nothing by itself."""

    board: Board
    jar: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, **headers: str) -> ClientResponse:
        return await self._request("GET", path, headers)

    async def read(self, path: str) -> str:
        """The page at the path, by way of redirects."""
        answer = await self.get(path)
        while answer.status == 303:
            answer = await self.get(answer.headers["Location"])
        assert answer.status == 200, await answer.text()
        return await answer.text()

    async def post(self, path: str, fields: dict[str, str], **headers: str) -> ClientResponse:
        headers = {"Origin": self.board.origin, "Sec-Fetch-Site": "same-origin", **headers}
        headers = {name: value for name, value in headers.items() if value}
        return await self._request("POST", path, headers, fields)

    async def submit(self, path: str, **fields: str) -> ClientResponse:
        """The form at that path, as a person does: with the token that the page contains."""
        token = _TOKEN.search(await self.read(path))
        assert token, "the page has no form"
        return await self.post(path, {"form": token[1], **fields})

    async def sign_in(self, key: str, to: str = "") -> ClientResponse:
        return await self.post("/dashboard/sign-in", {"key": key, "to": to})

    async def _request(
        self, method: str, path: str, headers: dict[str, str], fields: dict[str, str] | None = None
    ) -> ClientResponse:
        if self.jar:
            headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.jar.items()), **headers}
        answer = await self.board.client.request(method, path, headers=headers, data=fields, allow_redirects=False)
        for line in answer.headers.getall("Set-Cookie", ()):
            name, _, value = line.partition(";")[0].partition("=")
            if "Max-Age=0" in line:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value
        return answer


@asynccontextmanager
async def serving(
    world: World,
    *,
    named: Sequence[ApiKey] = (),
    former: Sequence[str] = (FORMER,),
    provider: IdentityProvider | None = None,
    rule: PersonRule | None = None,
    rates: RateLimits | None = None,
    url: str = "",
    brand: Brand | None = None,
    home: str | None = None,
    stay: timedelta = timedelta(hours=8),
    health: Health | None = None,
    awake_limits: AwakeLimits | None = None,
    prices: Prices | None = None,
    port: int | None = None,
) -> AsyncIterator[Board]:
    file = MemoryApiKeyFile("\n".join(key.line for key in named))
    keys, keyring, tickets = ApiKeys(file, former), Keyring(MemorySigningKeys()), MemoryTickets()
    await keys.load()
    sessions = BrowserSessions(keyring, keys, stay=stay, recheck=timedelta(hours=1))
    visitors = Visitors(sessions, url)
    readiness = Readiness(SyncedCache(), Drain())
    audit, metrics = Audit(world.trail, LogAudit(), world.cluster), PrometheusMetrics()
    access = WorkspaceAccess(tickets, keyring, world.cluster, origin=lambda uuid: f"https://vs-code-{uuid}.example.com")
    rule = rule or PersonRule(user=UserRule())
    pages = DashboardPages(brand, home)
    attempts = SignInAttempts(provider, keyring, tickets, kind="dashboard-attempt") if provider else None
    live = LiveStreams(world.cluster, readiness)
    index, wake_times = SessionIndex(world.cluster), WakeTimes(world.measured)
    dashboard = Dashboard(
        pages=pages,
        sign_in=SignInPages(pages, visitors, attempts, rule, Forwarding(scheme="https")),
        sessions=SessionList(index, world.queries),
        overview=OverviewPage(index, wake_times, prices),
        live=live,
        visitors=visitors,
        cache=world.cluster,
    )
    parts = ApiParts(
        provisioner=world.provisioner,
        upgrades=world.upgrades,
        rollouts=world.rollout_control,
        activity=world.activity,
        revocation=world.revocation,
        queries=world.queries,
        profiles=world.profiles,
        progress=world.progress,
        access=access,
        audit=audit,
        counter=SessionCounter(world.cluster, world.queues, world.store),
        capacity=ClusterCapacity(world.facts, world.cluster),
        wake_times=wake_times,
        awake_limits=awake_limits or AwakeLimits(),
        users_namespace="users",
        exposition=Exposition(metrics.registry),
        doctor=world.doctor(health),
        example_url=None,
    )
    probes = ProbeParts(
        health=health or Health({}, seconds=0), supervisor=Supervisor(limit=timedelta(0)), readiness=readiness
    )
    gate = Gate(keys, None, world.queries, rates, visitors)
    app = make_app(parts, probes, gate=gate, answered=metrics.answered, pages=dashboard)
    server = TestServer(app, port=port)
    client: TestClient[web.Request, web.Application] = TestClient(server, cookie_jar=DummyCookieJar())
    writing = asyncio.create_task(audit.run())
    await client.start_server()
    try:
        origin = url or str(client.make_url("")).rstrip("/")
        yield Board(world, client, file, keys, sessions, audit, origin, live, parts.doctor)
    finally:
        await client.close()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.provisioner.close()


@pytest.fixture
async def board(world: World) -> AsyncIterator[Board]:
    async with serving(world) as board:
        yield board
