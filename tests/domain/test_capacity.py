"""How many more sessions may be awake, and how the nodes are read for it."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.domain.capacity import Amounts, Capacity, ClusterCapacity, Demand, Resource, Unseen, capacity
from service.domain.cluster_facts import Node
from service.domain.errors import ClusterUnavailable
from service.domain.names import SessionId
from service.domain.placement import Placement, Requirement, Taint, Toleration
from service.domain.workload import Pod, Requests, Workload
from tests.domain.conftest import World
from tests.fakes import MemoryClusterFacts

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
USUAL = Requests(cpu=0.5, memory=1)
POOL = Placement(tolerations=(Toleration("users", None, ""),), terms=((Requirement("pool", "In", ("users",)),),))


def node(name: str = "a", *, cpu: float = 4, memory: float = 16, pods: int = 110, **more: Any) -> Node:
    return Node(name=name, cpu=cpu, memory=memory, pods=pods, **more)


def asleep(number: int, requests: Requests | None = USUAL, **more: Any) -> list[Workload]:
    return [Workload(SessionId(f"sleep{n:03}"), requests=requests, **more) for n in range(number)]


def awake(number: int, node: str | None = "a", requests: Requests | None = USUAL, **more: Any) -> list[Workload]:
    pod = Pod("uid", scheduled=node is not None, node=node)
    return [Workload(SessionId(f"awake{n:03}"), replicas=1, pod=pod, requests=requests, **more) for n in range(number)]


def room(nodes: Sequence[Node], *workloads: list[Workload]) -> tuple[int | None, Resource | None]:
    found = capacity(nodes, Demand.of(each for several in workloads for each in several), NOW)
    return found.room, found.limited_by


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (node(cpu=3.9), (7, Resource.CPU)),
        (node(memory=5.5), (5, Resource.MEMORY)),
        (node(pods=3), (3, Resource.PODS)),
        (node(cpu=0.3 + 0.2), (1, Resource.CPU)),
        (node(cpu=0, memory=0, pods=0), (0, Resource.CPU)),
    ],
)
def test_what_runs_out_first_limits_the_room(machine: Node, expected: tuple[int, Resource]) -> None:
    assert room([machine], asleep(1)) == expected


def test_pods_of_awake_sessions_take_room_on_their_node() -> None:
    found = capacity([node("a"), node("b")], Demand.of([*awake(5, "a"), *awake(2, "b"), *asleep(90)]), NOW)
    assert (found.room, found.limited_by) == (9, Resource.CPU)
    assert (found.nodes, found.left_out, found.waiting, found.size) == (2, 0, 0, USUAL)
    assert found.allocatable == Amounts(8, 32, 220)
    assert found.requested == Amounts(3.5, 7, 7)
    assert found.at == NOW


def test_a_pod_does_not_fit_into_what_several_nodes_have_left_together() -> None:
    large = Requests(cpu=3, memory=1)
    assert room([node("a", cpu=2), node("b", cpu=2)], asleep(1, large)) == (0, Resource.CPU)
    assert room([node("a", cpu=4), node("b", cpu=2)], asleep(1, large)) == (1, Resource.CPU)


def test_a_node_on_which_more_runs_than_it_has_takes_nothing_from_the_others() -> None:
    assert room([node("a", cpu=1), node("b", cpu=1)], awake(6, "a")) == (2, Resource.CPU)


def test_sessions_that_wait_for_a_node_come_first() -> None:
    assert room([node(cpu=2)], awake(1, "a"), awake(2, None)) == (1, Resource.CPU)
    assert room([node(cpu=2)], awake(1, "a"), awake(20, None)) == (0, Resource.CPU)


@pytest.mark.parametrize(
    "unfit",
    [
        node("b", usable=False),
        node("b", taints=(Taint("users", "", "NoSchedule"),)),
        node("b", taints=(Taint("gone", "", "NoExecute"),)),
    ],
)
def test_nodes_that_take_no_pods_of_sessions_are_left_out_with_what_runs_there(unfit: Node) -> None:
    found = capacity([node("a"), unfit], Demand.of([*awake(3, "a"), *awake(4, "b")]), NOW)
    assert (found.nodes, found.left_out, found.room, found.requested.pods) == (1, 1, 5, 3)


def test_a_pool_of_their_own_is_the_room_of_sessions_that_must_and_may_run_there() -> None:
    pool = node("b", labels={"pool": "users"}, taints=(Taint("users", "", "NoSchedule"),))
    found = capacity([node("a", cpu=64), pool], Demand.of(awake(1, "b", placement=POOL)), NOW)
    assert (found.nodes, found.left_out, found.room) == (1, 1, 7)
    # Other sessions run elsewhere: their nodes count, but give no room to most sessions.
    found = capacity([node("a", cpu=64), pool], Demand.of([*awake(2, "b", placement=POOL), *awake(1, "a")]), NOW)
    assert (found.nodes, found.room, found.requested.pods) == (2, 6, 3)


def test_the_usual_size_is_the_most_frequent_one_and_of_two_the_larger() -> None:
    small, large = Requests(cpu=0.1, memory=0.5), Requests(cpu=1, memory=4)

    def usual(*workloads: list[Workload]) -> Requests | None:
        return capacity([], Demand.of(each for several in workloads for each in several), NOW).size

    assert usual(asleep(3, small), awake(2, "a", large)) == small
    assert usual(asleep(2, small), awake(2, "a", large)) == large
    # Equal sizes that were read one by one are one size.
    assert usual([*asleep(1, Requests(0.1, 0.5)), *asleep(1, Requests(0.1, 0.5))], asleep(1, large)) == small
    assert usual(asleep(5, None)) is None


def test_sizes_that_a_limit_range_sets_count_before_deployments_that_name_none() -> None:
    nothing = Requests(cpu=0, memory=0)
    assert room([node(cpu=2)], asleep(9, nothing), awake(1, "a")) == (3, Resource.CPU)
    assert room([node(pods=20)], asleep(9, nothing)) == (20, Resource.PODS)


def test_without_a_session_or_a_node_there_is_nothing_to_compare() -> None:
    assert room([node()]) == (None, None)
    assert room([], asleep(1)) == (0, None)


# --- reading the nodes ------------------------------------------------------------------------------------------------


class Facts(MemoryClusterFacts):
    """Counts reads, and can be held up or fail."""

    def __init__(self, *machines: Node) -> None:
        super().__init__(allowed=True, machines=[*machines])
        self.reads = 0
        self.failure: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def nodes(self) -> Sequence[Node] | None:
        self.reads += 1
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return await super().nodes()


class Time:
    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)


@pytest.fixture
def time() -> Time:
    return Time()


Make = Callable[..., ClusterCapacity]


@pytest.fixture
def make(world: World, time: Time) -> Make:
    def made(facts: Facts, *, wait: float = 60) -> ClusterCapacity:
        return ClusterCapacity(facts, world.cluster, wait=wait, now=time.now, clock=lambda: time.seconds)

    return made


def nodes_of(found: Capacity | Unseen) -> int:
    assert isinstance(found, Capacity), found
    return found.nodes


async def test_everybody_shares_one_read_for_half_a_minute(make: Make, time: Time) -> None:
    facts = Facts(node())
    reader = make(facts)
    assert [nodes_of(each) for each in await asyncio.gather(*(reader.read() for _ in range(20)))] == [1] * 20
    time.seconds += 29
    facts.machines.append(node("b"))
    assert (nodes_of(await reader.read()), facts.reads) == (1, 1)
    time.seconds += 2
    assert (nodes_of(await reader.read()), facts.reads) == (2, 2)


async def test_what_sessions_request_is_newer_than_the_nodes(make: Make, world: World, time: Time) -> None:
    reader = make(Facts(node()))
    assert getattr(await reader.read(), "waiting", None) == 0
    world.cluster.change(awake(1, None)[0])
    time.seconds += 6
    assert getattr(await reader.read(), "waiting", None) == 1


async def test_nobody_waits_long_for_the_api_server_and_the_answer_serves_the_next(make: Make, time: Time) -> None:
    facts = Facts(node())
    facts.open.clear()
    reader = make(facts, wait=0.01)
    assert await reader.read() is Unseen.UNKNOWN
    time.seconds += 1  # those who come later do not wait at all
    assert await asyncio.wait_for(reader.read(), 0.005) is Unseen.UNKNOWN
    facts.open.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (nodes_of(await reader.read()), facts.reads) == (1, 1)


async def test_without_the_right_it_is_unseen(make: Make) -> None:
    facts = Facts(node())
    facts.allowed = False
    assert await make(facts).read() is Unseen.NOT_ALLOWED


@pytest.mark.parametrize("failure", [ClusterUnavailable(), ZeroDivisionError()])
async def test_nodes_that_were_read_last_serve_for_five_minutes_without_an_answer(
    make: Make, time: Time, failure: Exception
) -> None:
    facts = Facts(node())
    reader = make(facts)
    facts.failure = failure
    assert await reader.read() is Unseen.UNKNOWN
    assert (await reader.read(), facts.reads) == (Unseen.UNKNOWN, 1)
    time.seconds += 6
    facts.failure = None
    assert (nodes_of(await reader.read()), facts.reads) == (1, 2)
    facts.failure = failure
    time.seconds += 200
    found = await reader.read()
    assert isinstance(found, Capacity)
    assert (found.at, facts.reads) == (time.now() - timedelta(seconds=200), 3)
    time.seconds += 101
    assert await reader.read() is Unseen.UNKNOWN
