"""The least rights with which the service works: its chart's Roles, and its Redis user."""

import base64
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis
import yaml

from stack.stack import ROOT, USERS, Stack
from tests.chart.conftest import Helm
from tests.chart.rendering import rights
from tests.conftest import free_port
from tests.stack.client import Caller


@pytest.fixture
def least(stack: Stack) -> Iterator[Stack]:
    """The service with a gateway and volumes, in place of the usual one; with helmfile.yaml's users of Redis."""
    cluster = stack.cluster
    cluster.stop(stack.name)
    helm = Helm(cluster.tools.path("helm"))
    made: dict[str, dict[str, str]] = {}
    for part in ("service", "keda"):
        arguments = (
            f"for={part},redisPassword={'p' * 20},apiKeys={'k' * 20},redisAddress=127.0.0.1:{cluster.redis_port}"
        )
        text = helm("template", "credentials", str(ROOT / "chart" / "credentials"), "--set", arguments)
        made |= {item["metadata"]["name"]: item["stringData"] for item in yaml.safe_load_all(text)}
    with redis.Redis.from_url(cluster.redis_url) as administrator:
        for line in made["redis-config"]["users.conf"].splitlines():
            if line.startswith("user "):
                administrator.execute_command("ACL SETUSER", *line.split()[1:])
    password = base64.b64encode(made["redis-password"]["password"].encode()).decode()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis-keda", "namespace": USERS}}
    cluster.apply(secret | {"data": {"password": password}})
    values = cluster.state / "config" / "least.yaml"
    values.write_text(yaml.safe_dump({"redis": {"username": "keda", "passwordSecret": {"name": "redis-keda"}}}))
    settings = {"REDIS_URL": made["session-service-redis"]["url"], "CHART_VALUES": str(values)}
    assert urlsplit(settings["REDIS_URL"]).username == "service"
    least = Stack(
        cluster, port=stack.port, settings=stack.settings | settings, name=stack.name, gateway_port=free_port()
    )
    least.start()
    yield least
    cluster.stop(stack.name)


async def test_every_right_of_the_chart_is_used_and_none_is_missing(least: Stack, caller: Caller, user: str) -> None:
    """Without any one of its rules, this fails: the service would be refused a call."""
    uuid = (await caller.create(user))[1]["uuid"]
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready")
    assert (await caller.call("POST", f"/session/{uuid}/open"))[0] == 201
    assert (await caller.call("POST", f"/session/{uuid}/revoke"))[0] == 202
    await caller.until(uuid, "asleep")  # by KEDA, which has counted the queue
    await caller.call("POST", f"/session/{uuid}/wake")
    await caller.until(uuid, "ready")
    assert (await caller.call("POST", f"/session/{uuid}/sleep"))[0] == 202
    await caller.until(uuid, "asleep")
    # An upgrade of the release, by which a create repairs it.
    least.cluster.kubectl("-n", USERS, "delete", "scaledobject", f"user-{uuid}-scaler")
    assert (await caller.create(user))[1]["uuid"] == uuid
    assert (await caller.call("GET", "/health"))[0] == 200
    assert (await caller.call("GET", "/summary"))[1]["capacity"]["nodes"] > 0
    findings = (await caller.call("GET", "/diagnosis"))[1]["findings"]
    assert [each for each in findings if each["check"] in ("redis-rights", "parts") and each["severity"] != "ok"] == []
    assert [each for each in findings if each["subject"] == "the check"] == []
    assert (await caller.call("DELETE", f"/session/{uuid}?keep_data=false"))[0] == 204
    cluster, account = least.cluster, least.account
    assert cluster.forbidden(account) == []
    used = cluster.used(account)
    held = rights(least.rights())["session-service"]
    assert sorted(right for right in held if right not in used | {(*each[:4], "") for each in used}) == []
