"""The doctor as an operator runs it: the real command line on the real service, with eighteen faults planted."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from service.domain.names import SessionId, autoscaler_name
from stack.stack import USERS, Stack
from tests.contracts.test_cluster_facts import autoscaler, keda_operator
from tests.stack.client import Caller, until
from tests.stack.test_command_line import Run, run

__all__ = ["run"]

Json = dict[str, Any]
CLAIM, ORPHAN, STUCK, NOBODY, CLASSLESS = "doctor01", "doctor02", "doctor03", "doctor04", "doctor05"
"""Ids of things that belong to no session."""
NO_CLASS = "doctor-none"
"""A storage class that there is not."""


SERVER = ("parts", "redis-rights", "redis-settings", "redis-clock", "sign-in", "network-policies", "storage-classes")
"""Checks whose faults concern everybody."""


def kubectl(stack: Stack, *argv: str) -> str:
    return stack.cluster.kubectl("-n", USERS, *argv)


def patch(stack: Stack, uuid: str, pod: Json) -> None:
    """Change the session's Deployment by hand."""
    changed = json.dumps({"spec": {"template": {"spec": pod}}})
    kubectl(stack, "patch", "deployment", f"user-{uuid}", "--type=merge", "-p", changed)


def unbound(uuid: str, storage_class: str) -> Json:
    """A claim that gets no volume."""
    resources = {"requests": {"storage": "1Gi"}}
    spec = {"storageClassName": storage_class, "accessModes": ["ReadWriteOnce"], "resources": resources}
    return labelled("PersistentVolumeClaim", uuid, spec=spec)


def labelled(kind: str, uuid: str, **more: Any) -> Json:
    version = "apps/v1" if kind == "Deployment" else "v1"
    metadata = {"name": f"user-{uuid}", "namespace": USERS, "labels": {"uuid": uuid}, **more.pop("metadata", {})}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **more}


def deployment(uuid: str, **metadata: Any) -> Json:
    labels = {"app": uuid}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "workspace", "image": "none"}]}}
    return labelled(
        "Deployment",
        uuid,
        metadata=metadata,
        spec={"replicas": 0, "selector": {"matchLabels": labels}, "template": pod},
    )


@pytest.fixture
def server(stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.cluster.redis_url, decode_responses=True) as client:
        settings = {name: client.config_get(name)[name] for name in ("maxmemory-policy", "notify-keyspace-events")}
        yield client
        for name, value in settings.items():
            client.config_set(name, value)


class Ward:
    """A few sessions and strangers, each with one fault."""

    def __init__(self, stack: Stack, server: redis.Redis, uuids: Sequence[SessionId]) -> None:
        self.stack = stack
        self.server = server
        self.uuids = uuids
        self.unscaled, self.paused, self.pending, self.unreadable, self.homeless = uuids

    def concerns(self, check: str, subject: str) -> bool:
        """Whether it is about these or about everybody, and not about what other tests have left in the cluster."""
        strangers = (CLAIM, ORPHAN, STUCK, NOBODY, CLASSLESS)
        return (
            check in SERVER
            or (check, subject) == ("keda", "installed")
            or any(uuid in subject for uuid in (*self.uuids, *strangers))
        )

    def plant(self) -> dict[tuple[str, str], bool]:
        """Eighteen faults: the check and subject of each, and whether it can be mended without a loss."""
        long_ago = int((datetime.now(UTC) - timedelta(hours=1)).timestamp())
        self.stack.cluster.apply(
            deployment(STUCK, finalizers=["example.com/stuck"]),
            deployment(ORPHAN),
            unbound(CLAIM, ""),
            unbound(CLASSLESS, NO_CLASS),
            keda_operator("2.11.2"),
        )
        kubectl(self.stack, "delete", "deployment", f"user-{STUCK}", "--wait=false")
        kubectl(self.stack, "delete", "scaledobject", f"user-{self.unscaled}-scaler")
        kubectl(
            self.stack,
            "annotate",
            "scaledobject",
            f"user-{self.paused}-scaler",
            "autoscaling.keda.sh/paused-replicas=0",
        )
        secret = f"sh.helm.release.v1.user-{self.pending}.v1"
        kubectl(
            self.stack, "label", "secret", secret, "--overwrite", "status=pending-install", f"modifiedAt={long_ago}"
        )
        patch(self.stack, self.paused, {"priority": None, "hostname": "by-hand"})
        patch(self.stack, self.homeless, {"nodeSelector": {"example.com/no-node": "has-this"}})
        self._plant_upgrade(self.unreadable, long_ago)
        self.server.delete(f"session:{self.unreadable}")
        self.server.set(f"session:{self.unreadable}", "not a hash")
        self.server.rpush(f"user-pods:history:{NOBODY}", "x")
        self.server.rpush(f"user-pods:history:{self.paused}", *("x" * 60))
        self.server.config_set("maxmemory-policy", "allkeys-lru")
        self.server.config_set("notify-keyspace-events", "")
        # Last: KEDA deletes an HPA that it finds while it handles the pause.
        self.stack.cluster.apply(autoscaler(autoscaler_name(self.paused), f"user-{self.paused}"))
        return {
            ("installation", self.unscaled): True,
            ("releases", self.unreadable): True,
            ("pauses", self.paused): False,
            ("installation", self.pending): True,
            ("finalizers", f"deployment/user-{STUCK}"): False,
            ("orphans", ORPHAN): False,
            ("volumes", f"persistentvolumeclaim/user-{CLAIM}"): False,
            ("edits", f"deployment/user-{self.paused}"): False,
            ("edits", f"deployment/user-{self.homeless}"): False,
            ("pods", self.homeless): False,
            ("keda", "installed"): False,
            ("autoscalers", f"horizontalpodautoscaler/{autoscaler_name(self.paused)}"): False,
            ("storage-classes", f"storageclass/{NO_CLASS}"): False,
            ("records", self.unreadable): True,
            ("redis-keys", NOBODY): True,
            ("redis-lists", self.paused): True,
            ("redis-settings", "maxmemory-policy"): False,
            ("redis-settings", "notify-keyspace-events"): True,
        }

    def _plant_upgrade(self, uuid: str, at: int) -> None:
        """A second revision as of an upgrade whose helm has died."""
        name = f"sh.helm.release.v1.user-{uuid}"
        secret = json.loads(kubectl(self.stack, "get", "secret", f"{name}.v1", "-o", "json"))
        labels = secret["metadata"]["labels"] | {"version": "2", "status": "pending-upgrade", "modifiedAt": str(at)}
        metadata = {"name": f"{name}.v2", "namespace": USERS, "labels": labels}
        self.stack.cluster.apply(
            {"apiVersion": "v1", "kind": "Secret", "type": secret["type"], "metadata": metadata, "data": secret["data"]}
        )


@pytest.fixture
async def ward(stack: Stack, server: redis.Redis, caller: Caller) -> AsyncIterator[Ward]:
    users = [f"doctor-{number}@example.com" for number in range(5)]
    uuids = [SessionId(answer[1]["uuid"]) for answer in await asyncio.gather(*map(caller.create, users))]
    yield Ward(stack, server, uuids)
    kubectl(stack, "patch", "deployment", f"user-{STUCK}", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    left = [f"deployment/user-{ORPHAN}", *(f"pvc/user-{uuid}" for uuid in (CLAIM, CLASSLESS))]
    left += [f"hpa/{autoscaler_name(uuid)}" for uuid in uuids]
    kubectl(stack, "delete", *left, "--ignore-not-found", "--wait=false")
    stack.cluster.kubectl("-n", "keda", "delete", "deployment", "keda-operator", "--ignore-not-found")
    gone = await asyncio.gather(*(caller.call("DELETE", f"/session/{uuid}?keep_data=false") for uuid in uuids))
    assert [status for status, _ in gone] == [204] * 5


def found(done: "subprocess.CompletedProcess[str]") -> dict[tuple[str, str], Json]:
    """What the doctor finds above ok."""
    listed = [each for each in json.loads(done.stdout) if each["severity"] != "ok"]
    severities = {each["severity"] for each in listed}
    assert done.returncode == (7 if "error" in severities else 12 if severities else 0)
    return {(each["check"], each["subject"]): each for each in listed}


async def test_eighteen_faults_are_found_and_those_are_mended_that_lose_nothing(
    run: Run, ward: Ward, caller: Caller
) -> None:
    async def doctor(*argv: str) -> dict[tuple[str, str], Json]:
        seen = found(await asyncio.to_thread(run, "doctor", "-o", "json", *argv, code=None))
        return {place: each for place, each in seen.items() if ward.concerns(*place)}

    assert await doctor() == {}
    planted = ward.plant()
    assert (await caller.call("POST", f"/session/{ward.homeless}/wake"))[0] == 202
    seen: dict[tuple[str, str], Json] = {}

    async def all_seen() -> bool:
        seen.clear()
        seen.update(await doctor())
        return planted.keys() <= seen.keys()

    # A deletion counts as stuck after helm's timeout, and a pod as without a node after half a minute.
    await until(all_seen, 60, lambda: f"not found: {planted.keys() - seen.keys()}")
    assert sorted((*place, each["fixable"]) for place, each in seen.items()) == sorted(
        (*place, fixable) for place, fixable in planted.items()
    )
    assert all(each[part] for each in seen.values() for part in ("what", "meaning", "next_step"))

    left = await doctor("--fix", "--yes")
    assert sorted(left) == sorted(place for place, fixable in planted.items() if not fixable)
    for uuid in (ward.unscaled, ward.pending, ward.unreadable):
        assert (await caller.status(uuid))["phase"] == "asleep"
    assert f"user-{ward.unscaled}-scaler" in kubectl(ward.stack, "get", "scaledobjects", "-o", "name")
