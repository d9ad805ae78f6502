"""What operators do beside the service: copies of a session's objects, and uninstalls at the wrong moment."""

import asyncio
import json
import subprocess
from typing import Any

import pytest

from stack.stack import USERS, Stack
from tests.stack.client import Caller, until


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
