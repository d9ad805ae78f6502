"""The claim itself, on real parts: created asleep, awake on demand, asleep again; nothing forbidden."""

import asyncio
import json
import subprocess

from redis.asyncio import Redis

from stack.stack import USERS, Stack
from tests.stack.client import Caller
from tests.stack.conftest import owners, releases


def kubectl(stack: Stack, *arguments: str) -> str:
    return stack.cluster.kubectl("-n", USERS, *arguments)


def helm(stack: Stack, *arguments: str) -> str:
    argv = [str(stack.cluster.tools.path("helm")), *arguments, "-n", USERS]
    argv += ["--kubeconfig", str(stack.cluster.kubeconfig)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


async def test_a_session_is_created_asleep_wakes_on_demand_and_falls_asleep_again(
    stack: Stack, caller: Caller, user: str
) -> None:
    code, created = await caller.create(user)
    uuid = created["uuid"]
    assert code == 201
    assert (await caller.status(uuid))["phase"] == "asleep"
    assert (await caller.call("POST", f"/session/{uuid}/wake"))[0] == 202
    ready = await caller.until(uuid, "ready", 15)
    assert (ready["replicas"], ready["ready_replicas"]) == (1, 1)
    assert "Running" in kubectl(stack, "get", "pods", "-l", f"uuid={uuid}")
    asleep = await caller.until(uuid, "asleep", 20)
    assert (asleep["replicas"], asleep["queue_length"]) == (0, 0)


async def test_heartbeats_keep_a_session_awake_beyond_lease_and_cooldown(caller: Caller, user: str) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready", 15)
    for _ in range(12):
        await caller.call("POST", f"/session/{uuid}/wake")
        await asyncio.sleep(1)
        assert (await caller.status(uuid))["phase"] == "ready"


async def test_sleep_puts_a_session_to_sleep_now_and_a_wake_brings_it_back(caller: Caller, user: str) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready", 15)
    assert (await caller.call("POST", f"/session/{uuid}/sleep"))[0] == 202
    await caller.until(uuid, "asleep", 3)
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready", 15)


async def test_a_push_by_another_program_wakes_too(stack: Stack, caller: Caller, user: str) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    async with Redis.from_url(stack.cluster.redis_url) as redis:
        await redis.rpush(f"queue:{uuid}", "x")
        await redis.expire(f"queue:{uuid}", 5)
        await caller.until(uuid, "ready", 15)


async def test_operator_commands_work_and_an_uninstalled_session_comes_back_under_its_id(
    stack: Stack, caller: Caller, user: str
) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    assert f"user-{uuid}" in helm(stack, "list")
    assert kubectl(stack, "get", "scaledobject", f"user-{uuid}-scaler", "-o", "name").strip()
    helm(stack, "uninstall", f"user-{uuid}")
    status = await caller.status(uuid)
    assert (status["session"]["status"], status["phase"], status["release"]) == ("released", "released", None)
    code, problem = await caller.call("POST", f"/session/{uuid}/wake")
    assert (code, problem["type"]) == (409, "/problems/session-released")
    code, again = await caller.create(user)
    assert (code, again["uuid"]) == (201, uuid)
    assert (await caller.status(uuid))["phase"] == "asleep"


async def test_a_deleted_session_leaves_nothing(stack: Stack, caller: Caller, user: str) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    assert (await caller.call("DELETE", f"/session/{uuid}?keep_data=false"))[0] == 204
    assert (await caller.call("GET", f"/session/{uuid}/status"))[0] == 404
    kinds = "deployments,services,scaledobjects,triggerauthentications,persistentvolumeclaims"
    left: list[object] = []
    for _ in range(50):  # KEDA takes its finalizer off a moment later
        left = json.loads(kubectl(stack, "get", kinds, "-l", f"uuid={uuid}", "-o", "json"))["items"]
        if not left:
            break
        await asyncio.sleep(0.1)
    assert left == []
    async with Redis.from_url(stack.cluster.redis_url, decode_responses=True) as redis:
        assert [key async for key in redis.scan_iter(f"*{uuid}*")] == []
        assert await redis.hget("user-pods:users", user) is None


async def test_a_missing_scaledobject_is_reported_and_create_repairs_it(
    stack: Stack, caller: Caller, user: str
) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    kubectl(stack, "delete", "scaledobject", f"user-{uuid}-scaler")
    code, problem = await caller.call("POST", f"/session/{uuid}/wake")
    assert (code, problem["type"]) == (409, "/problems/session-broken")
    assert "ScaledObject" in problem["detail"]
    assert (await caller.create(user))[1]["uuid"] == uuid
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready", 15)


async def test_three_hundred_creates_for_one_user_make_one_release(stack: Stack, caller: Caller, user: str) -> None:
    answers = await asyncio.gather(*(caller.create(user) for _ in range(300)))
    assert {code for code, _ in answers} <= {200, 201}
    assert len({body["uuid"] for _, body in answers}) == 1
    assert list(owners(stack).values()).count(user) == 1


async def test_thirty_users_at_once_get_thirty_releases(stack: Stack, caller: Caller, user: str) -> None:
    answers = await asyncio.gather(*(caller.create(f"{number}-{user}") for number in range(30)))
    assert {code for code, _ in answers} == {201}
    uuids = {body["uuid"] for _, body in answers}
    assert len(uuids) == 30
    states = releases(stack)
    assert all(states[f"user-{uuid}"] == "deployed" for uuid in uuids)


async def test_the_service_needs_only_the_rights_of_its_chart(stack: Stack, caller: Caller, user: str) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/sleep")
    await caller.call("GET", "/health")
    await caller.call("DELETE", f"/session/{uuid}?keep_data=false")
    await asyncio.sleep(1)
    assert stack.cluster.forbidden(stack.account) == []
