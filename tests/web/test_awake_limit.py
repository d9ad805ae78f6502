"""The limit on awake sessions, as callers of REST see it."""

from collections.abc import AsyncIterator

import pytest

from tests.domain.conftest import World
from tests.web.conftest import Client


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(awake_limit=1)
    yield world
    await world.provisioner.close()


async def test_a_wake_beyond_the_limit_gets_429_and_heartbeats_go_on(client: Client, world: World) -> None:
    one, two = [(await world.provisioner.create(user)).uuid for user in ("ann", "bob")]
    assert (await client.post(f"/session/{one}/wake")).status == 202
    refused = await client.post(f"/session/{two}/wake")
    assert (refused.status, (await refused.json())["type"]) == (429, "/problems/awake-limit-reached")
    assert refused.headers["Retry-After"] == "30"
    assert (await client.post(f"/session/{one}/wake")).status == 202
    assert (await (await client.get(f"/session/{two}/status")).json())["phase"] == "asleep"
