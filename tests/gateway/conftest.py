"""A gateway over a real socket in front of the tests' workspaces, with the domain on memory adapters."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
import uvloop
from aiohttp import ClientSession, DummyCookieJar, TCPConnector, WSMsgType, web

from service.domain.access import WorkspaceAccess
from service.domain.audit import Audit, AuditEntry
from service.domain.keyring import Keyring
from service.domain.metrics import ActivitySource, NoMetrics, PageScript, RequestOutcome, Slow, Waiter
from service.domain.names import SessionId
from service.domain.workload import Pod
from service.edge.drain import Drain
from service.edge.ports import bind
from service.gateway.access.cookie_header import COOKIE
from service.gateway.access.home import Home
from service.gateway.access.hosts import Hosts
from service.gateway.companion.script import CompanionScript
from service.gateway.gateway import Gateway
from service.gateway.limits import GatewayLimits
from service.gateway.pages.pages import Pages
from service.gateway.proxy.headers import Forwarding
from service.gateway.server import serving
from service.gateway.sign_in.portal import SignInPortal
from tests.domain.conftest import World
from tests.fakes import MemorySigningKeys, MemorySignOuts, MemoryTickets

DOMAIN = "pods.test"
_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
Headers = dict[str, str]


def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What relies on how a loop ends a connection is tried on both, the service's own (uvloop) and asyncio's."""
    return _LOOPS if item.path.name == "test_client.py" else {"asyncio": _LOOPS["asyncio"]}


class Told(NoMetrics):
    """A GatewayMetrics that remembers."""

    def __init__(self) -> None:
        self.visits: Counter[RequestOutcome] = Counter()
        self.waits: list[tuple[Waiter, float]] = []
        self.notes: Counter[ActivitySource] = Counter()
        self.pages: Counter[PageScript] = Counter()
        self.slow: Counter[Slow] = Counter()
        self.away = 0

    def request_ended(self, outcome: RequestOutcome) -> None:
        self.visits[outcome] += 1

    def wait_ended(self, who: Waiter, seconds: float) -> None:
        self.waits.append((who, seconds))

    def activity_recorded(self, activity: ActivitySource) -> None:
        self.notes[activity] += 1

    def page_sent(self, script: PageScript) -> None:
        self.pages[script] += 1

    def slow_client_closed(self, slow: Slow) -> None:
        self.slow[slow] += 1

    def connection_rejected(self) -> None:
        self.away += 1


class Audited:
    """The log of an audit, which remembers."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def note(self, entry: AuditEntry) -> None:
        self.entries.append(entry)

    def short(self) -> list[tuple[str, str, str | None, str]]:
        return [(each.caller, each.operation, each.uuid, each.result) for each in self.entries]


@dataclass
class House:
    """A gateway and its sessions; a wake starts the session's workspace after `delay` seconds."""

    world: World
    limits: GatewayLimits = field(default_factory=GatewayLimits)
    delay: float = 0.05
    fails: str | None = None
    """Why no workspace gets ready, in Kubernetes' words."""
    final: bool = False
    """It is for good."""
    ready: bool = True
    """What load balancers see."""
    pages: Pages = field(default_factory=Pages)
    domain: str = field(default_factory=lambda: DOMAIN)
    port: int = 0
    drain: Drain = field(default_factory=Drain)
    companion: bool = True
    """Pages get the companion's script."""
    home: str = ""
    """The page that signs users in."""
    portal: Callable[["House"], tuple[SignInPortal, Home]] | None = None
    """Makes what serves the domain itself, and the page that signs users in there."""
    spread: float = 0
    """Seconds over which WebSockets are closed at the end."""
    http: ClientSession = field(init=False)
    workspaces: dict[SessionId, "Workspace"] = field(default_factory=dict)
    starts: int = 0

    def __post_init__(self) -> None:
        self.tickets = MemoryTickets()
        self.sign_outs = MemorySignOuts()
        self.companions = self.world.companions
        self.signing_keys = MemorySigningKeys()
        self.keyring = Keyring(self.signing_keys)
        self.metrics = Told()
        self.audited = Audited()
        self.access = WorkspaceAccess(self.tickets, self.keyring, self.world.cluster, origin=self.origin)
        self.stack = AsyncExitStack()
        self._starting: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self, forwarding: Forwarding | None = None) -> AsyncIterator["House"]:
        self.world.wake_observers.append(self)
        home = Home(self.home, self.origin) if self.home else None
        portal, home = self.portal(self) if self.portal is not None else (None, home)
        self.gateway = Gateway(
            hosts=Hosts(self.domain),
            access=self.access,
            activity=self.world.activity,
            queries=self.world.queries,
            progress=self.world.progress,
            companions=self.companions,
            cache=self.world.cluster,
            sign_outs=self.sign_outs,
            forwarding=forwarding or Forwarding(scheme="https"),
            limits=self.limits,
            pages=self.pages,
            script=CompanionScript() if self.companion else None,
            home=home,
            portal=portal,
            metrics=self.metrics,
            ready=lambda: self.ready,
            journal=self.world.journal,
            audit=Audit(self.world.trail, self.audited, self.world.cluster),
        )
        async with self.stack:
            connector = TCPConnector(force_close=True, limit=0)
            self.http = await self.stack.enter_async_context(
                ClientSession(connector=connector, cookie_jar=DummyCookieJar(), auto_decompress=False)
            )
            self.port = await self.stack.enter_async_context(
                serving(
                    self.gateway,
                    bind("the gateway", "127.0.0.1", 0),
                    drain=self.drain,
                    spread=self.spread,
                    shutdown_timeout=1,
                )
            )
            yield self
            for task in self._starting:
                task.cancel()
            await asyncio.gather(*self._starting, return_exceptions=True)

    def host(self, uuid: str) -> str:
        return f"vs-code-{uuid}.{self.domain}"

    def origin(self, uuid: SessionId) -> str:
        return f"https://{self.host(uuid)}"

    async def session(self, user_id: str = "ann") -> SessionId:
        return (await self.world.provisioner.create(user_id)).uuid

    async def awake(self, user_id: str = "ann") -> SessionId:
        uuid = await self.session(user_id)
        await self.start(uuid)
        return uuid

    async def headers(self, uuid: SessionId, **more: str) -> Headers:
        """Headers of a program with access."""
        invitation = await self.access.issue_link(uuid)
        given = await self.access.redeem(invitation.url.split("ticket=")[1].split("&")[0], uuid)
        return {
            "Host": self.host(uuid),
            "Cookie": f"{COOKIE}={given}",
            **{k.replace("_", "-"): v for k, v in more.items()},
        }

    async def person(self, uuid: SessionId) -> Headers:
        """Headers of a browser with access that opens a page."""
        return await self.headers(uuid, Sec_Fetch_Mode="navigate", Sec_Fetch_Dest="document", Accept="text/html")

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    # --- what the cluster does ---

    def on_wake(self, uuid: SessionId) -> None:
        if self.world.cluster.workload(uuid).replicas == 0:
            self.world.cluster.change(replace(self.world.cluster.workload(uuid), replicas=1))
            task = asyncio.ensure_future(self._start_later(uuid))
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start_later(self, uuid: SessionId) -> None:
        await asyncio.sleep(self.delay)
        if self.fails:
            self.world.cluster.change(replace(self.world.cluster.workload(uuid), failure=self.fails, final=self.final))
        elif self.world.cluster.workload(uuid).replicas:
            await self.start(uuid)

    async def start(self, uuid: SessionId) -> "Workspace":
        self.starts += 1
        workspace = self.workspaces[uuid] = Workspace(f"{uuid}-{self.starts}")
        await workspace.start()
        self.stack.push_async_callback(workspace.stop)
        pod = Pod(workspace.name, "127.0.0.1", workspace.port, scheduled=True, started=True, ready=True)
        self.world.cluster.change(replace(self.world.cluster.workload(uuid), replicas=1, ready=1, pod=pod))
        return workspace

    def pod_at(self, uuid: SessionId, port: int, *, ready: bool = True) -> None:
        """The session's pod is a program of the test's own."""
        pod = Pod("program", "127.0.0.1", port, scheduled=True, started=True, ready=ready)
        self.world.cluster.change(replace(self.world.cluster.workload(uuid), replicas=1, ready=int(ready), pod=pod))

    async def fall_asleep(self, uuid: SessionId) -> None:
        self.world.cluster.change(replace(self.world.cluster.workload(uuid), replicas=0, ready=0, pod=None))
        await self.workspaces[uuid].stop()


class Workspace:
    """What a pod serves: it reports what it received."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = 0
        self.requests: list[tuple[str, str, dict[str, list[str]]]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.interrupted = asyncio.Event()
        """A request has ended before its answer."""
        self.answers = asyncio.Event()
        """Until it is set, `/held` waits."""
        self.raw = b""
        """What it writes to a WebSocket that sends "raw", as it is."""
        self.sent = 0
        """Bytes of a flood that somebody has taken."""
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        self._runner = web.ServerRunner(
            web.Server(self._serve, handler_cancellation=True, max_field_size=2**16), shutdown_timeout=0.1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        told = {name: request.headers.getall(name) for name in request.headers}
        self.requests.append((request.method, request.raw_path, told))
        act: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] = getattr(
            self, "_" + request.path.strip("/").split("/")[0].replace(".", "_"), self._echo
        )
        try:
            return await act(request)
        except (ConnectionResetError, asyncio.CancelledError):
            self.interrupted.set()
            raise

    async def _echo(self, request: web.BaseRequest) -> web.StreamResponse:
        digest, length = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            length += len(chunk)
        told = {name.lower(): request.headers.getall(name) for name in request.headers}
        return web.json_response(
            {"pod": self.name, "method": request.method, "path": request.raw_path, "headers": told, "length": length,
             "sha256": digest.hexdigest()}
        )  # fmt: skip

    async def _bytes(self, request: web.BaseRequest) -> web.StreamResponse:
        size = int(request.query["size"])
        response = web.StreamResponse(headers={"Content-Length": str(size), "X-Pod": self.name})
        await response.prepare(request)
        chunk = bytes(range(256)) * 256
        for at in range(0, size, len(chunk)):
            await response.write(chunk[: size - at])
        return response

    async def _drip(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(10_000):
            await response.write(f"data: {number}\n\n".encode())
            await asyncio.sleep(float(request.query.get("every", "0.02")))
        return response

    async def _flood(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(2**40)})
        await response.prepare(request)
        while True:
            await response.write(bytes(2**16))
            self.sent += 2**16

    async def _late(self, _request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(1)
        return web.Response(text="late")

    async def _held(self, _request: web.BaseRequest) -> web.StreamResponse:
        await self.answers.wait()
        return web.Response(text="held")

    async def _broken(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async def _reset(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def _bare(self, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=204)

    async def _cookies(self, _request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(text="ok")
        response.headers.add("Set-Cookie", "own=1; Path=/; HttpOnly")
        response.headers.add("Set-Cookie", f"wide=1; Domain={DOMAIN}; Path=/")
        response.headers.add("Set-Cookie", f"{COOKIE}=forged; Path=/; Secure")
        return response

    async def _moved(self, _request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    async def _sized(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "12345", "Accept-Ranges": "bytes"})
        await response.prepare(request)
        if request.method != "HEAD":
            await response.write(b"x" * 12345)
        return response

    async def _ws(self, request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=("echo.v1",), autoping=True, compress=True)
        await socket.prepare(request)
        self.sockets.append(socket)
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data.startswith("close "):
                _, code, reason = message.data.split(" ", 2)
                await socket.close(code=int(code), message=reason.encode())
            elif message.type is WSMsgType.TEXT and message.data == "raw":
                assert request.transport is not None
                request.transport.write(self.raw)
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data)
        return socket


class Scripted:
    """A pod that answers the head of whatever it is asked with the same bytes, reads no large body, and then waits."""

    def __init__(self, said: bytes, *, ends: bool) -> None:
        self._said = said
        self._ends = ends
        self.heads: list[bytes] = []
        self.over = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0
        """How many there have been with a request."""

    def end_connections(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        is_new = True
        try:
            while True:
                self.heads.append(await reader.readuntil(b"\r\n\r\n"))
                self.connections += is_new
                is_new = False
                writer.write(self._said)
                if self._ends:
                    break
        except asyncio.LimitOverrunError:
            await self.over.wait()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()


@asynccontextmanager
async def scripted(
    house: House, said: bytes, *, ends: bool = False, ready: bool = True
) -> AsyncIterator[tuple[SessionId, Scripted]]:
    """An awake session with such a pod. `ends`: it closes after its answer, as one that says so does."""
    uuid, pod = await house.session(), Scripted(said, ends=ends or b"Connection: close" in said)
    server = await asyncio.start_server(pod.serve, "127.0.0.1", 0)
    async with server:
        house.pod_at(uuid, server.sockets[0].getsockname()[1], ready=ready)
        yield uuid, pod
        pod.over.set()


@asynccontextmanager
async def program(
    house: House, respond: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
) -> AsyncIterator[SessionId]:
    """An awake session whose pod responds so."""
    uuid = await house.session()
    runner = web.ServerRunner(web.Server(respond, access_log=None, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        house.pod_at(uuid, int(runner.addresses[0][1]))
        yield uuid
    finally:
        await runner.cleanup()


@pytest.fixture(autouse=True)
def save_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages save in less time."""
    monkeypatch.setattr("service.domain.activity.SAVE_TIME", timedelta(seconds=0.05))


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.provisioner.close()


@pytest.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with House(world).open() as house:
        yield house


async def answer(house: House, path: str, headers: Headers, method: str = "GET", **more: Any) -> tuple[int, bytes]:
    """Status and body."""
    async with house.http.request(method, house.url(path), headers=headers, allow_redirects=False, **more) as found:
        return found.status, await found.read()


async def raw(house: House, head: str, headers: Headers, body: bytes = b"") -> bytes:
    """What the gateway says until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"{head} HTTP/1.1\r\n{fields}\r\n".encode("utf-8", "surrogateescape") + body)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
