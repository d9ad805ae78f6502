"""The metrics count events, read gauges at the scrape, and have no series that grow with users."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.adapters.helm.measured_releases import MeasuredReleases
from service.adapters.prometheus.exposition import Exposition
from service.adapters.prometheus.gauges import (
    CountedGauges,
    ExpirerGauges,
    GatewayGauges,
    LeaderGauges,
    ReconcilerGauges,
    ReleaseGauges,
    SessionGauges,
    StoreGauges,
)
from service.adapters.prometheus.metrics import PrometheusMetrics
from service.domain.admission_queue import AdmissionQueue
from service.domain.clock import utc_now
from service.domain.errors import HelmQueueFull, HelmTimeout, RedisUnavailable
from service.domain.expiry import ExpiryReason
from service.domain.idle_times import IdleTimes
from service.domain.lifecycle import Step
from service.domain.metrics import ActivitySource, Creation, RequestOutcome, Slow, Traffic, Waiter
from service.domain.names import SessionId
from service.domain.ports import Releases
from service.domain.progress import Stage
from service.domain.provisioning import Provisioner
from service.domain.rollout import RolloutOptions
from service.domain.session_counts import SessionCounter
from service.domain.workload import UNASSIGNED, Assignment
from tests.domain.conftest import World
from tests.fakes import MemoryReleases
from tests.fakes.gauges import FakeExpirer, FakeGateway, FakeLeader, FakeReconciler, FakeStore

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(metrics: PrometheusMetrics, *counted: CountedGauges[Any]) -> Series:
    page, _ = await Exposition(metrics.registry, *counted)()
    families = text_string_to_metric_families(page.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(series: Series, name: str, **labels: str) -> float:
    return series[f"user_pods_{name}", frozenset(labels.items())]


class Failing(MemoryReleases):
    """Helm on a bad day."""

    async def install(
        self, uuid: SessionId, user_id: str, idle_times: IdleTimes, assignment: Assignment = UNASSIGNED
    ) -> None:
        raise HelmTimeout


@pytest.fixture
def metrics() -> PrometheusMetrics:
    return PrometheusMetrics()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    await world.provisioner.close()


def metered(world: World, metrics: PrometheusMetrics, releases: Releases | None = None) -> Provisioner:
    return Provisioner(
        queries=world.queries,
        store=world.store,
        queues=world.queues,
        releases=MeasuredReleases(releases or world.releases, metrics),
        cluster=world.cluster,
        admission=AdmissionQueue(running=1, waiting=100),
        idle_times=IdleTimes(),
        helm_deadline=timedelta(seconds=5),
        metrics=metrics,
    )


async def test_creates_are_counted_by_outcome_with_their_helm_runs(world: World, metrics: PrometheusMetrics) -> None:
    provisioner = metered(world, metrics)
    await provisioner.create("ann")
    await provisioner.create("ann")
    await provisioner.delete((await provisioner.create("bob")).uuid, keep_data=True)
    with pytest.raises(HelmTimeout):
        await metered(world, metrics, Failing(world.cluster)).create("eve")
    series = await scrape(metrics)
    outcomes = {outcome: value(series, "create_seconds_count", outcome=outcome) for outcome in Creation}
    assert outcomes == {Creation.INSTALLED: 2, Creation.PRESENT: 1, Creation.FAILED: 1}
    runs = {
        (work, outcome): value(series, "helm_seconds_count", work=work, outcome=outcome)
        for work in ("install", "uninstall")
        for outcome in ("ok", "failed")
    }
    assert runs == {
        ("install", "ok"): 2,
        ("install", "failed"): 1,
        ("uninstall", "ok"): 1,
        ("uninstall", "failed"): 0,
    }


def test_a_rejected_helm_run_is_counted() -> None:
    slots = AdmissionQueue(running=1, waiting=0)
    with slots.admit():
        assert slots.admitted == 1
        with pytest.raises(HelmQueueFull), slots.admit():
            pass
    assert (slots.admitted, slots.refused) == (0, 1)


async def test_gateway_events_are_counted_and_every_series_exists_from_the_start(metrics: PrometheusMetrics) -> None:
    before = await scrape(metrics)
    assert {value(before, "gateway_requests_total", outcome=outcome) for outcome in RequestOutcome} == {0}
    assert {value(before, "gateway_slow_total", over=slow) for slow in Slow} == {0}
    metrics.request_ended(RequestOutcome.HELD)
    metrics.wait_ended(Waiter.REQUEST, 0.4)
    metrics.activity_recorded(ActivitySource.INPUT)
    metrics.slow_client_closed(Slow.BODY)
    metrics.connection_rejected()
    after = await scrape(metrics)
    assert value(after, "gateway_requests_total", outcome="held") == 1
    assert value(after, "gateway_wait_seconds_bucket", who="request", le="0.5") == 1
    assert value(after, "gateway_wait_seconds_bucket", who="request", le="0.3") == 0
    assert value(after, "gateway_activity_total", source="input") == 1
    assert value(after, "gateway_slow_total", over="body") == 1
    assert value(after, "gateway_turned_away_total") == 1


async def test_the_gateways_open_connections_are_reported_only_with_a_gateway(metrics: PrometheusMetrics) -> None:
    assert ("user_pods_gateway_held", frozenset()) not in await scrape(metrics)
    metrics.registry.register(GatewayGauges(FakeGateway(Traffic(connections=5, websockets=3, held=1))))
    series = await scrape(metrics)
    assert [value(series, f"gateway_{name}") for name in ("connections", "websockets", "held")] == [5, 3, 1]


async def test_states_and_totals_are_read_at_the_scrape(metrics: PrometheusMetrics) -> None:
    leader, reconciler = FakeLeader(), FakeReconciler({Step.PARK: 1})
    metrics.registry.register(LeaderGauges(leader))
    metrics.registry.register(ReconcilerGauges(reconciler))
    before = await scrape(metrics)
    assert (value(before, "leader"), value(before, "steps_total", step="park")) == (0, 1)
    assert value(before, "steps_total", step="scale-up") == 0
    assert ("user_pods_listening", frozenset()) not in before
    leader.leads, leader.listens, reconciler.done = True, True, {Step.PARK: 5}
    after = await scrape(metrics)
    assert (value(after, "leader"), value(after, "steps_total", step="park"), value(after, "listening")) == (1, 5, 1)


async def test_deletions_ahead_are_reported_by_the_leader_alone(metrics: PrometheusMetrics) -> None:
    expirer = FakeExpirer()
    metrics.registry.register(ExpirerGauges(expirer))
    assert not [name for name, _ in await scrape(metrics) if name == "user_pods_sessions_expiring"]
    expirer.warned = {ExpiryReason.DORMANCY: 3}
    metrics.expired(ExpiryReason.LIFETIME)
    series = await scrape(metrics)
    assert [value(series, "sessions_expiring", reason=reason) for reason in ExpiryReason] == [0, 3]
    assert [value(series, "sessions_expired_total", reason=reason) for reason in ExpiryReason] == [1, 0]


async def test_sessions_that_cannot_be_read_are_counted(metrics: PrometheusMetrics) -> None:
    store = FakeStore()
    metrics.registry.register(StoreGauges(store))
    assert value(await scrape(metrics), "sessions_unreadable") == 0
    store.unreadable = 2
    assert value(await scrape(metrics), "sessions_unreadable") == 2


async def test_without_redis_counts_are_missing_and_everything_else_is_reported(
    world: World, metrics: PrometheusMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = False

    def until_away(read: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def reading(*arguments: object) -> Any:
            if away:
                raise RedisUnavailable
            return await read(*arguments)

        return reading

    for port in (world.queues, world.rollouts):
        monkeypatch.setattr(port, "read", until_away(port.read))
    await world.provisioner.create("ann@example.com")
    sessions = SessionGauges(SessionCounter(world.cluster, world.queues, world.store).count)
    releases = ReleaseGauges(world.rollout_control.counts)
    for each in (sessions, releases, LeaderGauges(FakeLeader())):
        metrics.registry.register(each)
    counts = {"user_pods_sessions", "user_pods_wakes_pending", "user_pods_sessions_outdated"}
    assert counts < {name for name, _ in await scrape(metrics, sessions, releases)}
    away = True
    names = {name for name, _ in await scrape(metrics, sessions, releases)}
    assert "user_pods_leader" in names
    assert not counts & names


async def test_outdated_sessions_are_counted_as_the_upgrade_counts_them_while_other_tasks_run(
    world: World, metrics: PrometheusMetrics
) -> None:
    first = (await world.provisioner.create("u")).uuid
    sleeper = world.cluster.workload(first)
    for number in range(2000):
        world.cluster.change(replace(sleeper, uuid=SessionId(f"{number:08d}"), user_id=f"u{number}"))
    world.cluster.change(replace(sleeper, replicas=1, ready=1))
    world.cluster.change(replace(sleeper, uuid=SessionId("00000001"), has_scaler=False))
    world.releases.target = "second"
    started = (await world.rollout_control.start(RolloutOptions(), by="ci")).rollout
    assert started is not None
    for uuid in (SessionId("00000001"), SessionId("00000002")):
        await world.rollout_control.change(started.id, lambda it, uuid=uuid: it.with_failure(uuid, "no", utc_now()))  # type: ignore[misc]
    releases, turns = ReleaseGauges(world.rollout_control.counts), 0
    metrics.registry.register(releases)

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    working = asyncio.create_task(others())
    series = await scrape(metrics, releases)
    working.cancel()
    counts = (await world.rollout_control.status()).counts
    assert value(series, "sessions_outdated") == counts.outdated == 2000, "all but the one that a create must repair"
    assert (counts.asleep, counts.awake, counts.failed, counts.broken) == (1998, 1, 1, 1)
    assert turns >= 5


async def test_the_size_of_a_scrape_does_not_grow_with_users(world: World, metrics: PrometheusMetrics) -> None:
    sessions = SessionGauges(SessionCounter(world.cluster, world.queues, world.store).count)
    metrics.registry.register(sessions)
    provisioner = metered(world, metrics)

    async def after(users: int) -> Series:
        for number in range(users):
            uuid = (await provisioner.create(f"user-{number}@example.com")).uuid
            await world.activity.wake(uuid)
            metrics.wake_reached(Stage.READY, number)
            metrics.answered("wake", 202, 0.01)
        return await scrape(metrics, sessions)

    few, many = await after(1), await after(30)
    assert few.keys() == many.keys()
    assert (value(few, "sessions", phase="waking"), value(many, "sessions", phase="waking")) == (1, 30)
    exposition = Exposition(metrics.registry, sessions)
    text = (await exposition())[0].decode()
    assert "example.com" not in text
    assert not any(uuid in text for uuid in world.cluster.workloads)


async def test_a_scraper_that_accepts_openmetrics_gets_it(metrics: PrometheusMetrics) -> None:
    exposition = Exposition(metrics.registry)
    assert (await exposition())[1].startswith("text/plain; version=0.0.4")
    page, content_type = await exposition("application/openmetrics-text;version=1.0.0,*/*;q=0.1")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert page.endswith(b"# EOF\n")
