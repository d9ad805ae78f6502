"""Deletions of sessions that are too old, as callers of REST and their users see them."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.expiry import ExpiryRule
from tests.domain.conftest import World
from tests.web.conftest import Client

DAY = timedelta(days=1)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(expiry_rule=ExpiryRule(lifetime=10 * DAY, warning=3 * DAY))
    yield world
    await world.provisioner.close()


async def test_a_status_says_when_and_why_and_whoever_keeps_it_moves_that(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    found = await (await client.get(f"/session/{uuid}/status")).json()
    assert (found["deletes_because"], found["deletion_warning"]) == ("lifetime", False)
    assert abs(datetime.fromisoformat(found["deletes_at"]) - (datetime.now(UTC) + 10 * DAY)) < timedelta(minutes=1)
    old = datetime.now(UTC) - 9 * DAY
    world.store.sessions[uuid] = replace(world.store.sessions[uuid], created_at=old, written_at=None)
    world.cluster.change(replace(world.cluster.workload(uuid), created_at=old))
    (listed,) = (await (await client.get("/sessions")).json())["sessions"]
    assert listed["deletion_warning"] is True
    kept = await client.post(f"/session/{uuid}/keep", json={"seconds": 864_000})
    assert kept.status == 202
    found = await (await client.get(f"/session/{uuid}/status")).json()
    assert (found["deletes_at"], found["deletion_warning"]) == ((await kept.json())["spared_until"], False)
    assert found["spared_until"] == found["deletes_at"]
    assert (await client.post(f"/session/{uuid}/keep", json={"seconds": 0})).status == 202
    found = await (await client.get(f"/session/{uuid}/status")).json()
    assert (found["spared_until"], found["deletion_warning"]) == (None, True)


async def test_nobody_keeps_a_session_for_longer_than_the_operator_allows(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    refused = await client.post(f"/session/{uuid}/keep", json={"seconds": 2_592_001})
    assert (refused.status, (await refused.json())["type"]) == (422, "/problems/idle-times-refused")
    assert world.store.sessions[uuid].spared_until is None


async def test_sessions_stay_by_default(client: Client, world: World) -> None:
    world.expiry_rule = ExpiryRule()
    other = world.replica()
    uuid = (await other.provisioner.create("ann")).uuid
    assert (await other.queries.status(uuid)).expiry is None
