"""Rate limits as callers see them."""

from typing import Any

import pytest

from service.domain.api_keys import ApiKey, new_api_key
from service.domain.permissions import CallerRole
from service.domain.rate_limits import RateLimits
from tests.domain.conftest import World
from tests.fakes import MemorySharedLevels
from tests.web.conftest import Client, Serve

FRONTEND = CallerRole.FRONTEND


async def statuses(client: Client, key: str, path: str, times: int, method: str = "GET") -> list[int]:
    return [
        (await client.request(method, path, headers={"Authorization": f"Bearer {key}"})).status for _ in range(times)
    ]  # fmt: skip


@pytest.fixture
def keys() -> list[tuple[str, ApiKey]]:
    """Two of the shop, one of another program, one for ann."""
    made = [("shop", None), ("shop", None), ("other", None), ("ci", "ann")]
    return [new_api_key(name, FRONTEND, user) for name, user in made]


async def test_too_many_requests_of_a_caller_get_429_until_a_time_that_the_answer_says(
    serve: Serve, keys: list[tuple[str, ApiKey]]
) -> None:
    rates = RateLimits(MemorySharedLevels(), per_caller=3, per_user=None)
    client = await serve(named=[stored for _, stored in keys], rates=rates)
    assert await statuses(client, keys[0][0], "/whoami", 2) == [200, 200]
    assert await statuses(client, keys[1][0], "/whoami", 2) == [200, 429], "keys of one name share a limit"
    refused = await client.get("/sessions", headers={"Authorization": f"Bearer {keys[0][0]}"})
    problem: dict[str, Any] = await refused.json()
    assert (refused.status, problem["type"]) == (429, "/problems/too-many-requests")
    assert 1 <= int(refused.headers["Retry-After"]) <= 20
    assert await statuses(client, keys[2][0], "/whoami", 3) == [200, 200, 200]
    assert (await client.get("/health")).status == 200
    assert await statuses(client, "unknown", "/whoami", 1) == [401]


async def test_requests_on_one_session_have_a_limit_of_their_own(
    serve: Serve, world: World, keys: list[tuple[str, ApiKey]]
) -> None:
    ann, bob = [(await world.provisioner.create(user)).uuid for user in ("ann", "bob")]
    rates = RateLimits(MemorySharedLevels(), per_caller=None, per_user=2)
    client = await serve(named=[stored for _, stored in keys], rates=rates)
    shop, mine = keys[0][0], keys[3][0]
    assert await statuses(client, shop, f"/session/{ann}/wake", 3, "POST") == [202, 202, 429]
    assert await statuses(client, shop, f"/session/{bob}/wake", 3, "POST") == [202, 202, 429]
    assert await statuses(client, shop, "/sessions", 3) == [200, 200, 200]
    assert await statuses(client, mine, "/sessions", 3) == [200, 200, 429], "all requests of a caller with one user"


async def test_whoever_reads_or_is_refused_uses_up_no_users_share(serve: Serve, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    (viewer, viewer_stored), (shop, shop_stored), (foreign, foreign_stored) = (
        new_api_key("support", CallerRole.VIEWER), new_api_key("shop", FRONTEND), new_api_key("ci", FRONTEND, "bob"),
    )  # fmt: skip
    rates = RateLimits(MemorySharedLevels(), per_caller=None, per_user=2)
    client = await serve(named=[viewer_stored, shop_stored, foreign_stored], rates=rates)
    assert await statuses(client, viewer, f"/session/{uuid}/status", 4) == [200] * 4
    assert await statuses(client, shop, f"/session/{uuid}/status", 4) == [200] * 4
    assert await statuses(client, viewer, f"/session/{uuid}/wake", 4, "POST") == [403] * 4
    assert await statuses(client, foreign, f"/session/{uuid}/wake", 2, "POST") == [404] * 2
    assert await statuses(client, shop, f"/session/{uuid}/wake", 2, "POST") == [202] * 2
