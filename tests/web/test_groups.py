"""Groups and their limits on awake sessions, as callers of REST see them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

import pytest

from service.domain.api_keys import new_api_key, parse_line
from service.domain.identity import UserRule
from service.domain.names import SessionId
from service.domain.people import People, PersonRule
from service.domain.permissions import CallerRole
from tests.domain.conftest import World
from tests.fakes import MemoryBearerTokens
from tests.web.conftest import Client, Serve


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(awake_limits={"students": 1, "staff": 2})
    yield world
    await world.provisioner.close()


async def create(client: Client, user_id: str, group: str | None = None) -> SessionId:
    created = await client.post("/session/create", json={"user_id": user_id, "group": group})
    assert (created.status, (await created.json())["group"]) == (201, group)
    return SessionId((await created.json())["uuid"])


async def test_a_full_group_holds_up_nobody_else(client: Client, world: World) -> None:
    one, two, staff, none = [
        await create(client, user, group)
        for user, group in (("ann", "students"), ("bob", "students"), ("eve", "staff"), ("joe", None))
    ]
    assert (await client.post(f"/session/{one}/wake")).status == 202
    refused = await client.post(f"/session/{two}/wake")
    problem = await refused.json()
    assert (refused.status, problem["type"]) == (429, "/problems/awake-limit-reached")
    assert refused.headers["Retry-After"] == "30"
    assert "the group students" in problem["detail"]
    for uuid in (one, staff, none):
        assert (await client.post(f"/session/{uuid}/wake")).status == 202
    world.cluster.change(replace(world.cluster.workload(one), replicas=1))
    found = await (await client.get("/summary")).json()
    assert found["groups"] == [
        {"group": "students", "awake": 1, "awake_limit": 1},
        {"group": "staff", "awake": 0, "awake_limit": 2},
    ]
    assert (await (await client.get(f"/session/{one}/status")).json())["group"] == "students"


async def test_a_group_without_a_limit_is_a_label_and_whoever_names_it_is_warned(serve: Serve) -> None:
    root, stored_root = new_api_key("root", CallerRole.OPERATOR)
    shop, stored_shop = new_api_key("shop", CallerRole.FRONTEND)
    own, stored_own = new_api_key("own", CallerRole.FRONTEND, "joe", group="studnets")
    client = await serve(named=[stored_root, stored_shop, stored_own])

    async def warning(key: str, user_id: str, **more: str) -> str | None:
        headers = {"Authorization": f"Bearer {key}"}
        answer = await client.post("/session/create", json={"user_id": user_id, **more}, headers=headers)
        assert answer.status in (200, 201)
        found: str | None = (await answer.json())["warning"]
        return found

    assert await warning(root, "ann", group="students") is None
    assert await warning(root, "bob") is None
    told = "the group studnets has no limit of its own"
    assert await warning(shop, "eve", group="studnets") == told, "which there are is for operators"
    assert await warning(root, "eve") == f"{told}; those with one are students, staff"
    assert await warning(own, "joe") is None, "nobody chooses the group of their own session"


async def test_an_existing_session_stays_in_its_group(client: Client) -> None:
    await create(client, "ann", "students")
    again = await client.post("/session/create", json={"user_id": "ann", "group": "staff"})
    assert (again.status, (await again.json())["group"]) == (200, "students")


@pytest.mark.parametrize("group", ["", "Students", "a b", "../x", "x" * 64, 5, "students\n"])
async def test_what_is_no_label_is_refused(client: Client, group: object) -> None:
    refused = await client.post("/session/create", json={"user_id": "ann", "group": group})
    assert (refused.status, (await refused.json())["type"]) == (422, "/problems/does-not-fit")


async def test_a_key_of_a_group_creates_in_no_other(serve: Serve) -> None:
    key, stored = new_api_key("school", CallerRole.FRONTEND, group="students")
    client = await serve(named=[parse_line(stored.line)])
    caller = {"Authorization": f"Bearer {key}"}
    refused = await client.post("/session/create", json={"user_id": "ann", "group": "staff"}, headers=caller)
    problem = await refused.json()
    assert (refused.status, problem["type"]) == (422, "/problems/group-refused")
    assert problem["detail"] == "you create sessions in the group students only"
    created = await client.post("/session/create", json={"user_id": "ann"}, headers=caller)
    assert (await created.json())["group"] == "students"


async def test_nobody_chooses_the_group_of_their_own_session(serve: Serve) -> None:
    claims = {"email_verified": True, "iat": 2**32, "exp": 2**33}
    tokens: dict[str, Mapping[str, object]] = {
        "a.b.c": {**claims, "email": "ann", "groups": ["math", "students", "staff"]},
        "d.e.f": {**claims, "email": "bob", "groups": "math"},
    }
    people = People(MemoryBearerTokens(tokens), PersonRule(user=UserRule(quotas=("staff", "students"))))
    key, stored = new_api_key("ci", CallerRole.FRONTEND, "joe")
    client = await serve(named=[stored], people=people)
    for user, token, group in (("ann", "a.b.c", "staff"), ("bob", "d.e.f", None), ("joe", key, None)):
        caller = {"Authorization": f"Bearer {token}"}
        body = {"user_id": user, "group": "students"}
        assert (await client.post("/session/create", json=body, headers=caller)).status == 422
        created = await client.post("/session/create", json={"user_id": user}, headers=caller)
        assert (created.status, (await created.json())["group"]) == (201, group)
