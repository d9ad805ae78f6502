"""The audit: who has done what to which session, and with what result."""

import asyncio
import json
import logging
from typing import Any

import pytest

from service.domain import audit as audit_module
from service.domain.api_keys import new_api_key
from service.domain.audit import Audit
from service.domain.identity import UserRule
from service.domain.names import user_hash
from service.domain.people import People, PersonRule
from service.domain.permissions import CallerRole
from tests.domain.conftest import World
from tests.fakes import MemoryAuditTrail, MemoryBearerTokens
from tests.waiting import until
from tests.web.conftest import Client, Serve

ROOT, ROOT_STORED = new_api_key("root", CallerRole.OPERATOR)
SHOP, SHOP_STORED = new_api_key("shop", CallerRole.FRONTEND)
CI, CI_STORED = new_api_key("ci", CallerRole.FRONTEND, "ann")
TOKEN = "header.claims.signature"
PERSON = {"email": "bob", "email_verified": True, "iat": 0, "exp": 2**33}


@pytest.fixture
async def client(serve: Serve) -> Client:
    people = People(MemoryBearerTokens({TOKEN: PERSON}), PersonRule(user=UserRule()))
    return await serve(["k" * 16], named=[ROOT_STORED, SHOP_STORED, CI_STORED], people=people)


async def call(client: Client, key: str, method: str, path: str, **body: object) -> int:
    headers = {"Authorization": f"Bearer {key}", "X-Request-Id": "request-1"}
    return (await client.request(method, path, headers=headers, json=body or None)).status


async def entries(client: Client, query: str = "") -> list[dict[str, Any]]:
    answer = await client.get(f"/audit{query}", headers={"Authorization": f"Bearer {ROOT}"})
    assert answer.status == 200, await answer.text()
    found: list[dict[str, Any]] = (await answer.json())["entries"]
    return found


def short(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(entry[name] for name in ("caller", "operation", "uuid", "result", "status"))


async def test_it_says_who_what_which_session_and_with_what_result(client: Client, world: World) -> None:
    assert await call(client, SHOP, "POST", "/session/create", user_id="ann") == 201
    uuid = world.store.users["ann"]
    assert await call(client, SHOP, "GET", f"/session/{uuid}/status") == 200
    assert await call(client, "k" * 16, "POST", f"/session/{uuid}/sleep") == 202
    assert await call(client, SHOP, "POST", f"/session/{uuid}/extend", seconds=60) == 409
    assert await call(client, CI, "DELETE", f"/session/{uuid}") == 204
    await until(lambda: world.trail.added == 4)
    found = await entries(client)
    assert [short(entry) for entry in found] == [
        ("ci", "delete", uuid, "done", 204),
        ("shop", "extend", uuid, "session-asleep", 409),
        ("api", "sleep", uuid, "done", 202),
        ("shop", "create", uuid, "done", 201),
    ]
    assert [(entry["role"], entry["key"]) for entry in found] == [
        ("frontend", CI_STORED.caller.key_id), ("frontend", SHOP_STORED.caller.key_id), ("operator", None),
        ("frontend", SHOP_STORED.caller.key_id),
    ]  # fmt: skip
    assert {entry["request_id"] for entry in found} == {"request-1"}


async def test_every_refusal_is_in_it(client: Client, world: World) -> None:
    ann, bob = [(await world.provisioner.create(user)).uuid for user in ("ann", "bob")]
    assert await call(client, "wrong", "GET", f"/session/{bob}/status") == 401
    assert await call(client, CI, "GET", f"/session/{bob}/status") == 404
    assert await call(client, SHOP, "GET", "/metrics") == 403
    assert await call(client, SHOP, "GET", "/session/00000000/status") == 404, "a mistake, and no refusal"
    assert await call(client, TOKEN, "POST", f"/session/{ann}/wake") == 404
    await until(lambda: world.trail.added == 4)
    found = await entries(client)
    assert [short(entry) for entry in found] == [
        ("person", "wake", ann, "session-not-found", 404),
        ("shop", "metrics", None, "forbidden", 403),
        ("ci", "status", bob, "session-not-found", 404),
        ("unknown", "status", bob, "unauthorized", 401),
    ]
    assert [entry["person"] for entry in found] == ["bob", None, None, None]


async def test_paths_that_do_not_exist_are_not_in_it(client: Client, world: World) -> None:
    assert await call(client, SHOP, "POST", "/nonsense") == 404
    assert await call(client, "wrong", "POST", "/nonsense") == 401
    assert await call(client, SHOP, "POST", "/session/create", user_id="ann") == 201
    await until(lambda: world.trail.added > 0)
    assert [entry["operation"] for entry in await entries(client)] == ["create"]


async def test_heartbeats_are_left_out_and_equal_refusals_and_failures_entered_once_a_minute_and_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, noted = [1000.0], []

    class Log:
        def note(self, entry: audit_module.AuditEntry) -> None:
            noted.append((entry.caller, entry.operation, entry.uuid, entry.result, entry.repeats))

    audit = Audit(MemoryAuditTrail(), Log(), world.cluster, now=lambda: clock[0])

    def note(
        operation: str, uuid: str, result: str = "done", caller: Any = SHOP_STORED.caller, status: int = 200
    ) -> None:
        audit.note(caller, operation, uuid=uuid, result=result, status=status, changes=True)

    note("wake", "aaaaaaaa")
    note("activity", "aaaaaaaa")
    for _ in range(3):
        note("sleep", "aaaaaaaa", "session-busy", status=409)
    note("sleep", "bbbbbbbb", "session-busy", status=409)
    for uuid in ("aaaaaaaa", "bbbbbbbb", "cccccccc"):
        note("status", uuid, "unauthorized", None)
    for _ in range(2):
        note("delete", "aaaaaaaa")
    clock[0] += 59
    audit.enter_repeats()
    assert noted == [
        ("shop", "sleep", "aaaaaaaa", "session-busy", 0),
        ("shop", "sleep", "bbbbbbbb", "session-busy", 0),
        ("unknown", "status", "aaaaaaaa", "unauthorized", 0),
        ("shop", "delete", "aaaaaaaa", "done", 0),
        ("shop", "delete", "aaaaaaaa", "done", 0),
    ]
    noted.clear()
    clock[0] += 2
    audit.enter_repeats()
    assert noted == [
        ("shop", "sleep", "aaaaaaaa", "session-busy", 1), ("unknown", "status", "cccccccc", "unauthorized", 1),
    ], "the last of them, although none followed"  # fmt: skip
    note("sleep", "aaaaaaaa", "session-busy", status=409)
    note("sleep", "bbbbbbbb", "session-busy", status=409)
    assert noted[2:] == [("shop", "sleep", "bbbbbbbb", "session-busy", 0)], "one a minute, also of those that go on"
    clock[0] += 61
    audit.enter_repeats()
    assert noted[3:] == [("shop", "sleep", "aaaaaaaa", "session-busy", 0)]
    clock[0] += 61
    audit.enter_repeats()
    noted.clear()
    for number in range(50):
        note("sleep", f"{number:08}", "session-not-found", status=404)
        note("extend", f"{number:08}", "does-not-fit", status=422)
        note("sleep", "aaaaaaaa", "session-busy", status=409)
        note("sleep", "bbbbbbbb", "session-busy", status=409)
        note("wake", "aaaaaaaa", "awake-limit-reached", status=429)
        note("wake", "bbbbbbbb", "awake-limit-reached", status=429)
    assert [entry[1:4] for entry in noted] == [
        ("sleep", "00000000", "session-not-found"), ("extend", "00000000", "does-not-fit"),
        ("sleep", "aaaaaaaa", "session-busy"), ("sleep", "bbbbbbbb", "session-busy"),
        ("wake", "aaaaaaaa", "awake-limit-reached"), ("wake", "bbbbbbbb", "awake-limit-reached"),
    ], "failures, too, and sessions that exist are kept apart"  # fmt: skip
    monkeypatch.setattr(audit_module, "_REMEMBERED", 20)
    for number in range(50):
        note("sleep", f"{number:08}", "session-busy", status=409)
    assert len(audit._minutes) <= 20


async def test_each_sleep_and_each_wake_of_a_sleeper_is_entered_and_a_flood_of_them_counted(
    client: Client, world: World
) -> None:
    assert await call(client, TOKEN, "POST", "/session/create", user_id="bob") == 201
    uuid = world.store.users["bob"]
    for _ in range(2):
        assert await call(client, TOKEN, "POST", f"/session/{uuid}/wake") == 202
        await world.cluster.scale(uuid, 1)
        for _ in range(3):
            assert await call(client, TOKEN, "POST", f"/session/{uuid}/wake") == 202
        assert await call(client, TOKEN, "POST", f"/session/{uuid}/sleep") == 202
    await until(lambda: world.trail.added >= 5)
    assert [entry["operation"] for entry in await entries(client)] == [
        "sleep", "wake", "sleep", "wake", "create",
    ], "none of the heartbeats between"  # fmt: skip
    for _ in range(20):
        assert await call(client, TOKEN, "POST", f"/session/{uuid}/sleep") == 202
        assert await call(client, SHOP, "POST", f"/session/{uuid}/sleep") == 202
    await until(lambda: world.trail.added >= 5 + 20 + 3)
    found = await entries(client)
    assert sum((entry["caller"], entry["operation"]) == ("person", "sleep") for entry in found) == 5


async def test_what_was_left_out_is_entered_when_the_service_ends(world: World) -> None:
    trail, begun = MemoryAuditTrail(), asyncio.Event()

    class Log:
        def note(self, _entry: audit_module.AuditEntry) -> None:
            begun.set()

    audit = Audit(trail, Log(), world.cluster)
    running = asyncio.create_task(audit.run())
    for _ in range(4):
        audit.note(SHOP_STORED.caller, "wake", uuid="aaaaaaaa", result="session-busy", status=409, changes=True)
    await begun.wait()
    await until(lambda: trail.added == 1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert [entry.repeats for _, entry in trail.entries] == [0, 2]


async def test_no_user_pushes_others_out_of_it_by_what_costs_nothing(client: Client, world: World) -> None:
    """A person's token, or a key for one user, may be in the hands of a stranger."""
    assert await call(client, TOKEN, "POST", "/session/create", user_id="bob") == 201
    uuid = world.store.users["bob"]
    for _ in range(3):
        assert await call(client, TOKEN, "POST", "/session/create", user_id="bob") == 200
        assert await call(client, TOKEN, "POST", f"/session/{uuid}/keep", seconds=3600) == 202
    assert await call(client, SHOP, "POST", "/session/create", user_id="bob") == 200
    assert await call(client, SHOP, "POST", "/session/create", user_id="bob") == 200
    await until(lambda: world.trail.added >= 4)
    assert [short(entry)[:2] for entry in await entries(client)] == [
        ("shop", "create"), ("shop", "create"), ("person", "keep"), ("person", "create"),
    ]  # fmt: skip


async def test_it_is_read_page_by_page_and_by_session_or_caller(client: Client, world: World) -> None:
    ann, bob = [(await world.provisioner.create(user)).uuid for user in ("ann", "bob")]
    for operation, body in (("sleep", {}), ("keep", {"seconds": 3600}), ("revoke", {})):
        await call(client, SHOP, "POST", f"/session/{ann}/sleep")
        await call(client, TOKEN, "POST", f"/session/{bob}/{operation}", **body)
    await until(lambda: world.trail.added == 6)
    assert [entry["uuid"] for entry in await entries(client, f"?uuid={ann}")] == [ann] * 3
    assert [entry["uuid"] for entry in await entries(client, "?caller=shop")] == [ann] * 3
    assert [entry["uuid"] for entry in await entries(client, "?caller=bob")] == [bob] * 3
    headers = {"Authorization": f"Bearer {ROOT}"}
    seen, cursor = [], None
    while True:
        query = {"limit": "4", **({"cursor": cursor} if cursor else {})}
        page = await (await client.get("/audit", params=query, headers=headers)).json()
        seen += page["entries"]
        if (cursor := page["cursor"]) is None:
            break
    assert len(seen) == 6
    refused = await client.get("/audit?cursor=x", headers=headers)
    assert (refused.status, (await refused.json())["type"]) == (422, "/problems/invalid-cursor")


async def test_what_was_done_to_a_users_sessions_is_found_after_they_were_deleted(client: Client, world: World) -> None:
    await call(client, SHOP, "POST", "/session/create", user_id="ann")
    first = world.store.users["ann"]
    await call(client, SHOP, "POST", f"/session/{first}/wake")
    await call(client, SHOP, "DELETE", f"/session/{first}")
    await call(client, SHOP, "POST", "/session/create", user_id="ann")
    second = world.store.users["ann"]
    del world.cluster.workloads[second]  # an operator has removed the release and the volume
    await call(client, SHOP, "DELETE", f"/session/{second}")
    await call(client, SHOP, "POST", "/session/create", user_id="bob")
    await until(lambda: world.trail.added == 6)
    found = await entries(client, "?user_id=ann")
    assert [(entry["operation"], entry["uuid"]) for entry in found] == [
        ("delete", second), ("create", second), ("delete", first), ("wake", first), ("create", first),
    ]  # fmt: skip
    assert {entry["user_id"] for entry in found} == {"ann"}
    assert await entries(client, "?user_id=ann&caller=ci") == []


async def test_it_does_not_look_up_whose_the_session_is_that_a_caller_was_told_nothing_of(
    client: Client, world: World
) -> None:
    bob = (await world.provisioner.create("bob")).uuid
    assert await call(client, CI, "DELETE", f"/session/{bob}") == 404
    assert await call(client, "wrong", "DELETE", f"/session/{bob}") == 401
    await until(lambda: world.trail.added == 2)
    found = await entries(client)
    assert [(entry["result"], entry["user_id"]) for entry in found] == [
        ("unauthorized", "bob"), ("session-not-found", None),
    ]  # fmt: skip


async def test_it_has_a_logger_of_its_own_and_no_secret_or_user_id(
    client: Client, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    uuid = (await world.provisioner.create("bob")).uuid
    with caplog.at_level(logging.WARNING):
        assert logging.getLogger("service.audit").isEnabledFor(logging.INFO), "at any LOG_LEVEL"
    with caplog.at_level(logging.INFO):
        await call(client, TOKEN, "POST", f"/session/{uuid}/open?to=/secret-path")
        await call(client, SHOP, "POST", "/session/create", user_id="carol@example.com")
        await call(client, "upk_0123456789_stolen-and-wrong", "POST", f"/session/{uuid}/wake")
    lines = [vars(record) for record in caplog.records if record.name == "service.audit"]
    bob, carol = user_hash("bob"), user_hash("carol@example.com")
    members = ("caller", "operation", "result", "person", "user")
    assert [tuple(line.get(name) for name in members) for line in lines] == [
        ("person", "open", "done", bob, bob),
        ("shop", "create", "done", None, carol),
        ("unknown", "wake", "unauthorized", None, bob),
    ]
    await until(lambda: world.trail.added == 3)
    kept = json.dumps(await entries(client))
    for secret in (TOKEN, SHOP[15:], "secret-path", "stolen-and-wrong"):
        assert secret not in f"{lines} {kept}"
    assert "carol" not in str(lines)
    assert "carol" in kept, "Redis has the ids of users, as the records do"


async def test_without_keys_changes_are_entered_too(serve: Serve, world: World) -> None:
    client = await serve()
    await client.post("/session/create", json={"user_id": "ann"})
    await client.post("/session/create", json={"user_id": "ann"}, headers={"Sec-Fetch-Site": "cross-site"})
    await until(lambda: world.trail.added == 2)
    found = (await (await client.get("/audit")).json())["entries"]
    assert [(entry["caller"], entry["result"]) for entry in found] == [("unknown", "cross-site"), ("api", "done")]
