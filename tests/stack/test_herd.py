"""The benchmark's own sessions are those that the service makes, or its figures would be about something else."""

import difflib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis.asyncio

from bench.api import Api
from bench.herd import Herd, Pattern
from service.domain.names import user_hash
from stack.stack import USERS, Stack
from tests.stack.client import Caller, until
from tests.stack.conftest import releases

_KINDS = "deployments,services,scaledobjects,triggerauthentications,secrets"
_OWN = re.compile(
    r"^time|Time|^uid$|resourceVersion|[gG]eneration|clusterIP|_at$"
    r"|^status$|finalizers$|kubernetes.io/revision|scaledobject.keda.sh/name"
)
"""Members in which two sessions differ (times, counters, addresses), and what controllers note in their own time."""
_CONTROLLERS = ("keda", "kube-controller-manager")


@pytest.fixture
async def pair(stack: Stack, caller: Caller, user: str) -> AsyncIterator[tuple[str, str]]:
    """Ids of a session by the service and of one by the benchmark."""
    made = (await caller.create(user))[1]["uuid"]
    async with (
        Api.connected(stack.cluster.kubeconfig) as api,
        redis.asyncio.Redis.from_url(stack.cluster.redis_url, decode_responses=True) as redis_,
        Herd.gathered(stack.cluster, redis_) as herd,
    ):
        await herd.grow(await Pattern.of(api, made, user), 1)
        yield made, herd.uuids[0]


async def test_a_copied_session_has_the_objects_and_status_of_a_real_one(
    stack: Stack, caller: Caller, pair: tuple[str, str]
) -> None:
    made, herded = pair

    async def alike() -> bool:
        return _objects(stack, made) == _objects(stack, herded)

    await until(alike, 30, lambda: _difference(stack, *pair))
    theirs, ours = [await caller.status(uuid) for uuid in pair]
    assert _neutral(ours, pair[1]) == _neutral(theirs, pair[0])
    assert (ours["phase"], ours["parked"], ours["session"]["status"]) == ("asleep", True, "created")


async def test_no_two_objects_of_a_kind_share_a_resource_version(stack: Stack, pair: tuple[str, str]) -> None:
    listed = json.loads(stack.cluster.kubectl("-n", USERS, "get", "replicasets", "-o", "json"))["items"]
    versions = [item["metadata"]["resourceVersion"] for item in listed if pair[1] in item["metadata"]["name"]]
    assert versions  # helm's, and the reservation's unless the controller only saw what helm made of it
    assert len(set(versions)) == len(versions)


async def test_helm_lists_upgrades_and_uninstalls_a_copied_session(
    stack: Stack, caller: Caller, pair: tuple[str, str]
) -> None:
    herded = pair[1]
    assert releases(stack)[f"user-{herded}"] == "deployed"
    chart = ["upgrade", f"user-{herded}", "chart/user-pod", "--reuse-values"]
    _helm(stack, *chart, "--set", "autoscaling.cooldownPeriod=77")
    assert '"cooldownPeriod": 77' in json.dumps(_objects(stack, herded))
    assert (await caller.until(herded, "asleep"))["parked"]
    _helm(stack, "uninstall", f"user-{herded}")
    await caller.until(herded, "released")
    assert not _objects(stack, herded)


async def test_a_copied_session_wakes_like_any_other(caller: Caller, pair: tuple[str, str]) -> None:
    await caller.call("POST", f"/session/{pair[1]}/wake")
    await caller.until(pair[1], "ready")


def _objects(stack: Stack, uuid: str) -> list[Any]:
    """All objects of the session, who wrote which field included, without what no two share."""
    found = json.loads(stack.cluster.kubectl("-n", USERS, "get", _KINDS, "-o", "json", "--show-managed-fields"))
    return [_neutral(item, uuid) for item in found["items"] if uuid in item["metadata"]["name"]]


def _difference(stack: Stack, *pair: str) -> str:
    one, other = (json.dumps(_objects(stack, uuid), indent=1).splitlines() for uuid in pair)
    return "\n".join(difflib.unified_diff(one, other, lineterm=""))


def _neutral(item: Any, uuid: str) -> Any:
    """With the same word in the place of every id and user, and without times."""
    user = _user(item)
    text = json.dumps(_plain(item)).replace(uuid, "<uuid>")
    return json.loads(text.replace(user_hash(user), "<hash>").replace(user, "<user>") if user else text)


def _user(item: Any) -> str:
    if "session" in item:
        return str(item["session"]["user_id"])
    return str(item["metadata"].get("annotations", {}).get("user-pods/user-id", ""))


def _plain(item: Any) -> Any:
    match item:
        case dict():
            return dict(_members(item))
        case list():
            # The order of managers is that of their last writes.
            kept = [each for each in item if not (isinstance(each, dict) and each.get("manager") in _CONTROLLERS)]
            return sorted((_plain(each) for each in kept), key=json.dumps)
        case _:
            return item


def _members(item: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in item.items():
        if name == "data" and "release" in value:
            continue  # helm's own reading of it is tested by its commands
        if not _OWN.search(name):
            yield name, _plain(value)


def _helm(stack: Stack, *arguments: str) -> None:
    argv = [str(stack.cluster.tools.path("helm")), *arguments, "-n", USERS]
    subprocess.run([*argv, "--kubeconfig", str(stack.cluster.kubeconfig)], check=True, capture_output=True)
