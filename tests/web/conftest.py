"""The web layer over a real socket, on the domain with memory adapters."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.access import WorkspaceAccess
from service.domain.health import Health
from service.domain.keyring import Keyring
from service.domain.supervisor import Supervisor
from service.web.app import make_app
from service.web.keys import (
    ACCESS,
    ACTIVITY,
    EXPOSITION,
    HEALTH,
    PROGRESS,
    PROVISIONER,
    QUERIES,
    READINESS,
    SUPERVISOR,
    Readiness,
)
from tests.domain.conftest import World
from tests.fakes import MemorySigningKeys, MemoryTickets

Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Awaitable[Client]]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.provisioner.close()


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics()


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor(limit=timedelta(0), first=60)


@pytest.fixture
async def serve(world: World, metrics: PrometheusMetrics, supervisor: Supervisor) -> AsyncIterator[Serve]:
    """Starts the application; `keys` are its bearer keys, `more` its terms; `gateway`: workspaces can be opened."""
    clients: list[Client] = []
    access = WorkspaceAccess(
        MemoryTickets(), Keyring(MemorySigningKeys()), origin=lambda uuid: f"https://vs-code-{uuid}.example.com"
    )

    def resources(app: web.Application, *, gateway: bool) -> AbstractAsyncContextManager[None]:
        @asynccontextmanager
        async def opened() -> AsyncIterator[None]:
            app[PROVISIONER] = world.provisioner
            app[ACTIVITY] = world.activity
            app[QUERIES] = world.queries
            app[PROGRESS] = world.progress
            app[READINESS] = Readiness()
            app[SUPERVISOR] = supervisor
            app[ACCESS] = access if gateway else None
            app[EXPOSITION] = metrics.exposition
            # Looked up at each call: a test exchanges them.
            checks = {"redis": lambda: world.store.ping(), "kubernetes": lambda: world.cluster.check()}  # noqa: PLW0108
            app[HEALTH] = Health(checks, seconds=0, parts=supervisor.failures)
            yield

        return opened()

    async def start(keys: Sequence[str] = (), *, gateway: bool = True, **more: Any) -> Client:
        opened = partial(resources, gateway=gateway)
        client: Client = TestClient(TestServer(make_app(opened, keys=keys, answered=metrics.answered, **more)))
        clients.append(client)
        await client.start_server()
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def client(serve: Serve) -> Client:
    return await serve()
