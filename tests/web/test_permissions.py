"""Who may do what: every operation, for every role, for one's own session and somebody else's."""

import itertools

import pytest

from service.domain.api_keys import KEY_ROLES, new_api_key
from service.domain.identity import UserRule
from service.domain.people import People, PersonRule
from service.domain.permissions import RULES, Caller, CallerRole, reach
from service.domain.rollout import RolloutOptions
from service.web.access import OPEN, OPEN_BELOW
from service.web.operations import OPERATIONS
from tests.domain.conftest import World
from tests.fakes import MemoryBearerTokens
from tests.web.conftest import Client, Serve

OPERATOR, FRONTEND, VIEWER, USER = CallerRole
OWN, OTHER, UNKNOWN = "ann", "bob", "nobody"
TABLE = {
    #                 everybody's | ann's key: operator, frontend, viewer | ann's token
    #                 O   F   V   | own bob | own bob | own bob | own bob
    "create":         "yes yes no  | yes no  | yes no  | no  no  | yes no",
    "wake":           "yes yes no  | yes 404 | yes 404 | no  no  | yes 404",
    "sleep":          "yes yes no  | yes 404 | yes 404 | no  no  | yes 404",
    "activity":       "yes yes no  | yes 404 | yes 404 | no  no  | yes 404",
    "extend":         "yes yes no  | yes 404 | yes 404 | no  no  | yes 404",
    "keep":           "yes yes no  | yes 404 | yes 404 | no  no  | yes 404",
    "open":           "yes yes no  | yes 404 | yes 404 | no  no  | yes 404",
    "revoke":         "yes yes no  | yes 404 | yes 404 | no  no  | yes 404",
    "delete":         "yes yes no  | yes 404 | yes 404 | no  no  | yes 404",
    "status":         "yes yes yes | yes 404 | yes 404 | yes 404 | yes 404",
    "events":         "yes yes yes | yes 404 | yes 404 | yes 404 | yes 404",
    "history":        "yes yes yes | yes 404 | yes 404 | yes 404 | yes 404",
    "list_sessions":  "yes yes yes | yes no  | yes no  | yes no  | yes no",
    "summary":        "yes no  yes | no  no  | no  no  | no  no  | no  no",
    "profiles":       "yes yes yes | yes yes | yes yes | yes yes | yes yes",
    "metrics":        "yes no  yes | no  no  | no  no  | no  no  | no  no",
    "diagnosis":      "yes no  yes | no  no  | no  no  | no  no  | no  no",
    "fix":            "yes no  no  | no  no  | no  no  | no  no  | no  no",
    "upgrade":        "yes no  no  | yes 404 | no  no  | no  no  | no  no",
    "start_upgrade":  "yes no  no  | no  no  | no  no  | no  no  | no  no",
    "show_upgrade":   "yes no  yes | no  no  | no  no  | no  no  | no  no",
    "continue_upgrade": "yes no  no | no no  | no  no  | no  no  | no  no",
    "stop_upgrade":   "yes no  no  | no  no  | no  no  | no  no  | no  no",
    "audit":          "yes no  no  | no  no  | no  no  | no  no  | no  no",
    "whoami":         "yes yes yes | yes yes | yes yes | yes yes | yes yes",
    "health":         "yes yes yes | yes yes | yes yes | yes yes | yes yes",
    "livez":          "yes yes yes | yes yes | yes yes | yes yes | yes yes",
    "readyz":         "yes yes yes | yes yes | yes yes | yes yes | yes yes",
}  # fmt: skip
"""What becomes of each operation: it is done, or answered with 403, or 404 as if there were no such session.

The first three columns are keys for everybody, of an operator, a frontend and a viewer. The next three pairs are keys
of these roles for ann only, on her own session and on bob's. The last pair is ann's token.
"""
COLUMNS = [
    *((role, None, OTHER) for role in (OPERATOR, FRONTEND, VIEWER)),
    *((role, OWN, whose) for role, whose in itertools.product((OPERATOR, FRONTEND, VIEWER, USER), (OWN, OTHER))),
]
BODIES = {
    "activity": {"source": "typing"},
    "extend": {"seconds": 60},
    "keep": {"seconds": 60},
    "fix": {"check": "records", "subject": "abc123xy"},
    "start_upgrade": {},
}
ALLOWED = {"create": (200, 201), "open": (201,), "delete": (204,)}


def test_every_operation_of_the_api_is_in_the_table() -> None:
    assert set(TABLE) == {operation.name for operation in OPERATIONS}
    public = {operation.name for operation in OPERATIONS if operation.public}
    assert set(RULES) == set(TABLE) - public | {"restart"}, "the dashboard restarts, too"
    assert RULES["restart"] == RULES["sleep"] == RULES["wake"]
    assert {operation.path for operation in OPERATIONS if operation.public} <= OPEN


async def test_whatever_the_service_answers_is_in_the_table_or_open_to_everybody(serve: Serve) -> None:
    client = await serve()
    routes = client.app.router.routes()
    served = {(route.name, route.resource.canonical) for route in routes if route.resource is not None}
    names = {name for name, path in served if path not in OPEN and not path.startswith(OPEN_BELOW)}
    assert names <= set(TABLE), "an operation that is not in the OpenAPI document needs a row as well"


def test_an_operation_without_a_rule_is_for_nobody() -> None:
    assert reach("new", Caller(name="root", role=OPERATOR)).value == "nobody"


async def call(client: Client, name: str, key: str, uuid: str, user_id: str) -> tuple[int, dict[str, str], bytes]:
    operation = next(each for each in OPERATIONS if each.name == name)
    query = {"user_id": user_id} if name == "list_sessions" else {}
    body = {"user_id": user_id} if name == "create" else BODIES.get(name)
    answer = await client.request(
        operation.method, operation.path.replace("{uuid}", uuid), params=query, json=body,
        headers={"Authorization": f"Bearer {key}", "X-Request-Id": "the-same-id"},
    )  # fmt: skip
    headers = {key: value for key, value in answer.headers.items() if key != "Date"}
    return answer.status, headers, await answer.read()


@pytest.mark.parametrize("name", TABLE)
async def test_who_may_do_what(serve: Serve, world: World, name: str) -> None:
    # Issued after every revocation of this test.
    claims = {"email": OWN, "email_verified": True, "iat": 2**32, "exp": 2**33}
    people = People(MemoryBearerTokens({"a.b.c": claims}), PersonRule(user=UserRule()))
    keys = {(role, only): new_api_key("caller", role, only) for role in KEY_ROLES for only in (None, OWN)}
    client = await serve(named=[stored for _, stored in keys.values()], people=people)
    for (role, only, whose), expected in zip(COLUMNS, TABLE[name].replace("|", "").split(), strict=True):
        case = f"{name} by {role} for {only or 'everybody'} on the session of {whose}"
        key = "a.b.c" if role is USER else keys[role, only][0]
        uuids = {user: (await world.provisioner.create(user)).uuid for user in (OWN, OTHER)}
        if name in ("activity", "extend"):
            await world.activity.wake(uuids[whose])
        if name in ("continue_upgrade", "stop_upgrade"):
            await world.rollout_control.start(RolloutOptions(), by="ci")
        before, rollout = dict(world.queues.sessions), world.rollouts.stored
        status, headers, body = await call(client, name, key, uuids[whose], whose)
        if expected == "yes":
            assert status in ALLOWED.get(name, (200, 202)), case
            continue
        assert status == {"no": 403, "404": 404}[expected], case
        assert (world.queues.sessions, world.rollouts.stored) == (before, rollout), (
            f"{case} was refused, and done nevertheless"
        )
        unknown = await call(client, name, key, "00000000", UNKNOWN)
        assert (status, headers, body) == unknown, f"{case} differs from an unknown one"


async def test_a_caller_with_one_user_lists_that_users_session_alone(serve: Serve, world: World) -> None:
    key, stored = new_api_key("ci", VIEWER, OWN)
    client = await serve(named=[stored])
    own, _ = [(await world.provisioner.create(user)).uuid for user in (OWN, OTHER)]
    listed = await (await client.get("/sessions", headers={"Authorization": f"Bearer {key}"})).json()
    assert [each["uuid"] for each in listed["sessions"]] == [own]


async def test_the_own_session_is_reached_before_the_watch_has_seen_it(
    serve: Serve, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, stored = new_api_key("ci", VIEWER, OWN)
    client = await serve(named=[stored])
    uuid = (await world.provisioner.create(OWN)).uuid
    empty = world.cluster.workload("00000000")  # type: ignore[arg-type]
    monkeypatch.setattr(world.cluster, "workload", lambda _: empty)
    assert (await client.get(f"/session/{uuid}/history", headers={"Authorization": f"Bearer {key}"})).status == 200


async def test_a_key_says_who_it_is_and_names_its_caller_in_histories(serve: Serve, world: World) -> None:
    key, stored = new_api_key("shop", FRONTEND)
    client = await serve(["k" * 16], named=[stored])
    headers = {"Authorization": f"Bearer {key}"}
    assert await (await client.get("/whoami", headers=headers)).json() == {
        "name": "shop", "role": "frontend", "user_id": None, "key_required": True,
    }  # fmt: skip
    former = await client.get("/whoami", headers={"Authorization": f"Bearer {'k' * 16}"})
    assert await former.json() == {
        "name": "api", "role": "operator", "user_id": None, "key_required": True,
    }  # fmt: skip
    uuid = (await world.provisioner.create(OWN)).uuid
    await client.post(f"/session/{uuid}/wake", headers=headers)
    assert [getattr(entry, "by", None) for entry in world.journal.entries][-1] == "shop"


async def test_the_log_names_the_key_and_never_repeats_it(
    serve: Serve, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    key, stored = new_api_key("shop", FRONTEND)
    client = await serve(named=[stored])
    uuid = (await world.provisioner.create(OWN)).uuid
    with caplog.at_level("INFO"):
        await client.post(f"/session/{uuid}/wake", headers={"Authorization": f"Bearer {key}"})
        await client.post(f"/session/{uuid}/wake", headers={"Authorization": f"Bearer {key}x"})
        await client.get("/audit", headers={"Authorization": f"Bearer {key}"})
    lines = [vars(record) for record in caplog.records if record.name == "service.access"]
    assert [(line.get("caller"), line.get("key")) for line in lines] == [
        ("shop", stored.caller.key_id), (None, None), ("shop", stored.caller.key_id),
    ]  # fmt: skip
    assert key[15:] not in str([vars(record) for record in caplog.records])
