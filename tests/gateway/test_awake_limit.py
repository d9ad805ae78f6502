"""The limit on awake sessions, as visitors see it."""

from collections.abc import AsyncIterator

import pytest

from tests.domain.conftest import World
from tests.gateway.conftest import House, answer
from tests.gateway.test_pages import heading, page


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(awake_limit=1)
    yield world
    await world.provisioner.close()


async def test_a_visitor_beyond_the_limit_reads_why_and_when_to_come_back(house: House) -> None:
    first, second = await house.session("ann"), await house.session("bob")
    status, _, _ = await page(house, "/", await house.person(first))
    assert status == 503, "the waiting page"
    status, headers, text = await page(house, "/", await house.person(second))
    assert (status, headers["Retry-After"]) == (503, "30")
    assert heading(text) == "No workspace can be started right now"
    assert "workspaces that nobody uses go to sleep" in text
    status, problem = await answer(house, "/api", await house.headers(second))
    assert status == 503
    assert b"others have gone to sleep" in problem
    assert house.world.cluster.workload(second).replicas == 0
