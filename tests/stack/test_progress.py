"""The events of wakes on real parts: in order, from any replica, with an early end for what cannot work."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from stack.stack import Stack
from tests.conftest import free_port
from tests.stack.client import Caller, until
from tests.stack.test_parking import parked

Event = dict[str, Any]
Restart = Callable[[dict[str, str]], None]
ORDER = ["accepted", "scaled", "scheduled", "pulled", "started", "ready"]


@pytest.fixture
async def uuid(caller: Caller, user: str) -> str:
    return str((await caller.create(user))[1]["uuid"])


@pytest.fixture
async def second(stack: Stack, caller: Caller) -> AsyncIterator[str]:
    """Address of a second replica."""
    other = Stack(stack.cluster, port=free_port(), settings=stack.settings, name="second-service")
    other.start()
    yield other.url
    stack.cluster.stop(other.name)


@pytest.fixture
def nowhere(stack: Stack, restarted: Restart, tmp_path: Path) -> Callable[..., None]:
    """Restarts the service so that new pods require a node with the label `<label>: here`, which no node has."""

    def restart(label: str, **settings: str) -> None:
        good = (stack.cluster.state / "config" / "user-pod.yaml").read_text()
        (tmp_path / "values.yaml").write_text(f"{good}\nnodeSelector: {{{label}: here}}\n")
        restarted({"CHART_VALUES": str(tmp_path / "values.yaml"), **settings})

    return restart


async def events(url: str, uuid: str, after: str | None = None) -> list[Event]:
    """All until the stream ends, each with its id."""
    headers = {"Last-Event-ID": after} if after else {}
    async with _session() as session, session.get(f"{url}/session/{uuid}/events", headers=headers) as answer:
        return _parsed((await answer.read()).decode()) if answer.status == 200 else []


def _parsed(text: str) -> list[Event]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        if fields:
            found.append({"id": fields.get("id"), **json.loads(fields["data"])})
    return found


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        yield session


def phases(told: list[Event]) -> list[str]:
    return [event["phase"] for event in told]


def check(told: list[Event]) -> None:
    """All phases, in their order; unparking goes on beside the others."""
    assert [phase for phase in phases(told) if phase in ORDER] == ORDER
    assert set(phases(told)) <= {*ORDER, "unparked", "warning"}
    times = [event["at"] for event in told]
    assert times == sorted(times)
    assert told[0]["seconds"] == 0 < told[-1]["seconds"]


async def test_every_replica_streams_a_wake_in_order_and_can_resume_it(
    stack: Stack, caller: Caller, second: str, uuid: str
) -> None:
    await caller.call("POST", f"/session/{uuid}/wake")
    here, there = await asyncio.gather(events(stack.url, uuid), events(second, uuid))
    check(here)
    check(there)
    again = await events(second, uuid)
    assert again == here == there
    assert await events(second, uuid, again[1]["id"]) == again[2:]
    assert await events(stack.url, uuid, again[-1]["id"]) == []
    assert (await caller.status(uuid))["phase"] == "ready"


async def test_the_stream_reports_unparking_and_the_next_wake_starts_over(
    stack: Stack, caller: Caller, uuid: str
) -> None:
    first: list[Event] = []
    for _ in range(2):
        await caller.call("POST", f"/session/{uuid}/wake")
        told = await events(stack.url, uuid)
        check(told)
        assert not {event["id"] for event in told} & {event["id"] for event in first}
        first = told
        await caller.call("POST", f"/session/{uuid}/sleep")
        await parked(caller, uuid)
    assert "unparked" in phases(first)


async def test_heartbeats_of_an_awake_session_add_nothing(stack: Stack, caller: Caller, uuid: str) -> None:
    await caller.call("POST", f"/session/{uuid}/wake")
    told = await events(stack.url, uuid)
    for _ in range(3):
        await caller.call("POST", f"/session/{uuid}/wake")
    assert await events(stack.url, uuid) == told


async def test_a_bare_push_is_a_wake_like_any_other(stack: Stack, caller: Caller, uuid: str) -> None:
    await asyncio.sleep(1)  # until somebody leads and listens
    async with Redis.from_url(stack.cluster.redis_url) as redis:
        await redis.rpush(f"queue:{uuid}", "x")
    await caller.until(uuid, "ready", 15)

    async def noted() -> bool:
        # Until the wake is noted, the stream of an awake session tells only that it is ready, without an id.
        return (await events(stack.url, uuid))[-1]["id"] is not None

    await until(noted, 10, lambda: "no wake was noted")
    check(await events(stack.url, uuid))


async def test_an_unschedulable_pod_is_reported_in_kubernetes_words_and_its_wake_is_kept(
    stack: Stack, caller: Caller, user: str, nowhere: Callable[..., None]
) -> None:
    nowhere("nowhere", SCHEDULE_TIMEOUT="2", COOLDOWN="2", LEASE="6", POLLING_INTERVAL="1")
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    telling = asyncio.create_task(events(stack.url, uuid))
    # Longer than lease, cooldown and polls: without the wake being held, KEDA would have ended the pod by then.
    await asyncio.sleep(12)
    status = await caller.status(uuid)
    assert (status["phase"], status["replicas"]) == ("waking", 1)
    assert "didn't match Pod's node affinity/selector" in status["reason"]
    assert "waiting for more than 2 s" in status["warning"]
    # A node comes: the same wake gets ready.
    _label_a_node(stack, "nowhere=here")
    await caller.until(uuid, "ready")
    told = await asyncio.wait_for(telling, 10)
    assert phases(told)[-1] == "ready"
    assert "failed" not in phases(told)
    warnings = [event["reason"] for event in told if event["phase"] == "warning"]
    assert [words for words in warnings if words.startswith("FailedScheduling: ")]
    assert status["warning"] in warnings


async def test_an_abandoned_wake_ends_when_the_pod_is_put_to_sleep(
    stack: Stack, caller: Caller, user: str, nowhere: Callable[..., None]
) -> None:
    nowhere("elsewhere", SCHEDULE_TIMEOUT="60")
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    telling = asyncio.create_task(events(stack.url, uuid))
    await asyncio.sleep(1)
    await caller.call("POST", f"/session/{uuid}/sleep")
    told = await telling
    assert phases(told)[-1] == "asleep"
    assert "ready" not in phases(told)


def _label_a_node(stack: Stack, label: str) -> None:
    node = stack.cluster.kubectl("get", "nodes", "-o", "jsonpath={.items[0].metadata.name}")
    stack.cluster.kubectl("label", "node", node, label)


async def test_open_streams_do_not_delay_a_shutdown_and_resume_elsewhere(
    stack: Stack, caller: Caller, user: str, nowhere: Callable[..., None], second: str
) -> None:
    nowhere("away", SCHEDULE_TIMEOUT="60", COOLDOWN="60")
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    cut = asyncio.create_task(events(stack.url, uuid))
    await asyncio.sleep(1)
    # A service that did not end by itself would be killed, and the stream with it, in the middle of a chunk.
    await asyncio.to_thread(stack.cluster.stop, stack.name)
    told = await cut
    assert phases(told)[0] == "accepted"
    assert "failed" not in phases(told)
    rest = asyncio.create_task(events(second, uuid, told[-1]["id"]))
    _label_a_node(stack, "away=here")
    assert phases(await rest)[-1] == "ready"


async def test_following_a_wake_needs_only_the_rights_of_the_chart(stack: Stack, caller: Caller, uuid: str) -> None:
    await caller.call("POST", f"/session/{uuid}/wake")
    check(await events(stack.url, uuid))
    assert stack.cluster.forbidden(stack.account) == []
