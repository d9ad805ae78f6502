"""The contract with callers: members, codes and headers, as the design fixes them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.cluster_facts import Node
from service.domain.errors import ClusterUnavailable, RedisUnavailable
from service.domain.names import SessionId
from service.domain.record import Record
from service.domain.wake_times import MeasuredWake
from service.domain.workload import Pod, Requests, Workload
from tests.domain.conftest import World
from tests.web.conftest import Client, Serve

ANN = {"user_id": "john@example.com"}
KEY = "k" * 16


async def created(client: Client) -> str:
    answer = await client.post("/session/create", json=ANN)
    return str((await answer.json())["uuid"])


async def test_create_answers_201_once_and_200_afterwards(client: Client) -> None:
    first = await client.post("/session/create", json=ANN)
    body = await first.json()
    assert (first.status, set(body)) == (201, {"uuid", "user_id", "status", "profile", "group", "warning"})
    assert (body["user_id"], body["status"]) == (ANN["user_id"], "created")
    assert first.headers["Location"] == f"/session/{body['uuid']}/status"
    second = await client.post("/session/create", json=ANN)
    assert (second.status, await second.json()) == (200, body)


async def test_wake_answers_202(client: Client) -> None:
    uuid = await created(client)
    answer = await client.post(f"/session/{uuid}/wake")
    body = await answer.json()
    assert (answer.status, body["uuid"], body["action"]) == (202, uuid, "wake")


async def test_status_has_the_contracts_members(client: Client) -> None:
    uuid = await created(client)
    await client.post(f"/session/{uuid}/wake")
    answer = await client.get(f"/session/{uuid}/status")
    body = await answer.json()
    assert answer.status == 200
    assert body["session"] == {"user_id": ANN["user_id"], "status": "created"}
    assert (body["uuid"], body["queue_length"], body["replicas"], body["phase"]) == (uuid, 1, 0, "waking")
    assert body["release"] == {
        "name": f"user-{uuid}", "revision": 1, "state": "deployed", "chart": "user-pod-0.1.0", "made_from": "first",
    }  # fmt: skip
    assert body["last_activity"].endswith("Z")


async def test_status_and_list_answer_while_the_watch_is_lost(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = await created(client)
    monkeypatch.setattr(world.cluster, "behind", lambda: timedelta(0))
    status = await client.get(f"/session/{uuid}/status")
    assert (status.status, (await status.json())["behind_seconds"]) == (200, 0)
    assert (await client.get("/sessions")).status == 200


async def test_open_returns_a_url_that_works_once(client: Client) -> None:
    uuid = await created(client)
    answer = await client.post(f"/session/{uuid}/open?to=/%3Ffolder=/home/coder")
    body = await answer.json()
    assert (answer.status, answer.headers["Cache-Control"], body["uuid"]) == (201, "no-store", uuid)
    assert body["url"].startswith(f"https://vs-code-{uuid}.example.com/.user-pods/enter?ticket=")
    assert body["url"].endswith("&to=%2F%3Ffolder%3D%2Fhome%2Fcoder")
    assert body["expires_at"].endswith("Z")
    again = await client.post(f"/session/{uuid}/open")
    assert (await again.json())["url"] != body["url"]
    assert (await client.post("/session/00000000/open")).status == 404
    assert (await client.post(f"/session/{uuid}/open?to=//evil.test")).status == 422


@pytest.mark.parametrize(
    ("call", "body"), [("open", None), ("sleep", None), ("wake", None), ("extend", {"seconds": 9})]
)
async def test_a_session_being_deleted_refuses_calls_while_its_release_still_exists(
    client: Client, world: World, call: str, body: dict[str, int] | None
) -> None:
    uuid = SessionId(await created(client))
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1))
    await world.store.mark_deleting(uuid, keep_data=False)
    answer = await client.post(f"/session/{uuid}/{call}", json=body)
    assert (answer.status, (await answer.json())["type"]) == (409, "/problems/session-deleting")
    assert world.cluster.workload(uuid).replicas == 1


async def test_a_released_session_is_not_opened(client: Client, world: World) -> None:
    uuid = SessionId(await created(client))
    await world.releases.uninstall(uuid)
    record = await world.store.record(uuid)
    await world.store.save(replace(record, written_at=None))
    answer = await client.post(f"/session/{uuid}/open")
    assert (answer.status, (await answer.json())["type"]) == (409, "/problems/session-released")


async def test_open_reports_a_missing_gateway(serve: Serve) -> None:
    client = await serve(gateway=False)
    uuid = await created(client)
    off = await client.post(f"/session/{uuid}/open")
    assert (off.status, (await off.json())["type"]) == (501, "/problems/gateway-off")


async def test_sleep_answers_202_and_empties_the_queue(client: Client) -> None:
    uuid = await created(client)
    await client.post(f"/session/{uuid}/wake")
    answer = await client.post(f"/session/{uuid}/sleep")
    assert (answer.status, (await answer.json())["action"]) == (202, "sleep")
    assert (await (await client.get(f"/session/{uuid}/status")).json())["queue_length"] == 0


async def test_delete_answers_204_and_the_session_is_unknown_afterwards(client: Client, world: World) -> None:
    uuid = await created(client)
    assert (await client.delete(f"/session/{uuid}")).status == 204
    assert (await client.delete(f"/session/{uuid}")).status == 404
    assert any(workload.volume for workload in world.cluster.workloads.values())


async def test_delete_removes_the_volume_on_request(client: Client, world: World) -> None:
    uuid = await created(client)
    assert (await client.delete(f"/session/{uuid}?keep_data=false")).status == 204
    assert not world.cluster.workloads


async def test_a_released_session_reports_that_it_is_released(client: Client, world: World) -> None:
    uuid = await created(client)
    await world.releases.uninstall(world.store.users[ANN["user_id"]])
    status = await (await client.get(f"/session/{uuid}/status")).json()
    assert (status["session"]["status"], status["replicas"], status["release"]) == ("released", 0, None)
    wake = await client.post(f"/session/{uuid}/wake")
    assert (wake.status, (await wake.json())["type"]) == (409, "/problems/session-released")
    again = await client.post("/session/create", json=ANN)
    assert (again.status, (await again.json())["uuid"]) == (201, uuid)


async def test_sessions_are_listed_in_pages(client: Client) -> None:
    for number in range(5):
        await client.post("/session/create", json={"user_id": f"user{number}"})
    seen: list[str] = []
    query = {"limit": "2"}
    while True:
        body = await (await client.get("/sessions", params=query)).json()
        seen += [session["session"]["user_id"] for session in body["sessions"]]
        if body["cursor"] is None:
            break
        query["cursor"] = body["cursor"]
    assert sorted(seen) == [f"user{number}" for number in range(5)]


async def test_health_names_the_failing_part_and_readiness_is_unchanged(client: Client, world: World) -> None:
    assert (await (await client.get("/health")).json())["status"] == "healthy"

    async def down() -> None:
        raise RedisUnavailable

    world.store.ping = down  # type: ignore[method-assign]
    answer = await client.get("/health")
    body = await answer.json()
    assert (answer.status, body["status"], body["failing"]) == (503, "unhealthy", ["redis"])
    assert (await client.get("/readyz")).status == 200
    assert (await client.get("/livez")).status == 200


async def test_a_failed_dependency_is_named_without_its_error_message(client: Client, world: World) -> None:
    async def down(_uuids: object) -> dict[object, object]:
        raise ClusterUnavailable from ConnectionError("https://10.1.2.3:6443 refused, token=secret")

    world.cluster.read = down  # type: ignore[method-assign, assignment]
    answer = await client.post("/session/create", json=ANN)
    text = await answer.text()
    assert (answer.status, (await answer.json())["part"]) == (503, "kubernetes")
    assert answer.headers["Retry-After"]
    assert "10.1.2.3" not in text
    assert "secret" not in text


async def test_an_unexpected_error_reveals_only_where_to_look(client: Client, world: World) -> None:
    async def bug(*_arguments: object) -> None:
        raise ValueError("the password is hunter2")

    world.provisioner.create = bug  # type: ignore[method-assign, assignment]
    answer = await client.post("/session/create", json=ANN, headers={"X-Request-Id": "request-1234"})
    body = await answer.json()
    assert (answer.status, body["instance"]) == (500, "urn:request:request-1234")
    assert "hunter2" not in await answer.text()


@pytest.mark.parametrize(
    ("given", "kept"), [("well-formed.id_1", True), ("short", False), ("x" * 65, False), ("a b c d e f", False)]
)
async def test_a_well_formed_request_id_is_accepted(client: Client, given: str, kept: bool) -> None:
    answer = await client.get("/livez", headers={"X-Request-Id": given})
    assert (answer.headers["X-Request-Id"] == given) is kept


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong-wrong-wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xfc"]
)
async def test_without_a_valid_key_nothing_is_revealed(serve: Serve, header: str | None) -> None:
    client = await serve(keys=[KEY, "z" * 20])
    headers = {} if header is None else {"Authorization": header}
    answer = await client.get("/sessions", headers=headers)
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert (await client.post("/session/abc123xy/wake", headers=headers)).status == 401
    assert (await client.get("/nowhere", headers=headers)).status == 401


async def test_each_of_several_keys_is_accepted(serve: Serve) -> None:
    client = await serve(keys=[KEY, "z" * 20])
    for key in (KEY, "z" * 20):
        assert (await client.get("/sessions", headers={"Authorization": f"Bearer {key}"})).status == 200


async def test_probes_and_the_api_document_are_open(serve: Serve) -> None:
    client = await serve(keys=[KEY])
    for path in ("/health", "/livez", "/readyz", "/openapi.json", "/docs"):
        assert (await client.get(path)).status == 200, path


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:8080", "localhost.evil.test", "127.0.0.1.evil.test:80", "192.0.2.1"]
)
async def test_without_keys_a_page_whose_name_leads_to_this_machine_is_refused(client: Client, host: str) -> None:
    """To a browser, the page and the service are one site then, and without TLS it says nothing of sites."""
    answer = await client.post("/session/abc123xy/wake", headers={"Host": host})
    assert answer.status == 403
    assert (await answer.json())["type"] == "/problems/cross-site"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"])
async def test_without_keys_this_machine_may_have_any_of_its_names(client: Client, host: str) -> None:
    assert (await client.post("/session/abc123xy/wake", headers={"Host": host})).status == 404


async def test_without_keys_requests_from_other_sites_are_refused(client: Client) -> None:
    answer = await client.post("/session/abc123xy/wake", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 403


async def test_a_problems_type_links_to_its_meaning(client: Client) -> None:
    problem = await (await client.get("/session/abc123xy/status")).json()
    answer = await client.get(problem["type"], allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, "/docs#session-not-found")
    assert "id='session-not-found'" in await (await client.get("/docs")).text()


async def test_an_invalid_id_is_answered_with_the_expected_format(client: Client) -> None:
    problem = await (await client.get("/session/NOPE/status")).json()
    assert (problem["status"], problem["type"]) == (404, "/problems/not-found")
    assert "8 characters" in problem["detail"]


async def test_an_unreadable_session_reports_it_and_refuses_wakes(client: Client, world: World) -> None:
    created = await (await client.post("/session/create", json={"user_id": "ann"})).json()
    uuid = created["uuid"]
    world.queues.unreadable_queues[uuid] = f"queue:{uuid} in Redis is a set; `redis-cli DEL queue:{uuid}` repairs it"
    status = await client.get(f"/session/{uuid}/status")
    assert status.status == 200
    told = await status.json()
    assert (told["phase"], told["session"]["user_id"]) == ("failed", "ann")
    assert f"redis-cli DEL queue:{uuid}" in told["reason"]
    listed = await (await client.get("/sessions")).json()
    assert [each["phase"] for each in listed["sessions"]] == ["failed"]
    refused = await client.post(f"/session/{uuid}/wake")
    problem = await refused.json()
    assert (refused.status, problem["type"]) == (409, "/problems/session-unreadable")
    assert f"redis-cli DEL queue:{uuid}" in problem["detail"]


async def test_only_awake_sessions_are_read_for_a_list_of_them(
    client: Client, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sorted([(await world.provisioner.create(f"user-{number}")).uuid for number in range(12)])
    awake = made[2:9]
    at = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    for uuid in awake:
        pod = Pod("pod", ready=True, created_at=at)
        world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, ready=1, pod=pod))
    world.cluster.change(replace(world.cluster.workload(awake[0]), ready=0))
    seen: list[SessionId] = []
    records = world.store.records

    async def read(uuids: Sequence[SessionId]) -> Sequence[Record]:
        seen.extend(uuids)
        return await records(uuids)

    monkeypatch.setattr(world.store, "records", read)
    found, cursor = [], None
    while True:
        query = {"awake": "true", "limit": "3", **({"cursor": cursor} if cursor else {})}
        page = await (await client.get("/sessions", params=query)).json()
        found += [(each["uuid"], each["awake_since"]) for each in page["sessions"]]
        if (cursor := page["cursor"]) is None:
            break
    assert found == [(uuid, "2026-03-02T09:30:00Z") for uuid in awake]
    assert seen == awake
    ready = await (await client.get("/sessions", params={"awake": "true", "phase": "ready"})).json()
    assert [each["uuid"] for each in ready["sessions"]] == awake[1:]
    assert (await (await client.get(f"/session/{made[0]}/status")).json())["awake_since"] is None
    assert (await client.get("/sessions?awake=maybe")).status == 422


async def test_summary_list_and_metrics_have_the_same_released_sessions(serve: Serve, world: World) -> None:
    client = await serve()
    for number in range(2):
        uuid = (await world.provisioner.create(f"user-{number}")).uuid
        world.cluster.change(Workload(uuid, user_id=f"user-{number}", volume=True))
    world.cluster.change(Workload(SessionId("deleted0"), user_id="gone", volume=True))
    listed = (await (await client.get("/sessions?phase=released")).json())["sessions"]
    summary = await (await client.get("/summary")).json()
    assert (len(listed), summary["phases"]["released"], summary["sessions"]) == (2, 2, 2)
    assert 'user_pods_sessions{phase="released"} 2.0\n' in await (await client.get("/metrics")).text()


async def test_the_summary_has_the_capacity_of_the_nodes_if_the_service_may_see_them(
    serve: Serve, world: World
) -> None:
    assert (await (await (await serve()).get("/summary")).json())["capacity"] is None
    uuid = (await world.provisioner.create("ann")).uuid
    pod, requests = Pod("pod", node="a"), Requests(cpu=0.1, memory=0.25)
    world.cluster.change(replace(world.cluster.workload(uuid), replicas=1, pod=pod, requests=requests))
    world.facts.allowed = True
    world.facts.machines = [
        Node(name="a", cpu=3.92, memory=15.25, pods=8),
        Node(name="b", cpu=1, memory=1, pods=1, usable=False),
    ]
    found = (await (await (await serve()).get("/summary")).json())["capacity"]
    assert found.pop("at")
    assert found == {
        "nodes": 1, "nodes_left_out": 1,
        "cpu": 3.92, "cpu_requested": 0.1, "memory_gib": 15.25, "memory_gib_requested": 0.25,
        "pods": 8, "pods_requested": 1,
        "session_cpu": 0.1, "session_memory_gib": 0.25, "room": 7, "limited_by": "pods",
    }  # fmt: skip


async def test_the_summary_counts_all_sessions_and_says_the_limit(serve: Serve, world: World) -> None:
    world.awake_limit = 7
    client = await serve()
    made = [(await world.provisioner.create(f"user-{number}")).uuid for number in range(3)]
    await world.activity.wake(made[0])
    pod = Pod("pod", ready=True, created_at=datetime.now(UTC))
    world.cluster.change(replace(world.cluster.workload(made[0]), replicas=1, ready=1, pod=pod))
    for minutes in (1, 59, 61):
        await world.measured.append(MeasuredWake(at=datetime.now(UTC) - timedelta(minutes=minutes), pod="", stages={}))
    found = await (await client.get("/summary")).json()
    expected = {
        "sessions": 3, "awake": 1, "awake_limit": 7, "woken_last_hour": 1, "wakes_last_hour": 2, "wakes_pending": 0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected, "wakes of sleepers count, too"
    assert {phase: count for phase, count in found["phases"].items() if count} == {"asleep": 2, "ready": 1}
