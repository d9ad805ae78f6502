"""What sleeping saves: an estimate that claims no more than is known."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.idle_times import IdleTimes
from service.domain.savings import Prices, Savings
from service.domain.session_index import SessionIndex
from service.domain.workload import Requests, Workload
from tests.dashboard.sessions import show
from tests.domain.conftest import World

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
COOLDOWN = timedelta(minutes=2)


def saved(world: World, **changes: object) -> Savings:
    """By one session, which sleeps unless the changes say otherwise."""
    show(world, 0, "ann@example.com")
    (workload,) = world.cluster.workloads.values()
    base: Workload = replace(
        workload, requests=Requests(cpu=0.5, memory=2), idle_times=IdleTimes(cooldown=COOLDOWN),
        created_at=NOW - timedelta(days=30),
    )  # fmt: skip
    world.cluster.change(replace(base, **changes))  # type: ignore[arg-type]
    return Savings.of(SessionIndex(world.cluster).sessions(), NOW)


@pytest.mark.parametrize(
    ("changes", "hours"),
    [
        ({}, 24),
        ({"last_active": NOW - timedelta(hours=3) - COOLDOWN}, 3),
        ({"last_active": NOW - timedelta(days=3)}, 24),
        ({"last_active": NOW + timedelta(hours=1)}, 0),
        ({"created_at": NOW - timedelta(hours=5)}, 5),
        ({"created_at": NOW - timedelta(hours=5), "last_active": NOW - timedelta(days=9)}, 5),
    ],
)
def test_a_session_counts_since_it_was_last_in_use_and_a_day_at_most(
    world: World, changes: dict[str, object], hours: float
) -> None:
    found = saved(world, **changes)
    assert (found.sessions, found.cpu, found.memory) == (1, 0.5, 2)
    assert (found.cpu_hours, found.memory_hours) == pytest.approx((hours / 2, hours * 2))


@pytest.mark.parametrize("changes", [{"replicas": 1}, {"requests": None}, {"release": None, "deployed": False}])
def test_what_is_awake_gone_or_unknown_saves_nothing(world: World, changes: dict[str, object]) -> None:
    assert saved(world, **changes) == Savings(sessions=0, cpu=0, memory=0, cpu_hours=0, memory_hours=0)


def test_prices_are_optional_and_each_counts(world: World) -> None:
    found = saved(world)
    assert found.price(Prices()) is None
    assert found.price(Prices(cpu=0.04)) == pytest.approx(12 * 0.04)
    assert found.price(Prices(cpu=0.04, memory=0.005)) == pytest.approx(12 * 0.04 + 48 * 0.005)
