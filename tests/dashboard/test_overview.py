"""The overview: what operators and viewers see of all sessions at once."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from service.domain.awake_quota import AwakeLimits
from service.domain.clock import utc_now
from service.domain.cluster_facts import Node
from service.domain.errors import ClusterUnavailable, RedisUnavailable
from service.domain.health import Health
from service.domain.permissions import CallerRole
from service.domain.progress import Stage
from service.domain.savings import Prices
from service.domain.wake_times import KEPT, MeasuredWake
from service.domain.workload import Assignment, Pod, Requests
from tests.dashboard.conftest import FRONTEND, OPERATOR, VIEWER, Board, serving
from tests.dashboard.sessions import fill
from tests.domain.conftest import World
from tests.domain.test_wake_times import wake

OVERVIEW = "/dashboard/overview"


def words(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]).split())


@pytest.mark.parametrize("role", [OPERATOR, VIEWER])
async def test_it_says_how_many_sessions_are_awake_and_which_need_a_look(board: Board, role: CallerRole) -> None:
    fill(board.world, 300)
    visitor = await board.visitor(role)
    page = await visitor.read(OVERVIEW)
    assert "Have or want a pod 12; nothing limits how many may be" in words(page)
    assert "Waking up 3 Awake 6 Does not start 3 All 300" in words(page)
    assert "3 sessions cannot pull their image" in page
    # Each number leads to the sessions that it counts.
    for query in ("phase=failed", "reason=image"):
        assert f'href="/dashboard?{query}"' in page
        assert "3 of 300 sessions." in await visitor.read(f"/dashboard?{query}")
    assert 'aria-current="page">Overview</a>' in page


@pytest.mark.parametrize(
    ("role", "user_id"), [(FRONTEND, None), (FRONTEND, "ann@example.com"), (OPERATOR, "a@b.example")]
)
async def test_who_may_not_see_all_sessions_gets_no_overview(board: Board, role: CallerRole, user_id: str) -> None:
    visitor = await board.visitor(role, user_id)
    answer = await visitor.get(OVERVIEW)
    assert answer.status == 403
    assert "Overview</a>" not in await answer.text()


async def test_the_limit_of_awake_sessions_is_shown_as_far_as_it_is_used(world: World) -> None:
    fill(world, 300)
    for limit, expected in ((40, "All sessions: 12 of 40 that may be awake."), (12, "No further one wakes up.")):
        async with serving(world, awake_limits=AwakeLimits(total=limit)) as board:
            page = await (await board.visitor(VIEWER)).read(OVERVIEW)
        assert expected in words(page)
        assert f'max="{limit}"' in page
        assert 'value="12"' in page


async def test_each_group_has_its_own_limit(world: World) -> None:
    fill(world, 300)
    for number, (uuid, workload) in enumerate(world.cluster.workloads.items()):
        group = ("staff", "students", None)[number // 100]
        world.cluster.workloads[uuid] = replace(workload, assignment=Assignment(group=group))
    async with serving(world, awake_limits=AwakeLimits(groups={"students": 4, "staff": 9, "guests": 5})) as board:
        page = words(await (await board.visitor(VIEWER)).read(OVERVIEW))
    assert (
        "Group guests: 0 of 5 that may be awake. Group staff: 4 of 9 that may be awake."
        " Group students: 4 of 4 that may be awake. No further one wakes up."
    ) in page
    assert "All sessions" not in page


async def test_percentiles_are_of_the_last_hour_and_day_of_all_replicas(board: Board) -> None:
    now = utc_now()
    board.world.measured.wakes = [
        *(wake(2.0, pod=f"now{number}", at=now - timedelta(minutes=1)) for number in range(10)),
        *(wake(8.0, pod=f"then{number}", at=now - timedelta(hours=5)) for number in range(30)),
        wake(None, at=now - timedelta(hours=6)),
        wake(99.0, pod="old", at=now - timedelta(days=2)),
    ]
    page = words(await (await board.visitor(VIEWER)).read(OVERVIEW))
    hour, day = page.partition("Last hour: 10 wakes")[2].split("Last day: 40 wakes, in seconds")
    assert "In all, from the wake to the ready pod 2.00 2.00 2.00" in hour
    assert "The service asks for a pod 0.50 0.50 0.50" in hour
    assert "In all, from the wake to the ready pod 8.00 8.00 8.00" in day
    assert "Last day: 1 wake without a ready pod after ten minutes." in day
    assert "more wakes than are kept" not in day


async def test_it_says_since_when_there_are_times_if_that_is_less_than_a_day(board: Board) -> None:
    at = utc_now() - timedelta(hours=3)
    board.world.measured.wakes = [wake(1.0, pod=str(number), at=at) for number in range(KEPT)]
    page = await (await board.visitor(VIEWER)).read(OVERVIEW)
    assert f"those of the last day begin at {at:%Y-%m-%d %H:%M:%S} UTC" in page


async def test_nobody_has_woken_a_session_yet(board: Board) -> None:
    page = words(await (await board.visitor(VIEWER)).read(OVERVIEW))
    assert "Last hour: no session had to start a pod." in page
    assert "Every part of the service works." in page
    assert "No session is held up." in page


async def test_parts_that_fail_are_named_with_the_reason(world: World) -> None:
    async def fails() -> None:
        raise ClusterUnavailable("<the API server does not answer>")

    async def works() -> None: ...

    health = Health(
        {"redis": works, "kubernetes": fails}, seconds=60, remarks={"entry": lambda: "nobody can sign in right now"}
    )
    async with serving(world, health=health) as board:
        page = await (await board.visitor(VIEWER)).read(OVERVIEW)
    assert "<strong>kubernetes</strong>: " in page
    assert "entry: nobody can sign in right now" in page
    assert "<strong>redis" not in page
    assert "<the API" not in page


async def test_without_redis_the_rest_is_shown(board: Board) -> None:
    async def last() -> Sequence[MeasuredWake]:
        raise RedisUnavailable

    fill(board.world, 100)
    visitor = await board.visitor(VIEWER)
    board.world.measured.last = last  # type: ignore[method-assign]
    page = words(await visitor.read(OVERVIEW))
    assert "Redis does not answer, so the times are not known." in page
    assert "All 100" in page


async def test_a_wake_without_any_stage_before_ready_does_no_harm(board: Board) -> None:
    board.world.measured.wakes = [MeasuredWake(at=utc_now(), pod="a", stages={Stage.READY: 1.5})]
    page = words(await (await board.visitor(VIEWER)).read(OVERVIEW))
    assert "In all, from the wake to the ready pod 1.50 1.50 1.50" in page


async def test_what_sleeping_saves_is_an_estimate_with_prices_if_there_are_any(world: World) -> None:
    fill(world, 200)
    requests = Requests(cpu=0.5, memory=1)
    for uuid, workload in world.cluster.workloads.items():
        world.cluster.workloads[uuid] = replace(workload, requests=requests, created_at=utc_now() - timedelta(days=2))
    for prices, told in ((Prices(), False), (Prices(cpu=0.03, memory=0.004, currency="EUR"), True)):
        async with serving(world, prices=prices) as board:
            page = words(await (await board.visitor(VIEWER)).read(OVERVIEW))
        assert "An estimate, by what the pods of the 192 sessions that sleep now would request." in page
        assert "Now 96.0 CPUs and 192.0 GiB that nobody has to reserve" in page
        assert "Last day, at least 2,304 CPU hours and 4,608 GiB hours" in page
        assert ("87.55 EUR by your prices" in page) == told


USUAL = Requests(cpu=0.5, memory=1)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        (None, "The service may not see the nodes. rbac.clusterFacts: true in the values"),
        (
            [Node(name="a", cpu=1234, memory=64, pods=110)],
            (
                "Room for 52 more awake sessions at most, of the usual size (0.5 CPUs, 1 GiB). Then the memory of the"
                " nodes is used up. Awake sessions request 6.0 of 1,234.0 CPUs, 12.0 of 64.0 GiB and 12 of 110 pods"
                " of 1 node. Other pods on the nodes are not counted"
            ),
        ),
        (
            [Node(name="a", cpu=6.4, memory=64, pods=110), Node(name="b", cpu=8, memory=64, pods=110, usable=False)],
            "No room for another awake session of the usual size (0.5 CPUs, 1 GiB): the CPUs of the nodes are used up.",
        ),
        ([], "(0.5 CPUs, 1 GiB): no node takes its pod. Who wakes one waits for a node."),
    ],
)
async def test_it_says_for_how_many_more_awake_sessions_the_nodes_have_room(
    world: World, nodes: list[Node] | None, expected: str
) -> None:
    fill(world, 300)
    for uuid, workload in world.cluster.workloads.items():
        pod = Pod("pod", node="a") if workload.replicas else None
        world.cluster.workloads[uuid] = replace(workload, requests=USUAL, pod=pod)
    world.facts.allowed, world.facts.machines = nodes is not None, nodes or []
    async with serving(world) as board:
        page = words(await (await board.visitor(VIEWER)).read(OVERVIEW))
    assert expected in page
    assert ("1 node is left out" in page) == (nodes is not None and len(nodes) > 1)


async def test_sessions_that_wait_for_a_node_are_told_and_without_sessions_there_is_no_size(world: World) -> None:
    world.facts.allowed, world.facts.machines = True, [Node(name="a", cpu=8, memory=64, pods=110)]
    async with serving(world) as board:
        visitor = await board.visitor(VIEWER)
        assert "There is no session yet whose size could be compared with the nodes." in words(
            await visitor.read(OVERVIEW)
        )
    fill(world, 100)
    for uuid, workload in world.cluster.workloads.items():
        world.cluster.workloads[uuid] = replace(workload, requests=USUAL)
    async with serving(world) as board:
        page = words(await (await board.visitor(VIEWER)).read(OVERVIEW))
    assert "Room for 12 more awake sessions at most" in page
    assert "pods of 1 node; 4 wait for a node." in page


async def test_nodes_that_the_api_server_does_not_tell_hold_no_page_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nodes() -> Sequence[Node]:
        raise ClusterUnavailable

    monkeypatch.setattr(world.facts, "nodes", nodes)
    async with serving(world) as board:
        page = words(await (await board.visitor(VIEWER)).read(OVERVIEW))
    assert "The API server has not said yet what the nodes have." in page
    assert "Every part of the service works." in page
