"""What operators do beside the service: copies of objects, pauses, and uninstalls at the wrong moment."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from stack.stack import USERS, Stack
from tests.stack.client import Caller, until

Restart = Callable[[dict[str, str]], None]


def copy_of_deployment(stack: Stack, uuid: str, *, replicas: int) -> str:
    """Make a copy of a session's Deployment under a name that begins alike, labels and all; its name."""
    cluster, name = stack.cluster, f"user-{uuid}-debug"
    copied: dict[str, Any] = json.loads(cluster.kubectl("-n", USERS, "get", "deploy", f"user-{uuid}", "-o", "json"))
    metadata = copied["metadata"]
    copied["metadata"] = {"name": name, **{part: metadata[part] for part in ("labels", "annotations", "namespace")}}
    copied["spec"]["replicas"] = replicas
    del copied["status"]
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(copied))
    return name


@pytest.mark.parametrize("awake", [True, False], ids=["awake", "asleep"])
async def test_a_copy_of_a_sessions_deployment_is_another_object(
    stack: Stack, caller: Caller, user: str, awake: bool
) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    if awake:
        await caller.call("POST", f"/session/{uuid}/wake")
        await caller.until(uuid, "ready", 15)
        await caller.call("POST", f"/session/{uuid}/extend", {"seconds": 60})
    before = await caller.status(uuid)
    copy = copy_of_deployment(stack, uuid, replicas=0 if awake else 1)
    await asyncio.sleep(1)  # for the watch to bring it, which must change nothing
    assert await shows(caller, uuid) == shown(before)
    stack.cluster.kubectl("-n", USERS, "delete", "deployment", copy)
    await asyncio.sleep(1)
    assert await shows(caller, uuid) == shown(before)
    if not awake:
        code, _ = await caller.call("POST", f"/session/{uuid}/wake")
        assert code == 202
    await caller.until(uuid, "ready", 15)


async def shows(caller: Caller, uuid: str) -> dict[str, Any]:
    return shown(await caller.status(uuid))


def shown(status: dict[str, Any]) -> dict[str, Any]:
    return {name: status[name] for name in ("phase", "replicas", "ready_replicas", "reason", "session", "release")}


async def test_a_create_right_after_an_uninstall_installs_again_every_time(
    stack: Stack, caller: Caller, user: str
) -> None:
    users = [f"{number}-{user}" for number in range(5)]
    helm = [str(stack.cluster.tools.path("helm")), "--kubeconfig", str(stack.cluster.kubeconfig), "-n", USERS]
    uuids = []
    for name in users:
        code, created = await caller.create(name)
        assert code == 201
        argv = [*helm, "uninstall", f"user-{created['uuid']}"]
        await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)
        code, again = await caller.create(name)
        assert (code, again["uuid"]) == (201, created["uuid"])
        uuids.append(created["uuid"])

    async def asleep() -> bool:
        statuses = [await caller.status(uuid) for uuid in uuids]
        return all((s["session"]["status"], s["phase"], s["parked"]) == ("created", "asleep", True) for s in statuses)

    await until(asleep, 15, lambda: "some are not as after any create")


async def annotate(stack: Stack, uuid: str, *notes: str) -> None:
    argv = ["-n", USERS, "annotate", "scaledobject", f"user-{uuid}-scaler", *notes]
    await asyncio.to_thread(stack.cluster.kubectl, *argv)


def is_paused(stack: Stack, uuid: str) -> bool:
    return '"autoscaling.keda.sh/paused":"true"' in stack.cluster.kubectl(
        "-n", USERS, "get", "scaledobject", f"user-{uuid}-scaler", "-o", "jsonpath={.metadata.annotations}"
    )


async def test_an_awake_session_that_an_operator_pauses_stays_as_it_is_until_the_pause_ends(
    stack: Stack, caller: Caller, restarted: Restart, user: str
) -> None:
    restarted({"SWEEP_INTERVAL": "1"})
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready", 15)
    await annotate(stack, uuid, "autoscaling.keda.sh/paused=true")
    await until(lambda: is_told(caller, uuid), 5, lambda: "status does not tell of the pause")
    idle_times = [float(stack.settings[name]) for name in ("LEASE", "COOLDOWN", "POLLING_INTERVAL")]
    await asyncio.sleep(sum(idle_times) + 3)  # by now it would sleep, and several sweeps have found it
    status = await caller.status(uuid)
    assert (status["phase"], status["parked"], status["sleeps_at"]) == ("ready", False, None)
    assert f"annotate scaledobject user-{uuid}-scaler autoscaling.keda.sh/paused-`" in status["warning"]
    assert is_paused(stack, uuid)
    code, problem = await caller.call("POST", f"/session/{uuid}/sleep")
    assert (code, problem["type"]) == (409, "/problems/session-paused")
    await annotate(stack, uuid, "autoscaling.keda.sh/paused-")
    assert (await caller.until(uuid, "asleep", 20))["warning"] is None
    await until(lambda: is_parked(caller, uuid), 10, lambda: "it is not parked after the pause")


@pytest.mark.parametrize(
    ("pause", "end"),
    [
        (["autoscaling.keda.sh/paused-replicas=0"], "autoscaling.keda.sh/paused-replicas-"),
        (["autoscaling.keda.sh/paused=True", "--overwrite"], "autoscaling.keda.sh/paused-"),
    ],
    ids=["by a number", "by a value of its own"],
)
async def test_a_wake_of_a_paused_sleeper_waits_until_the_pause_ends(
    stack: Stack, caller: Caller, user: str, pause: list[str], end: str
) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    await annotate(stack, uuid, *pause)
    await until(lambda: is_told(caller, uuid), 5, lambda: "status does not tell of the pause")
    assert (await caller.call("POST", f"/session/{uuid}/wake"))[0] == 202
    await asyncio.sleep(float(stack.settings["LEASE"]) + 1)  # the lease runs out, the wake does not
    status = await caller.status(uuid)
    assert (status["phase"], status["replicas"]) == ("waking", 0)
    assert f"annotate scaledobject user-{uuid}-scaler {end}`" in status["reason"]
    await annotate(stack, uuid, end)
    await caller.until(uuid, "ready", 15)


async def is_told(caller: Caller, uuid: str) -> bool:
    return "an operator has paused the session" in ((await caller.status(uuid))["warning"] or "")


async def is_parked(caller: Caller, uuid: str) -> bool:
    return bool((await caller.status(uuid))["parked"])
