"""Upgrades by REST: one session, and all of them."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from service.domain.clock import utc_now
from service.domain.errors import UpgradeConflict, UpgradeFailed
from service.domain.rollout import Pace, RolloutOptions, Standing
from service.domain.rollouts import RolloutControl
from service.domain.workload import Workload
from tests.domain.conftest import World
from tests.web.conftest import Client, Serve


async def test_a_status_says_whether_the_release_is_out_of_date(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    status = await (await client.get(f"/session/{uuid}/status")).json()
    assert status["outdated"] is False
    world.releases.target = "second"
    listed = await (await client.get("/sessions")).json()
    assert [each["outdated"] for each in listed["sessions"]] == [True]
    answer = await client.post(f"/session/{uuid}/upgrade")
    assert (answer.status, await answer.json()) == (
        200, {"uuid": uuid, "action": "upgrade", "changed": True, "revision": "second"},
    )  # fmt: skip
    again = await (await client.post(f"/session/{uuid}/upgrade")).json()
    assert again["changed"] is False


async def test_an_awake_session_is_restarted_only_if_the_caller_says_so(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    world.releases.target = "second"
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    answer = await client.post(f"/session/{uuid}/upgrade")
    assert (answer.status, (await answer.json())["type"]) == (409, "/problems/session-awake")
    assert (await client.post(f"/session/{uuid}/upgrade", params={"restart": "true"})).status == 200


async def test_helms_reason_reaches_the_operator(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    world.releases.target = "second"
    world.releases.failing[uuid] = UpgradeFailed("no quota")
    answer = await client.post(f"/session/{uuid}/upgrade")
    problem = await answer.json()
    assert (answer.status, problem["type"]) == (503, "/problems/upgrade-failed")
    assert problem["detail"] == "no quota; it is rolled back"
    assert "Retry-After" not in answer.headers, "the next try would fail, too, and add revisions to the release"


async def test_a_change_by_hand_is_a_conflict_that_says_what_to_do(client: Client, world: World) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    world.releases.target = "second"
    world.releases.failing[uuid] = UpgradeConflict(
        "kubectl-edit has set x", managers=frozenset({"kubectl-edit"}), step="Undo it"
    )
    answer = await client.post(f"/session/{uuid}/upgrade")
    problem = await answer.json()
    assert (answer.status, problem["type"]) == (409, "/problems/upgrade-conflict")
    assert "Retry-After" not in answer.headers
    assert problem["detail"] == "kubectl-edit has set x; it is rolled back. Undo it"


async def test_an_upgrade_of_all_is_started_once_and_audited(serve: Serve, world: World) -> None:
    client = await serve(["k" * 16])
    key = {"Authorization": f"Bearer {'k' * 16}"}
    await world.provisioner.create("ann")
    world.releases.target = "second"
    shown = await (await client.get("/upgrade", headers=key)).json()
    assert (shown["run"], shown["target"], shown["counts"]["asleep"]) == (None, "second", 1)
    started = await client.post("/upgrade", json={"canary": 1, "max_failures": 3}, headers=key)
    assert started.status == 202
    run = (await started.json())["run"]
    assert (run["state"], run["canary"], run["max_failures"], run["started_by"]) == ("running", 1, 3, "api")
    again = await (await client.post("/upgrade", json={}, headers=key)).json()
    assert again["run"] == run
    world.releases.target = "third"
    answer = await client.post("/upgrade", json={}, headers=key)
    assert (answer.status, (await answer.json())["type"]) == (409, "/problems/upgrade-running")
    assert (await client.post("/upgrade/continue", headers=key)).status == 202
    stopped = await client.post("/upgrade/stop", headers=key)
    assert (await stopped.json())["run"]["state"] == "stopped"
    assert (await client.post("/upgrade/stop", headers=key)).status == 409
    listed = await (await client.get("/audit", headers=key)).json()
    assert [(entry["operation"], entry["result"]) for entry in listed["entries"]] == [
        ("stop_upgrade", "no-upgrade"), ("stop_upgrade", "done"), ("continue_upgrade", "done"),
        ("start_upgrade", "upgrade-running"), ("start_upgrade", "done"), ("start_upgrade", "done"),
    ]  # fmt: skip


async def test_the_time_left_is_told_once_the_upgrade_has_measured_enough(client: Client, world: World) -> None:
    for number in range(6):
        await world.provisioner.create(f"u{number}")
    world.releases.target = "second"
    started = (await world.rollout_control.start(RolloutOptions(), by="ci")).rollout
    assert started is not None
    for done, expected in ((9, None), (10, 24)):
        world.rollouts.stored = replace(started, pace=Pace(done, 4.0 * done, utc_now()))
        assert (await (await client.get("/upgrade")).json())["seconds_left"] == expected


async def test_values_that_make_no_sense_are_refused(client: Client, world: World) -> None:
    bodies: list[Any] = [{"max_parallel": 0}, {"canary": -1}, {"max_failures": 0}, {"only_asleep": "yes"}, {"x": 1}, []]
    for body in bodies:
        assert (await client.post("/upgrade", json=body)).status == 422, body
    assert world.rollouts.stored is None


async def test_many_who_look_every_moment_cost_one_count_a_second(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = (await world.provisioner.create("ann")).uuid
    control = RolloutControl(rollouts=world.rollouts, upgrades=world.upgrades, cache=world.cluster, recent=3600)
    standing, counted = world.upgrades.standing, []

    def noted(workload: Workload) -> Standing:
        counted.append(workload.uuid)
        return standing(workload)

    monkeypatch.setattr(world.upgrades, "standing", noted)
    await asyncio.gather(*(control.status() for _ in range(50)))
    assert counted == [uuid]
    world.releases.target = "second"
    await control.start(RolloutOptions(), by="ci")
    assert (await control.status()).counts.asleep == 1, "a change of the rollout counts anew"
    assert counted == [uuid, uuid]
