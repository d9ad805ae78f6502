"""`POST /session/{uuid}/revoke`, as callers see it."""

from datetime import UTC, datetime, timedelta

import pytest

from service.domain.errors import ClusterUnavailable, RedisUnavailable
from tests.domain.conftest import World
from tests.web.conftest import Client


async def test_a_revocation_says_since_when_and_is_in_the_history(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("john@example.com")).uuid
    answer = await client.post(f"/session/{uuid}/revoke")
    assert answer.status == 202
    body = await answer.json()
    assert (body["uuid"], body["action"]) == (uuid, "revoke")
    at = datetime.fromisoformat(body["revoked_at"])
    assert abs(at - datetime.now(UTC)) < timedelta(seconds=5)
    assert world.cluster.workload(uuid).revoked_at == at


async def test_nobody_has_access_to_a_session_that_is_not_there(client: Client) -> None:
    answer = await client.post("/session/00000000/revoke")
    assert answer.status == 404
    assert (await answer.json())["type"] == "/problems/session-not-found"


async def test_it_needs_the_cluster_and_not_redis(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = (await world.provisioner.create("john@example.com")).uuid

    async def redis_away(*_: object) -> None:
        raise RedisUnavailable

    async def cluster_away(*_: object) -> None:
        raise ClusterUnavailable

    monkeypatch.setattr(world.store, "record", redis_away)
    assert (await client.post(f"/session/{uuid}/revoke")).status == 202
    monkeypatch.setattr(world.cluster, "revoke", cluster_away)
    answer = await client.post(f"/session/{uuid}/revoke")
    assert answer.status == 503
    assert (await answer.json())["type"] == "/problems/kubernetes-unavailable"
