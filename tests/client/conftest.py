"""Both clients behind one interface, the service on the domain's fakes, and servers that misbehave."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.domain.names import SessionId
from tests.domain.conftest import World
from tests.web.conftest import Serve, drain, exposition, metrics, serve, supervisor, world
from user_pods_client import AsyncClient, Client

__all__ = ["drain", "exposition", "metrics", "serve", "supervisor", "world"]

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


def problem(status: int, slug: str, **headers: str) -> web.Response:
    document = f'{{"type": "/problems/{slug}", "title": "T", "status": {status}, "detail": "what happened"}}'
    return web.Response(status=status, text=document, content_type="application/problem+json", headers=headers)
