"""`GET /diagnosis` and `POST /diagnosis/fix` over HTTP."""

import json
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from service import __version__
from service.domain.errors import ClusterUnavailable, RedisUnavailable
from service.domain.names import SessionId
from tests.domain.conftest import World
from tests.web.conftest import Client

FIX = "/diagnosis/fix"


@pytest.fixture
async def broken(world: World) -> SessionId:
    """A session whose ScaledObject is missing."""
    uuid = (await world.provisioner.create("ann@example.com")).uuid
    world.cluster.change(replace(world.cluster.workload(uuid), has_scaler=False))
    return uuid


async def test_findings_come_with_version_and_address(client: Client, broken: SessionId) -> None:
    answer = await (await client.get("/diagnosis")).json()
    assert (answer["version"], answer["workspace_url"]) == (__version__, "https://vs-code-00000000.example.com")
    assert answer["findings"][0]["subject"] == broken
    assert answer["findings"][0]["severity"] == "error"


async def test_a_mend_can_be_repeated_and_is_audited_with_its_session(
    client: Client, world: World, broken: SessionId
) -> None:
    body = {"check": "installation", "subject": broken}
    outcomes = [(await (await client.post(FIX, json=body)).json())["outcome"] for _ in range(2)]
    assert outcomes == ["fixed", "gone"]
    assert [(entry.operation, entry.uuid, entry.result) for _, entry in world.trail.entries] == [
        ("fix", broken, "done"), ("fix", broken, "done"),
    ]  # fmt: skip


async def test_a_system_that_is_away_is_described_and_not_a_500(
    client: Client, world: World, broken: SessionId, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_redis(*_: object, **__: object) -> NoReturn:
        raise RedisUnavailable

    async def no_cluster(*_: object) -> NoReturn:
        raise ClusterUnavailable

    for name in ("page", "records", "record", "ping", "index_complete", "owner"):
        monkeypatch.setattr(world.store, name, no_redis)
    for name in ("configuration", "refused", "clock", "keys"):
        monkeypatch.setattr(world.redis, name, no_redis)
    monkeypatch.setattr(world.inventory, "objects", no_cluster)
    answer = await client.get("/diagnosis")
    assert answer.status == 200
    findings = (await answer.json())["findings"]
    faults = {(each["check"], each["subject"]) for each in findings if each["severity"] != "ok"}
    assert ("parts", "redis") in faults
    assert {("records", "the check"), ("edits", "the check"), ("redis-rights", "the check")} <= faults
    mended = await client.post(FIX, json={"check": "installation", "subject": broken})
    assert (mended.status, (await mended.json())["type"]) == (503, "/problems/redis-unavailable")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"check": "records"},
        {"check": "records", "subject": 7},
        {"check": "x" * 41, "subject": "y"},
        {"check": "records", "subject": "x" * 301},
        {"check": "records", "subject": "x", "force": True},
    ],
)
async def test_what_does_not_fit_is_refused(client: Client, body: dict[str, Any]) -> None:
    assert (await client.post(FIX, json=body)).status == 422


@pytest.mark.parametrize("subject", ["\x00", "../..", "'; flushall", "\u202e", "the check", "others", "all"])
async def test_odd_subjects_mend_nothing(client: Client, broken: SessionId, subject: str) -> None:
    answer = await client.post(FIX, data=json.dumps({"check": "installation", "subject": subject}), headers={
        "Content-Type": "application/json",
    })  # fmt: skip
    assert (await answer.json())["outcome"] == "gone"
