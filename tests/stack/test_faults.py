"""Real parts are stopped, frozen or missing, or the service is killed: errors name the part, nothing is lost."""

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from stack.stack import Stack
from tests.stack.client import Caller, until
from tests.stack.conftest import owners, releases


async def healthy(caller: Caller) -> bool:
    return (await caller.call("GET", "/health"))[0] == 200


@pytest.mark.parametrize("fault", [("redis", "redis"), ("kube-apiserver", "kubernetes")], ids=["redis", "api-server"])
@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_a_failed_dependency_is_named_until_it_is_back(
    stack: Stack, caller: Caller, user: str, fault: tuple[str, str], how: str
) -> None:
    component, part = fault
    uuid = (await caller.create(user))[1]["uuid"]
    down, up = _ways(stack, component, how)
    down()
    try:
        code, body = await caller.call("GET", f"/session/{uuid}/status")
        if part == "redis":
            assert (code, body["part"]) == (503, part)
        else:
            assert (code, body["phase"]) == (200, "asleep"), "the view answers, although it may be old"
            await until(lambda: is_behind(caller, uuid), 20, lambda: "nobody noticed that the view is old")
        code, problem = await caller.create(f"new-{user}")
        assert (code, problem["part"]) == (503, part)
        code, report = await caller.call("GET", "/health")
        assert code == 503
        assert part in report["failing"]
        assert (await caller.call("GET", "/readyz"))[0] == 200
        assert "127.0.0.1" not in str(problem) + str(report)
    finally:
        up()
    await until(lambda: healthy(caller), 30, lambda: "the service did not recover")

    async def caught_up() -> bool:
        return not await is_behind(caller, uuid)

    await until(caught_up, 30, lambda: "the view did not catch up")
    assert (await caller.status(uuid))["session"]["status"] == "created"
    assert (await caller.create(f"new-{user}"))[0] in (200, 201)


async def test_a_wake_during_an_outage_of_the_api_server_has_its_pod_soon_after(
    stack: Stack, caller: Caller, user: str
) -> None:
    body = {"user_id": user, "idle": {"cooldown": 60}}
    uuid = (await caller.call("POST", "/session/create", body))[1]["uuid"]
    stack.cluster.stop("kube-apiserver")
    try:
        assert (await caller.call("POST", f"/session/{uuid}/wake"))[0] == 202
        await asyncio.sleep(10)  # what a control plane waits between two tries grows with the time it has waited
    finally:
        stack.cluster.start("kube-apiserver")
    # 2 s are usual; 36 s were seen as long as the controller-manager sat out its back-off, 43 s for kwok.
    await caller.until(uuid, "ready", 10)


async def is_behind(caller: Caller, uuid: str) -> bool:
    return (await caller.status(uuid))["behind_seconds"] is not None


def _ways(stack: Stack, component: str, how: str) -> tuple[Callable[[], None], Callable[[], None]]:
    cluster = stack.cluster
    if how == "frozen":
        return lambda: cluster.pause(component), lambda: cluster.resume(component)
    return lambda: cluster.stop(component), lambda: cluster.start(component)


async def test_an_emptied_redis_is_refilled_from_the_cluster(stack: Stack, caller: Caller, user: str) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    async with Redis.from_url(stack.cluster.redis_url) as redis:
        await redis.flushall()

    async def restored() -> bool:
        return (await caller.call("GET", f"/session/{uuid}/status"))[0] == 200

    await until(restored, 15, lambda: "the session was not restored")
    code, again = await caller.create(user)
    assert (code, again["uuid"]) == (200, uuid)


async def test_a_service_killed_during_creates_leaves_one_release_per_user(
    stack: Stack, caller: Caller, user: str
) -> None:
    users = [f"{number}-{user}" for number in range(12)]
    for delay in (0.15, 0.4, 0.7):
        creates = [asyncio.create_task(caller.create(name)) for name in users]
        await asyncio.sleep(delay)
        stack.cluster.stop(stack.name, how=signal.SIGKILL)
        await asyncio.gather(*creates, return_exceptions=True)
        stack.start()

    async def complete() -> bool:
        return all([(await caller.call("GET", f"/sessions?user_id={name}"))[1].get("sessions") for name in users])

    await until(complete, 60, lambda: "some sessions were not finished after the restart")
    answers = await asyncio.gather(*(caller.create(name) for name in users))
    uuids = {body["uuid"] for _, body in answers}
    assert len(uuids) == len(users)
    belongs = owners(stack)
    assert sorted(owner for owner in belongs.values() if owner in users) == sorted(users)
    states = releases(stack)
    assert {states[f"user-{uuid}"] for uuid in uuids} == {"deployed"}
    assert set(states) == set(belongs), "a release without Deployment, or a Deployment without release"


async def test_a_running_helm_may_finish_during_a_shutdown(stack: Stack, caller: Caller, user: str) -> None:
    create = asyncio.create_task(caller.create(user))
    await asyncio.sleep(0.12)
    stop = asyncio.create_task(asyncio.to_thread(stack.cluster.stop, stack.name))
    code, created = await create
    await stop
    assert code == 201
    assert releases(stack)[f"user-{created['uuid']}"] == "deployed"


async def test_a_missing_helm_is_reported_until_it_is_back(
    stack: Stack, caller: Caller, user: str, restarted: Callable[[dict[str, str]], None], tmp_path: Path
) -> None:
    helm = tmp_path / "helm"
    restarted({"HELM": str(helm)})
    code, problem = await caller.create(user)
    assert (code, problem["part"]) == (503, "helm")
    assert (await caller.call("GET", "/health"))[1]["failing"] == ["helm"]
    assert str(tmp_path) not in str(problem)
    helm.symlink_to(stack.cluster.tools.path("helm"))
    assert (await caller.create(user))[0] == 201
    assert await healthy(caller)


async def test_an_invalid_chart_is_named_until_it_is_repaired(
    stack: Stack, caller: Caller, user: str, restarted: Callable[[dict[str, str]], None], tmp_path: Path
) -> None:
    values = tmp_path / "values.yaml"
    good = (stack.cluster.state / "config" / "user-pod.yaml").read_text()
    values.write_text(f"{good}\nport: eighty\n")
    restarted({"CHART_VALUES": str(values)})
    code, problem = await caller.create(user)
    assert (code, problem["type"], problem["part"]) == (503, "/problems/chart-invalid", "chart")
    assert "eighty" not in str(problem)
    assert (await caller.call("GET", "/health"))[1]["failing"] == ["helm"]


async def test_a_helm_that_hangs_is_stopped_at_its_deadline(
    stack: Stack, caller: Caller, user: str, restarted: Callable[[dict[str, str]], None], tmp_path: Path
) -> None:
    helm = tmp_path / "helm"
    real = stack.cluster.tools.path("helm")
    helm.write_text(f'#!/bin/sh\ncase "$1" in upgrade) exec sleep 60;; esac\nexec {real} "$@"\n')
    helm.chmod(0o755)
    restarted({"HELM": str(helm), "HELM_TIMEOUT": "5"})
    code, problem = await caller.create(user)
    assert (code, problem["type"]) == (504, "/problems/helm-timeout")
    stack.cluster.stop(stack.name)
    stack.start()
    assert (await caller.create(user))[0] in (200, 201)
