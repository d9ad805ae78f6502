"""Health checks by load balancers on the gateway's port, with any host name."""

import json

import pytest

from tests.domain.conftest import World
from tests.gateway.conftest import DOMAIN, House, answer, raw


@pytest.mark.parametrize("host", ["10.0.0.5:8081", f"other.{DOMAIN}", "localhost"])
@pytest.mark.parametrize("path", ["/.user-pods/healthz", "/healthz"])
async def test_a_load_balancer_is_told_that_the_gateway_is_ready(house: House, host: str, path: str) -> None:
    assert await answer(house, path, {"Host": host}) == (200, b"ok\n")
    assert (await answer(house, path, {"Host": host}, "HEAD"))[0] == 200
    assert (await answer(house, path, {"Host": host}, "POST"))[0] == 405
    assert not house.metrics.visits, "it is nobody's visit"


async def test_a_load_balancer_that_sends_no_host_is_answered_too(house: House) -> None:
    assert (await raw(house, "GET /.user-pods/healthz", {"Host": "", "Connection": "close"})).startswith(
        b"HTTP/1.1 200"
    )


async def test_a_draining_gateway_reports_it_and_continues_to_serve(world: World) -> None:
    async with House(world).open() as house:
        uuid = await house.awake()
        house.ready = False
        status, body = await answer(house, "/.user-pods/healthz", {"Host": "10.0.0.5"})
        assert (status, b"draining" in body) == (503, True)
        assert (await answer(house, "/echo", await house.headers(uuid)))[0] == 200


async def test_health_paths_of_a_workspace_are_answered_by_its_pod(house: House) -> None:
    uuid = await house.awake()
    _, body = await answer(house, "/healthz", await house.headers(uuid))
    assert json.loads(body)["pod"] == house.workspaces[uuid].name
    assert (await answer(house, "/healthz", {"Host": house.host(uuid)}))[0] == 401
    assert await answer(house, "/.user-pods/healthz", {"Host": house.host(uuid)}) == (200, b"ok\n")
