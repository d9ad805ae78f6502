"""Parked sleepers on real parts: every way to wake one, and everything that can interfere."""

import asyncio
import json
import signal
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from stack.stack import USERS, Stack
from tests.conftest import free_port
from tests.stack.client import Caller, until

Restart = Callable[[dict[str, str]], None]
PAUSED = "autoscaling.keda.sh/paused"


def scaler(stack: Stack, uuid: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        stack.cluster.kubectl("-n", USERS, "get", "scaledobject", f"user-{uuid}-scaler", "-o", "json")
    )
    return found


def is_parked(stack: Stack, uuid: str) -> bool:
    return bool(scaler(stack, uuid)["metadata"].get("annotations", {}).get(PAUSED) == "true")


async def parked(caller: Caller, uuid: str, seconds: float = 30) -> None:
    body: dict[str, Any] = {}

    async def there() -> bool:
        nonlocal body
        body = await caller.status(uuid)
        return bool(body["parked"]) and body["phase"] == "asleep"

    await until(there, seconds, lambda: f"it is not parked: {body}")


@pytest.fixture
async def uuid(caller: Caller, user: str) -> str:
    return str((await caller.create(user))[1]["uuid"])


async def test_a_session_is_parked_before_create_answers(stack: Stack, caller: Caller, uuid: str) -> None:
    assert is_parked(stack, uuid)
    await parked(caller, uuid, 2)


async def test_a_parked_sleeper_has_no_hpa(stack: Stack, caller: Caller, uuid: str) -> None:
    async def gone() -> bool:
        found = json.loads(stack.cluster.kubectl("-n", USERS, "get", "hpa", "-o", "json"))["items"]
        return not [item for item in found if uuid in item["metadata"]["name"]]

    await until(gone, 10, lambda: "the HPA is still there")


async def test_a_wake_unparks_a_session_and_it_is_parked_again_once_asleep(
    stack: Stack, caller: Caller, uuid: str
) -> None:
    await caller.call("POST", f"/session/{uuid}/wake")
    ready = await caller.until(uuid, "ready")
    assert (ready["kept_awake_by"], ready["activity_source"]) == ("wake", "wake")
    assert ready["sleeps_at"] is not None
    assert not is_parked(stack, uuid)
    await parked(caller, uuid)
    assert is_parked(stack, uuid)


async def test_a_requested_sleep_parks_at_once(caller: Caller, uuid: str) -> None:
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready")
    await caller.call("POST", f"/session/{uuid}/sleep")
    await parked(caller, uuid, 5)


async def test_a_bare_push_wakes_by_notification(caller: Caller, redis: Redis, restarted: Restart, uuid: str) -> None:
    restarted({"SWEEP_INTERVAL": "3600"})
    await caller.until(uuid, "asleep")
    await asyncio.sleep(1)  # until somebody leads and listens
    await redis.rpush(f"queue:{uuid}", "x")
    await caller.until(uuid, "ready", 10)
    assert await redis.ttl(f"queue:{uuid}") > 0
    await parked(caller, uuid)


async def test_a_bare_push_wakes_by_the_resync_when_notifications_are_refused(
    caller: Caller, redis: Redis, restarted: Restart, uuid: str
) -> None:
    url = await _with_weak_user(redis)
    try:
        restarted({"REDIS_URL": url, "SWEEP_INTERVAL": "2"})

        async def told() -> bool:
            return "wakes by others" in (await caller.call("GET", "/health"))[1]["remarks"]

        await until(told, 10, lambda: "/health does not tell of it")
        await redis.rpush(f"queue:{uuid}", "x")
        await caller.until(uuid, "ready", 15)
    finally:
        await redis.acl_deluser("weak")


async def _with_weak_user(redis: Redis) -> str:
    """A user who may do everything but administer, as managed Redis has them; what it may not, is switched off."""
    await redis.config_set("notify-keyspace-events", "")
    await redis.acl_setuser(
        "weak", enabled=True, passwords=["+weakweak"], keys=["*"], channels=["*"], categories=["+@all", "-@admin"]
    )
    port = redis.connection_pool.connection_kwargs["port"]
    return f"redis://weak:weakweak@127.0.0.1:{port}/0"


async def test_a_bare_push_while_the_service_is_down_leads_to_a_ready_pod(
    stack: Stack, caller: Caller, redis: Redis, uuid: str
) -> None:
    stack.cluster.stop(stack.name, how=signal.SIGKILL)
    await redis.rpush(f"queue:{uuid}", "x")
    await asyncio.sleep(1)
    assert stack.cluster.kubectl("-n", USERS, "get", "pods", "-l", f"uuid={uuid}", "-o", "name") == ""
    stack.start()
    await caller.until(uuid, "ready", 15)


async def test_a_wake_survives_a_killed_service_that_is_down_longer_than_the_lease(
    stack: Stack, caller: Caller, uuid: str
) -> None:
    stack.cluster.stop("kube-apiserver")
    try:
        # The wake is taken, although nobody can be woken now; then the service dies, and the token runs out.
        assert (await caller.call("POST", f"/session/{uuid}/wake"))[0] == 202
        stack.cluster.stop(stack.name, how=signal.SIGKILL)
        await asyncio.sleep(float(stack.settings["LEASE"]) + 1)
    finally:
        stack.cluster.start("kube-apiserver")
    stack.start()
    # Kubernetes' own parts come back to the API server after pauses of up to a minute, far longer than lease and
    # cooldown: the wake is held until the pod is ready.
    await caller.until(uuid, "ready", 120)


@pytest.mark.timeout(240)
async def test_a_stopped_keda_is_named_and_a_wake_is_kept_until_it_is_back(
    stack: Stack, caller: Caller, uuid: str
) -> None:
    async def health() -> tuple[int, dict[str, Any]]:
        return await caller.call("GET", "/health")

    async def noticed() -> bool:
        return "keda" in (await health())[1]["failing"]

    async def healthy() -> bool:
        return (await health())[0] == 200

    stack.cluster.stop("keda")
    try:
        await caller.call("POST", f"/session/{uuid}/wake")
        await caller.until(uuid, "ready", 10)
        woken = time.monotonic()
        await until(noticed, 70, lambda: "nobody noticed that KEDA is away")
        await asyncio.sleep(max(0, woken + 2 * float(stack.settings["LEASE"]) + 1 - time.monotonic()))
        assert (await caller.status(uuid))["queue_length"] == 1, "the lease was not renewed"
    finally:
        stack.cluster.start("keda")
    assert (await caller.status(uuid))["phase"] == "ready"
    await until(healthy, 30, lambda: "the service did not recover")
    await parked(caller, uuid, 40)


async def test_a_sleeper_that_somebody_unparked_is_parked_again(stack: Stack, caller: Caller, uuid: str) -> None:
    stack.cluster.kubectl("-n", USERS, "annotate", "scaledobject", f"user-{uuid}-scaler", f"{PAUSED}-")
    await until(lambda: _true(is_parked(stack, uuid)), 15, lambda: "it is not parked again")
    assert (await caller.status(uuid))["phase"] == "asleep"


async def test_a_sleeper_left_unparked_by_a_crash_is_parked_at_the_next_start(
    stack: Stack, caller: Caller, uuid: str
) -> None:
    stack.cluster.stop(stack.name, how=signal.SIGKILL)
    stack.cluster.kubectl("-n", USERS, "annotate", "scaledobject", f"user-{uuid}-scaler", f"{PAUSED}-")
    stack.start()
    await until(lambda: _true(is_parked(stack, uuid)), 15, lambda: "it is not parked again")


async def test_a_pod_scaled_by_hand_gets_a_lease_and_eventually_sleeps(stack: Stack, caller: Caller, uuid: str) -> None:
    stack.cluster.kubectl("-n", USERS, "scale", "deployment", f"user-{uuid}", "--replicas=1")
    ready = await caller.until(uuid, "ready", 10)
    assert ready["kept_awake_by"] in ("queue", "cooldown")
    await until(lambda: _true(not is_parked(stack, uuid)), 10, lambda: "it is not given back to KEDA")
    await parked(caller, uuid)


async def test_after_redis_loses_its_data_sleepers_wake_and_awake_sessions_fall_asleep(
    caller: Caller, redis: Redis, user: str, uuid: str
) -> None:
    other = (await caller.create(f"b-{user}"))[1]["uuid"]
    await caller.call("POST", f"/session/{other}/wake")
    await caller.until(other, "ready")
    await redis.flushall()

    async def restored() -> bool:
        known, _ = await caller.call("GET", f"/session/{other}/status")
        woken, _ = await caller.call("POST", f"/session/{uuid}/wake")
        return (known, woken) == (200, 202)

    await until(restored, 15, lambda: "the sessions were not restored")
    await caller.until(uuid, "ready")
    await parked(caller, other)


async def test_without_parking_keda_wakes_sessions_including_parked_ones(
    stack: Stack, caller: Caller, restarted: Restart, uuid: str
) -> None:
    restarted({"PARKING": "false"})
    await until(lambda: _true(not is_parked(stack, uuid)), 15, lambda: "it is still parked")
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready", 15)
    await caller.until(uuid, "asleep", 30)
    assert not (await caller.status(uuid))["parked"]


async def test_activity_and_extensions_keep_a_session_awake_but_never_wake_it(caller: Caller, uuid: str) -> None:
    for path, body in (("activity", {"source": "typing"}), ("extend", {"seconds": 10})):
        code, problem = await caller.call("POST", f"/session/{uuid}/{path}", body)
        assert (code, problem["type"]) == (409, "/problems/session-asleep")
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready")
    for _ in range(12):
        assert (await caller.call("POST", f"/session/{uuid}/activity", {"source": "typing"}))[0] == 202
        await asyncio.sleep(1)
    status = await caller.status(uuid)
    assert (status["phase"], status["activity_source"], status["kept_awake_by"]) == ("ready", "typing", "typing")
    assert (await caller.call("POST", f"/session/{uuid}/extend", {"seconds": 14}))[0] == 202
    for _ in range(13):
        await asyncio.sleep(1)
        status = await caller.status(uuid)
        assert (status["phase"], status["kept_awake_by"]) == ("ready", "extension")
    await parked(caller, uuid)


async def test_a_session_can_have_its_own_idle_times(stack: Stack, caller: Caller, user: str) -> None:
    idle = {"cooldown": 77, "lease": 9.5, "poll": 2}
    code, created = await caller.call("POST", "/session/create", {"user_id": user, "idle": idle})
    assert code == 201
    found = scaler(stack, created["uuid"])
    assert (found["spec"]["cooldownPeriod"], found["spec"]["pollingInterval"]) == (77, 2)
    assert found["metadata"]["annotations"]["user-pods/lease"] == "9.5"
    for impossible in ({"poll": 5}, {"cooldown": 10_000_000}):
        code, problem = await caller.call("POST", "/session/create", {"user_id": f"x-{user}", "idle": impossible})
        assert (code, problem["type"]) == (422, "/problems/idle-times-refused")


async def test_the_next_replica_takes_over_when_the_leader_dies(stack: Stack, caller: Caller, user: str) -> None:
    second = Stack(stack.cluster, port=free_port(), settings=stack.settings, name="second-service")
    second.start()
    try:
        uuid = (await caller.create(user))[1]["uuid"]
        leader = holder(stack)
        # Wakes are taken by either, whoever leads, and both see what the other has made.
        async with aiohttp.ClientSession(trust_env=False) as session:
            other = Caller(second.url, session)
            assert (await other.status(uuid))["phase"] == "asleep"
            stack.cluster.stop(stack.name, how=signal.SIGKILL)
            await other.call("POST", f"/session/{uuid}/wake")
            await other.until(uuid, "ready", 10)
            await until(lambda: _true(holder(stack) not in ("", leader)), 10, lambda: "nobody took over")
            await parked(other, uuid)
    finally:
        stack.cluster.stop(second.name)


def holder(stack: Stack) -> str:
    query = ["get", "lease", "user-pods-controller", "-o", "jsonpath={.spec.holderIdentity}"]
    return stack.cluster.kubectl("-n", USERS, *query)


async def _true(value: bool) -> bool:
    return value
