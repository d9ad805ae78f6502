"""Both clients behind one interface, the service on the domain's fakes, and servers that misbehave."""

import asyncio
import contextlib
import io
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.domain.names import SessionId
from service.domain.progress import ProgressUpdate, Stage
from tests.domain.conftest import World
from tests.web.conftest import Serve, counter, drain, exposition, metrics, serve, supervisor, world
from user_pods_client import AsyncClient, Client
from user_pods_client.cli.__main__ import main

__all__ = ["counter", "drain", "exposition", "metrics", "serve", "supervisor", "world"]

KEY = "a-key-of-a-frontend-0123456789abcdef"


class Either:
    """One of the clients, called from a test's loop. A generator's items come as a list."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def call(self, name: str, *arguments: Any, **more: Any) -> Any:
        method = getattr(self.client, name)
        if isinstance(self.client, AsyncClient):
            return await method(*arguments, **more)
        return await asyncio.to_thread(method, *arguments, **more)

    async def all_of(self, name: str, *arguments: Any, **more: Any) -> list[Any]:
        items: list[Any] = []
        await self.read_into(items, name, *arguments, **more)
        return items

    async def read_into(self, items: list[Any], name: str, *arguments: Any, **more: Any) -> None:
        """Append what a generator gives, until it ends or raises."""
        source = getattr(self.client, name)(*arguments, **more)
        if isinstance(self.client, AsyncClient):
            await _append(items, source)
        else:
            await asyncio.to_thread(items.extend, source)


async def _append(items: list[Any], source: AsyncIterator[Any]) -> None:
    async for each in source:
        items.append(each)  # noqa: PERF401 - an error keeps what came before it


Connect = Callable[..., Either]


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ServeAlone = Callable[[Handler], Awaitable[str]]


@pytest.fixture
async def serve_alone() -> AsyncIterator[ServeAlone]:
    """Serves every path with one handler; its address."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(handler: Handler) -> str:
            async def answer(request: web.Request) -> web.StreamResponse:
                return await handler(request)

            app = web.Application()
            app.router.add_route("*", "/{path:.*}", answer)
            server = await stack.enter_async_context(TestServer(app))
            return str(server.make_url("/"))

        yield start


@pytest.fixture(params=[Client, AsyncClient], ids=["sync", "async"])
async def connect(request: pytest.FixtureRequest, serve: Serve, serve_alone: ServeAlone) -> AsyncIterator[Connect]:
    """Makes a client of either kind. They are closed before the servers, which would wait for them."""
    made: list[Client | AsyncClient] = []

    def make(url: str, token: str | None = None, **more: Any) -> Either:
        made.append(request.param(url, token, **more))
        return Either(made[-1])

    yield make
    for client in made:
        if isinstance(client, AsyncClient):
            await client.close()
        else:
            client.close()
    await asyncio.sleep(0)


@pytest.fixture
async def url(serve: Serve) -> str:
    """Where the service answers callers with KEY."""
    return str((await serve(keys=[KEY])).make_url("/"))


@pytest.fixture
def pods(connect: Connect, url: str) -> Either:
    return connect(url, KEY)


@pytest.fixture
async def uuid(world: World) -> SessionId:
    return (await world.provisioner.create("ann@example.com")).uuid


def make_ready(world: World, uuid: SessionId) -> None:
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))


async def become_ready(world: World, uuid: SessionId) -> None:
    """Play the pod: become ready once somebody has woken the session."""
    with world.progress.following(uuid) as changed:
        async with asyncio.timeout(20):
            await changed.wait()
    make_ready(world, uuid)
    await world.progress.write(uuid, ProgressUpdate(Stage.READY))


def problem(status: int, slug: str, **headers: str) -> web.Response:
    document = f'{{"type": "/problems/{slug}", "title": "T", "status": {status}, "detail": "what happened",'
    document += '"instance": "urn:request:1"}'
    return web.Response(status=status, text=document, content_type="application/problem+json", headers=headers)


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Done]]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home of somebody who uses the command line."""
    for name in ("USER_PODS_URL", "USER_PODS_TOKEN", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "config" / "user-pods" / "contexts.json"


@pytest.fixture
def run(
    config: Path, serve: Serve, serve_alone: ServeAlone, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:  # fmt: skip
    """Runs the command line with arguments and standard input, without a terminal."""

    async def do(*argv: str, stdin: str | bytes = "") -> Done:
        content = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        code = await asyncio.to_thread(_exit_code, argv)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return do


def _exit_code(argv: Sequence[str]) -> int:
    try:
        main(argv)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0
