"""`user-pods upgrade --all` over many sessions, a tenth of them in use, with the real service and real helm."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from redis.asyncio import Redis

from devcluster.cluster import Cluster
from devcluster.errors import DevclusterError
from service.domain.names import SessionId
from stack.stack import ROOT, Stack
from tests.conftest import SHORT, free_port
from tests.stack import fleet
from tests.stack.client import Caller, until

SESSIONS = int(os.environ.get("FLEET_SESSIONS", "40"))
IN_USE, LEAVE = SESSIONS // 10, 2
NEW = "docker.io/codercom/code-server:new"
_DATABASE = 1


@pytest.fixture
async def own(stack: Stack, cluster: Cluster) -> AsyncIterator[Stack]:
    """A service with users of its own, whom no other test has left behind."""
    cluster.stop(stack.name)
    url = cluster.redis_url.removesuffix("/0") + f"/{_DATABASE}"
    own = Stack(
        cluster, port=free_port(), settings={**SHORT, "REDIS_URL": url}, name="service-of-a-fleet", users="fleet"
    )
    own.prepare()
    async with Redis.from_url(url) as redis:
        await redis.flushdb()
    own.start()
    yield own
    cluster.stop(own.name)
    cluster.kubectl("delete", "namespace", own.users, "--wait=false")


@pytest.fixture
async def calls(own: Stack) -> AsyncIterator[Caller]:
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        yield Caller(own.url, session)
    await asyncio.sleep(0)


@pytest.fixture
async def keys(own: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(own.settings["REDIS_URL"], decode_responses=True) as client:
        yield client


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(own: Stack, tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []
    env = {name: value for name, value in os.environ.items() if not name.startswith("USER_PODS_")}
    env |= {"PYTHONPATH": str(ROOT / "client"), "XDG_CONFIG_HOME": str(tmp_path), "USER_PODS_URL": own.url}

    def start(*argv: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "user_pods_client.cli", "upgrade", *argv]
        pipe = subprocess.PIPE
        started.append(subprocess.Popen(command, env=env, cwd=tmp_path, text=True, stdout=pipe, stderr=pipe))
        return started[-1]

    yield start
    for process in started:
        process.kill()


async def ended(process: "subprocess.Popen[str]", code: int) -> str:
    """Its output, once it has ended."""
    out, err = await asyncio.to_thread(process.communicate, timeout=300)
    assert process.returncode == code, out + err
    return out


def kubectl(own: Stack, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(own.cluster.kubectl("-n", own.users, "get", *arguments, "-o", "json"))
    return found


def pods(own: Stack) -> dict[str, str]:
    return {pod["metadata"]["labels"]["uuid"]: pod["metadata"]["uid"] for pod in kubectl(own, "pods")["items"]}


def images(own: Stack) -> dict[str, str]:
    return {
        item["metadata"]["labels"]["uuid"]: item["spec"]["template"]["spec"]["containers"][0]["image"].split(":")[1]
        for item in kubectl(own, "deployments")["items"]
    }


def ever_scaled(own: Stack) -> set[str]:
    """Sessions whose Deployment has been scaled since it was made, as the cluster's events have it."""
    events = kubectl(own, "events", "--field-selector=reason=ScalingReplicaSet")["items"]
    return {event["involvedObject"]["name"].removeprefix("user-") for event in events if "caled up" in event["message"]}


def newest_states(own: Stack) -> dict[str, str]:
    """Helm's status of each session's newest revision."""
    newest: dict[str, tuple[int, str]] = {}
    for secret in kubectl(own, "secrets", "-l", "owner=helm")["items"]:
        labels = secret["metadata"]["labels"]
        newest[labels["name"]] = max(newest.get(labels["name"], (0, "")), (int(labels["version"]), labels["status"]))
    return {name.removeprefix("user-"): state for name, (_, state) in newest.items()}


async def numbers(calls: Caller) -> dict[str, int]:
    with contextlib.suppress(aiohttp.ClientError):
        code, body = await calls.call("GET", "/upgrade")
        if code == 200:
            counts: dict[str, int] = body["counts"]
            return counts
    return {}


async def until_upgraded(calls: Caller, number: int) -> None:
    async def there() -> bool:
        return (await numbers(calls)).get("upgraded", 0) >= number

    await until(there, 240, lambda: f"fewer than {number} are upgraded")


def set_image(own: Stack, uuid: SessionId, image: str, *more: str) -> str:
    return own.cluster.kubectl("-n", own.users, "set", "image", f"deployment/user-{uuid}", f"workspace={image}", *more)


async def refuse_new_image(own: Stack, uuid: SessionId) -> None:
    """Have the API server refuse the session's new image, and wait until it does."""
    api, name = "admissionregistration.k8s.io/v1", {"name": "no-new-image"}
    kinds = {"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["deployments"]}
    is_new = "object.spec.template.spec.containers[0].image.endsWith(':new')"
    rule = {"expression": f"object.metadata.name != 'user-{uuid}' || !{is_new}", "message": "no new image for this one"}
    own.cluster.apply(
        {
            "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": name,
            "spec": {"matchConstraints": {"resourceRules": [kinds]}, "validations": [rule]},
        },
        {
            "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": name,
            "spec": {"policyName": name["name"], "validationActions": ["Deny"]},
        },
    )  # fmt: skip
    await until(lambda: is_refused(own, uuid), 30, lambda: "the new image is not refused")


async def admit_new_image(own: Stack, uuid: SessionId) -> None:
    own.cluster.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "no-new-image")

    async def is_admitted() -> bool:
        return not await is_refused(own, uuid)

    await until(is_admitted, 30, lambda: "the new image is still refused")


async def is_refused(own: Stack, uuid: SessionId) -> bool:
    try:
        set_image(own, uuid, NEW, "--dry-run=server")
    except DevclusterError:
        return True
    return False


async def use(calls: Caller, uuid: SessionId) -> None:
    await calls.call("POST", f"/session/{uuid}/wake")
    await calls.until(uuid, "ready", 60)
    assert (await calls.call("POST", f"/session/{uuid}/extend", {"seconds": 3600}))[0] == 202


@pytest.mark.timeout(600)
async def test_all_sessions_are_upgraded_without_a_wake_or_a_drop(
    own: Stack, calls: Caller, keys: Redis, start: Start
) -> None:
    uuids = await fleet.make(own, calls, keys, SESSIONS)
    in_use = uuids[:: SESSIONS // IN_USE]
    sleepers = [uuid for uuid in uuids if uuid not in in_use]
    await asyncio.gather(*(use(calls, uuid) for uuid in in_use))
    used = pods(own)
    assert set(used) == {*in_use}

    values = yaml.safe_load(own.values.read_text())
    own.values.write_text(yaml.safe_dump({**values, "image": {"tag": "new"}}))
    refused, by_hand = sleepers[SESSIONS // 5], sleepers[SESSIONS // 3]
    await refuse_new_image(own, refused)
    set_image(own, by_hand, "by/hand:odd")
    own.cluster.stop(own.name)
    own.start()

    # A kill in the middle; the second failing release stops it.
    process = start("--all", "--yes")
    await until_upgraded(calls, SESSIONS // 10)
    own.cluster.stop(own.name, how=signal.SIGKILL)
    own.start()
    told = await ended(process, 9)
    reasons = {line.split()[0]: line for line in told.splitlines() if line.startswith((refused, by_hand))}
    assert "no new image for this one; it is rolled back" in reasons[refused]
    assert "kubectl-set has set" in reasons[by_hand]
    counts = await numbers(calls)
    assert (counts["total"], counts["failed"], counts["awake"]) == (SESSIONS, 2, IN_USE)
    assert abs(counts["upgraded"] - SESSIONS // 3) < 5, counts
    assert {uuid: state for uuid, state in newest_states(own).items() if state != "deployed"} == {by_hand: "failed"}
    assert (images(own)[refused], images(own)[by_hand]) == (images(own)[in_use[0]], "odd")

    # Once the reason is gone, all that sleep follow, and nobody in use is dropped.
    await admit_new_image(own, refused)
    set_image(own, by_hand, NEW)
    began, left = time.monotonic(), counts["total"] - counts["upgraded"] - IN_USE
    told = await ended(start("--all", "--yes", "--only-asleep", "--max-parallel", "3"), 0)
    print(f"{SESSIONS} sessions: {left} upgraded in {time.monotonic() - began:.0f} s, three at a time")  # noqa: T201 - what `make fleet` is for
    assert f"{len(sleepers)} of {SESSIONS} upgraded, {IN_USE} awake" in told
    assert pods(own) == used
    assert ever_scaled(own) == {*in_use}
    found = images(own)
    assert {found[uuid] for uuid in sleepers} == {"new"}
    assert "new" not in {found[uuid] for uuid in in_use}

    # Those in use follow when they sleep; a sleeper wakes with what it has got.
    await ended(start("--all", "--yes", "--no-wait"), 0)
    for uuid in in_use[:LEAVE]:
        await calls.call("POST", f"/session/{uuid}/sleep")
    await until_upgraded(calls, len(sleepers) + LEAVE)
    await ended(start("--stop"), 0)
    assert {uuid: pod for uuid, pod in pods(own).items() if uuid in in_use[LEAVE:]} == {
        uuid: used[uuid] for uuid in in_use[LEAVE:]
    }
    assert (await calls.status(sleepers[0]))["outdated"] is False
    await calls.call("POST", f"/session/{sleepers[0]}/wake")
    await calls.until(sleepers[0], "ready", 60)
    assert set(newest_states(own).values()) == {"deployed"}
