"""Bad input: each kind gets its 4xx problem document, and nothing of it reaches a store, a cluster or helm."""

import json
from urllib.parse import quote

import pytest
from yarl import URL

from tests.domain.conftest import World
from tests.web.conftest import Client

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"", 400, id="nothing"),
        pytest.param(b"{", 400, id="half"),
        pytest.param(b"user_id=ann", 400, id="form"),
        pytest.param(b"\xff\xfe", 400, id="no-utf-8"),
        pytest.param(b"[" * 8000, 400, id="deep"),
        pytest.param(b'{"user_id": "\\ud800"}', 400, id="lone-surrogate"),
        pytest.param(b'{"user_id": NaN}', 422, id="nan"),
        pytest.param(b"[]", 422, id="list"),
        pytest.param(b"null", 422, id="null"),
        pytest.param(b'"ann"', 422, id="string"),
        pytest.param(b"{}", 422, id="missing"),
        pytest.param(b'{"user_id": null}', 422, id="null-member"),
        pytest.param(b'{"user_id": 7}', 422, id="number"),
        pytest.param(b'{"user_id": ["a"]}', 422, id="list-member"),
        pytest.param(b'{"user_id": ""}', 422, id="empty"),
        pytest.param(b'{"user_id": " "}', 422, id="space"),
        pytest.param(b'{"user_id": "a b"}', 422, id="inner-space"),
        pytest.param(b'{"user_id": "a\\n"}', 422, id="newline"),
        pytest.param(b'{"user_id": "a\\u0000b"}', 422, id="nul"),
        pytest.param(b'{"user_id": "a\\u001b[31m"}', 422, id="escape"),
        pytest.param('{"user_id": "\u202eann"}'.encode(), 422, id="right-to-left"),
        pytest.param('{"user_id": "😀"}'.encode(), 422, id="emoji"),
        pytest.param(json.dumps({"user_id": "x" * 255}).encode(), 422, id="too-long"),
        pytest.param(b'{"user_id": "ann", "admin": true}', 422, id="unknown-member"),
        pytest.param(json.dumps({"user_id": "x" * 1_000_000}).encode(), 413, id="a-megabyte"),
    ],
)
async def test_a_bad_body_is_refused(client: Client, world: World, body: bytes, status: int) -> None:
    answer = await client.post("/session/create", data=body, headers=JSON)
    problem = await answer.json(content_type="application/problem+json")
    assert (answer.status, problem["status"]) == (status, status)
    assert problem["type"].startswith("/problems/")
    assert "x" * 100 not in json.dumps(problem)
    assert not world.store.users
    assert not world.releases.installs


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
async def test_a_wrong_content_type_is_refused(client: Client, kind: str | None) -> None:
    headers = {"Content-Type": kind} if kind else {"Content-Type": ""}
    answer = await client.post("/session/create", data=b'{"user_id": "ann"}', headers=headers)
    assert (answer.status, answer.content_type) == (415, "application/problem+json")


@pytest.mark.parametrize(
    "uuid",
    [
        "abc123x",
        "abc123xyz",
        "ABC123XY",
        "abc123x!",
        "..%2f..%2f..",
        "%00bc123xy",
        "abc 23xy",
        "ä" * 8,
        "%F0%9F%98%80",
        "*",
        "abc123x%0A",
    ],
)
@pytest.mark.parametrize(("method", "action"), [("POST", "wake"), ("POST", "sleep"), ("GET", "status"), ("DELETE", "")])
async def test_an_invalid_id_is_not_found(client: Client, uuid: str, method: str, action: str) -> None:
    path = f"/session/{quote(uuid, safe='%*')}/{action}".rstrip("/")
    answer = await client.request(method, URL(path, encoded=True))
    assert (answer.status, answer.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/session/create", "POST"),
        ("PUT", "/session/abc123xy/wake", "POST"),
        ("POST", "/session/abc123xy/status", "GET,HEAD"),
        ("PATCH", "/sessions", "GET,HEAD"),
    ],
)
async def test_a_wrong_method_is_answered_with_the_allowed_ones(
    client: Client, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path)
    assert (answer.status, answer.content_type) == (405, "application/problem+json")
    assert set(answer.headers["Allow"].split(",")) == set(allowed.split(","))


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "limit=",
        "phase=tired",
        "user_id=",
        "user_id=a%20b",
        "unknown=1",
        "limit=1&limit=2",
        "cursor=%00",
    ],
)
async def test_a_bad_query_is_refused(client: Client, query: str) -> None:
    answer = await client.get(f"/sessions?{query}")
    assert (answer.status, answer.content_type) == (422, "application/problem+json")


async def test_an_invalid_volume_option_deletes_nothing(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    assert (await client.delete(f"/session/{uuid}?keep_data=perhaps")).status == 422
    assert uuid in world.store.sessions


async def test_a_problem_with_a_body_points_to_the_member(client: Client) -> None:
    problem = await (await client.post("/session/create", json={"user_id": 7})).json()
    assert [error["pointer"] for error in problem["errors"]] == ["/user_id"]
