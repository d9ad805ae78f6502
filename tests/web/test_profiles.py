"""Profiles, as callers of REST see them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from service.domain.api_keys import new_api_key
from service.domain.identity import UserRule
from service.domain.people import People, PersonRule
from service.domain.permissions import CallerRole
from service.domain.profiles import Profile, Profiles
from tests.domain.conftest import World
from tests.fakes import MemoryBearerTokens
from tests.web.conftest import Client, Serve

PROGRAMS = frozenset({CallerRole.OPERATOR, CallerRole.FRONTEND})


@pytest.fixture
async def world() -> AsyncIterator[World]:
    gpu = Profile(name="gpu", description="One GPU", roles=PROGRAMS, cooldown=timedelta(minutes=10))
    world = World(profiles=Profiles([Profile(name="small"), gpu], default="small"))
    yield world
    await world.provisioner.close()


async def test_a_caller_chooses_by_name_and_sees_it_in_every_answer(client: Client) -> None:
    created = await client.post("/session/create", json={"user_id": "ann", "profile": "gpu"})
    assert (created.status, (await created.json())["profile"]) == (201, "gpu")
    again = await client.post("/session/create", json={"user_id": "ann", "profile": "small"})
    assert (again.status, (await again.json())["profile"]) == (200, "gpu")
    assert (await (await client.get(created.headers["Location"])).json())["profile"] == "gpu"
    listed = await (await client.get("/sessions")).json()
    assert [each["profile"] for each in listed["sessions"]] == ["gpu"]
    other = await client.post("/session/create", json={"user_id": "bob"})
    assert (await other.json())["profile"] == "small"


@pytest.mark.parametrize("name", ["huge", "GPU", "../gpu", "gpu\u0000"])
async def test_an_unknown_profile_is_refused_with_those_that_there_are(client: Client, world: World, name: str) -> None:
    refused = await client.post("/session/create", json={"user_id": "ann", "profile": name})
    problem = await refused.json()
    assert (refused.status, problem["type"]) == (422, "/problems/unknown-profile")
    assert problem["detail"] == "there is no such profile for you; there are: gpu, small"
    assert not world.store.users


@pytest.mark.parametrize("profile", [{"image": {"tag": "1"}}, "", 5, ["gpu"], "x" * 64])
async def test_a_caller_never_passes_values(client: Client, profile: object) -> None:
    refused = await client.post("/session/create", json={"user_id": "ann", "profile": profile})
    assert (refused.status, (await refused.json())["type"]) == (422, "/problems/does-not-fit")


async def test_each_caller_sees_and_gets_what_is_for_their_role(serve: Serve) -> None:
    claims = {"email": "ann", "email_verified": True, "iat": 2**32, "exp": 2**33}
    key, stored = new_api_key("shop", CallerRole.FRONTEND)
    people = People(MemoryBearerTokens({"a.b.c": claims}), PersonRule(user=UserRule()))
    client = await serve(named=[stored], people=people)
    program, person = ({"Authorization": f"Bearer {each}"} for each in (key, "a.b.c"))
    listed = await (await client.get("/profiles", headers=program)).json()
    assert listed == {
        "profiles": [
            {"name": "small", "description": "", "cooldown_limit": None, "background_limit": None},
            {"name": "gpu", "description": "One GPU", "cooldown_limit": 600, "background_limit": None},
        ],
        "default": "small",
    }
    listed = await (await client.get("/profiles", headers=person)).json()
    assert [each["name"] for each in listed["profiles"]] == ["small"]
    body = {"user_id": "ann", "profile": "gpu"}
    refused = await client.post("/session/create", json=body, headers=person)
    assert (refused.status, (await refused.json())["type"]) == (422, "/problems/unknown-profile")
    assert (await client.post("/session/create", json=body, headers=program)).status == 201
