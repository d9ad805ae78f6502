"""The web layer over a real socket, on the domain with memory adapters."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from functools import cache
from typing import Any

import jsonschema
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from jsonschema import ValidationError

from service.adapters.log.audit import LogAudit
from service.adapters.prometheus.exposition import Exposition
from service.adapters.prometheus.gauges import SessionGauges
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.access import WorkspaceAccess
from service.domain.api_keys import ApiKey, ApiKeys
from service.domain.audit import Audit
from service.domain.capacity import ClusterCapacity
from service.domain.health import Health
from service.domain.keyring import Keyring
from service.domain.people import People
from service.domain.rate_limits import RateLimits
from service.domain.session_counts import SessionCounter
from service.domain.supervisor import Supervisor
from service.domain.wake_times import WakeTimes
from service.edge.drain import Drain
from service.edge.readiness import Readiness
from service.web import openapi
from service.web.access import Gate
from service.web.app import make_app
from service.web.keys import ApiParts, ProbeParts
from tests.domain.conftest import World
from tests.fakes import MemoryApiKeyFile, MemorySigningKeys, MemoryTickets

Client = TestClient[web.Request, web.Application]
Serve = Callable[..., Awaitable[Client]]


class SyncedCache:
    """A workload cache that has synced."""

    has_synced = True


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.provisioner.close()


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics()


@pytest.fixture
def counter(world: World) -> SessionCounter:
    return SessionCounter(world.cluster, world.queues, world.store)


@pytest.fixture
def exposition(metrics: PrometheusMetrics, counter: SessionCounter) -> Exposition:
    sessions = SessionGauges(counter.recent)
    metrics.registry.register(sessions)
    return Exposition(metrics.registry, sessions)


@pytest.fixture
def drain() -> Drain:
    return Drain()


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor(limit=timedelta(0), first=60)


_document = cache(openapi.document)


class Documented:
    """Holds every answer of the application against the OpenAPI document."""

    def __init__(self) -> None:
        self._document = _document()
        operations = (each for path in self._document["paths"].values() for each in path.values())
        self._answers = {operation["operationId"]: operation["responses"] for operation in operations}
        self.violations: list[str] = []

    async def check(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        name = request.match_info.route.name if isinstance(request, web.Request) else None
        if name in self._answers and request.method != "HEAD" and isinstance(response, web.Response):
            try:
                self._check(self._answers[name], response)
            except (KeyError, ValidationError) as error:
                self.violations.append(f"{name} answers {response.status} {response.text}: {error!r}")

    def _check(self, answers: dict[str, Any], response: web.Response) -> None:
        content = answers[str(response.status)].get("content", {})
        if response.content_type == "application/problem+json":
            assert response.text
            slug = json.loads(response.text)["type"].removeprefix("/problems/")
            content[response.content_type]["examples"][slug]
        if response.content_type.endswith("json"):
            schema = {**content[response.content_type]["schema"], "components": self._document["components"]}
            jsonschema.validate(json.loads(response.text or ""), schema, cls=jsonschema.Draft202012Validator)


@pytest.fixture
async def serve(
    world: World,
    metrics: PrometheusMetrics,
    *,
    counter: SessionCounter,
    exposition: Exposition,
    supervisor: Supervisor,
    drain: Drain,
) -> AsyncIterator[Serve]:
    """Starts the application; `keys` are its bearer keys, `named` those with a name, `people` those with tokens.

    `gateway`: workspaces can be opened. `more` are its terms.
    """
    clients: list[Client] = []
    documented = Documented()
    access = WorkspaceAccess(
        MemoryTickets(),
        Keyring(MemorySigningKeys()),
        world.cluster,
        origin=lambda uuid: f"https://vs-code-{uuid}.example.com",
    )

    # Looked up at each call: a test exchanges them.
    checks = {"redis": lambda: world.store.ping(), "kubernetes": lambda: world.cluster.check()}  # noqa: PLW0108

    audit = Audit(world.trail, LogAudit(), world.cluster)
    writing = asyncio.create_task(audit.run())

    async def start(
        keys: Sequence[str] = (),
        *,
        named: Sequence[ApiKey] = (),
        people: People | None = None,
        rates: RateLimits | None = None,
        api_keys: ApiKeys | None = None,
        gateway: bool = True,
        **more: Any,
    ) -> Client:
        health = Health(checks, seconds=0, parts=supervisor.failures)
        parts = ApiParts(
            provisioner=world.provisioner,
            upgrades=world.upgrades,
            rollouts=world.rollout_control,
            activity=world.activity,
            revocation=world.revocation,
            queries=world.queries,
            profiles=world.profiles,
            progress=world.progress,
            access=access if gateway else None,
            audit=audit,
            counter=counter,
            capacity=ClusterCapacity(world.facts, world.cluster),
            wake_times=WakeTimes(world.measured),
            awake_limits=world.limits_on_awake,
            users_namespace="users",
            exposition=exposition,
            doctor=world.doctor(health),
            example_url="https://vs-code-00000000.example.com" if gateway else None,
        )
        probes = ProbeParts(
            health=health,
            supervisor=supervisor,
            readiness=Readiness(SyncedCache(), drain),
        )
        known = api_keys or ApiKeys(MemoryApiKeyFile("\n".join(key.line for key in named)), keys)
        await known.load()
        gate = Gate(known, people, world.queries, rates) if api_keys or keys or named or people else None
        app = make_app(parts, probes, gate=gate, answered=metrics.answered, **more)
        app.on_response_prepare.append(documented.check)
        client: Client = TestClient(TestServer(app))
        clients.append(client)
        await client.start_server()
        return client

    yield start
    for client in clients:
        await client.close()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    assert not documented.violations, "not in the OpenAPI document"


@pytest.fixture
async def client(serve: Serve) -> Client:
    return await serve()
