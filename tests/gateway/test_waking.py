"""A visit to a sleeping workspace: a page for people, patience for programs, and nothing for what comes by itself."""

import asyncio
import json
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from service.domain.errors import SessionAsleep
from service.gateway.limits import GatewayLimits
from tests.domain.conftest import World
from tests.gateway.conftest import House, answer
from tests.waiting import until


async def test_a_person_gets_a_page_at_once_and_the_workspace_wakes(house: House) -> None:
    house.delay = 0.3
    uuid = await house.session()
    async with house.http.get(house.url("/deep?link=1"), headers=await house.person(uuid)) as found:
        assert found.status == 503
        assert found.headers["Retry-After"] == "2"
        text = await found.text()
    assert "waking up" in text
    assert 'http-equiv="refresh"' in text
    assert "http://" not in text.replace('http-equiv="', "")
    await until(lambda: uuid in house.workspaces)
    await asyncio.sleep(0.05)
    status, body = await answer(house, "/deep?link=1", await house.person(uuid))
    assert (status, json.loads(body)["path"]) == (200, "/deep?link=1")


async def test_the_page_is_told_the_progress_of_the_wake_and_when_the_pod_answers(house: House) -> None:
    house.delay = 0.2
    uuid = await house.session()
    await answer(house, "/", await house.person(uuid))
    status, body = await answer(house, "/.user-pods/wake", await house.headers(uuid))
    events = [line.removeprefix("event: ") for line in body.decode().splitlines() if line.startswith("event")]
    assert status == 200
    assert events[0] == "accepted"
    assert events[-1] == "answers"


async def test_a_programs_request_waits_and_is_served_with_its_whole_body(house: House) -> None:
    house.delay = 0.3
    uuid = await house.session()
    status, body = await answer(house, "/echo", await house.headers(uuid), "POST", data=b"x" * 1_000_000)
    assert (status, json.loads(body)["length"]) == (200, 1_000_000)


async def test_many_first_requests_at_once_are_all_served_by_one_pod(house: House) -> None:
    uuid = await house.session()
    headers = await house.headers(uuid)
    found = await asyncio.gather(*(answer(house, f"/echo/{number}", headers) for number in range(40)))
    assert {status for status, _ in found} == {200}
    assert house.starts == 1


async def test_the_gateway_waits_for_a_pod_that_listens_late(house: House) -> None:
    uuid = await house.awake()
    workspace = house.workspaces[uuid]
    await workspace.stop()  # it has an address, and nobody listens there yet
    asking = asyncio.create_task(answer(house, "/echo", await house.headers(uuid)))
    await asyncio.sleep(0.3)
    assert not asking.done()
    await workspace.start()
    assert (await asking)[0] == 200


async def test_a_pod_that_ends_while_a_request_waits_is_woken_again(house: House) -> None:
    house.delay = 30
    uuid = await house.session()
    asking = asyncio.create_task(answer(house, "/echo", await house.headers(uuid)))
    await until(lambda: house.world.cluster.workload(uuid).replicas == 1)
    house.delay = 0.05
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), replicas=0))
    assert (await asking)[0] == 200


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("/healthz", {}),
        ("/stable/?reconnectionToken=1&reconnection=true", {"Connection": "Upgrade", "Upgrade": "websocket"}),
        ("/page", {"Sec-Purpose": "prefetch"}),
        ("/events", {"Accept": "text/event-stream", "Last-Event-ID": "7"}),
    ],
)
async def test_automatic_requests_do_not_wake(house: House, path: str, more: dict[str, str]) -> None:
    uuid = await house.session()
    status, body = await answer(house, path, {**await house.headers(uuid), **more})
    assert (status, json.loads(body)["title"]) == (503, "Asleep")
    assert house.world.cluster.workload(uuid).replicas == 0


async def test_a_prefetch_does_not_wake(house: House) -> None:
    uuid = await house.session()
    status, body = await answer(house, "/page", {**await house.person(uuid), "Sec-Purpose": "prefetch;prerender"})
    assert status == 503
    assert b"<h1>Your workspace is asleep</h1>" in body
    assert house.world.cluster.workload(uuid).replicas == 0


async def test_automatic_requests_do_not_keep_a_session_awake(house: House) -> None:
    uuid = await house.awake()
    await answer(house, "/healthz", await house.headers(uuid))
    assert house.world.store.sessions[uuid].last_activity is None
    await answer(house, "/echo", await house.headers(uuid))
    await until(lambda: house.world.store.sessions[uuid].activity_source == "visit")


async def test_activity_of_many_requests_is_recorded_once_an_interval_including_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    interval = 0.3
    monkeypatch.setattr("service.gateway.activity.notes.INTERVAL", interval)
    active: list[float] = []
    heartbeat = world.activity.heartbeat

    async def counted(uuid: object, source: str, *, ago: timedelta) -> None:
        active.append(time.monotonic() - ago.total_seconds())
        await heartbeat(uuid, source, ago=ago)  # type: ignore[arg-type]

    async with House(world).open() as house:
        uuid = await house.awake()
        monkeypatch.setattr(world.activity, "heartbeat", counted)
        headers, begun = await house.headers(uuid), time.monotonic()
        for _ in range(20):
            last = time.monotonic()
            await answer(house, "/echo", headers)
        assert len(active) <= 1 + (time.monotonic() - begun) / interval
        await until(lambda: bool(active) and active[-1] >= last)


async def test_a_failed_start_is_explained_to_programs_and_on_the_page_at_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.gateway.waiting.pod_waiter.CHECK_INTERVAL", 60)
    house.fails, house.final = "InvalidImageName: no image has this name", True
    uuid = await house.session()
    await answer(house, "/", await house.person(uuid))
    status, body = await answer(house, "/echo", await house.headers(uuid))
    assert (status, json.loads(body)["detail"].partition(" (")[0]) == (503, house.fails)
    _, events = await answer(house, "/.user-pods/wake", await house.headers(uuid))
    assert house.fails in events.decode().rsplit("event: failed", 1)[1]


async def test_a_wait_times_out_with_an_explanation(world: World) -> None:
    async with House(world, GatewayLimits(hold_timeout=GatewayLimits().hold_timeout * 0), delay=60).open() as house:
        uuid = await house.session()
        status, body = await answer(house, "/echo", await house.headers(uuid))
        assert (status, json.loads(body)["title"]) == (504, "The workspace did not wake in time")


async def test_the_number_of_waiting_requests_is_bounded(world: World) -> None:
    async with House(world, GatewayLimits(held=3, held_per_session=2), delay=0.5).open() as house:
        ann, bob = await house.session("ann"), await house.session("bob")
        asked = [await house.headers(ann)] * 4 + [await house.headers(bob)] * 2
        found = await asyncio.gather(*(answer(house, "/echo", headers) for headers in asked))
        assert [status for status, _ in found[:4]].count(200) == 2
        assert [status for status, _ in found[4:]].count(200) == 1
        assert {status for status, _ in found} == {200, 503}


async def test_a_page_of_many_requests_is_held_whole_while_half_of_the_places_are_free(world: World) -> None:
    async with House(world, GatewayLimits(held=20, held_per_session=2, session_requests=8), delay=0.5).open() as house:
        uuid = await house.session("ann")
        headers = await house.headers(uuid)
        found = await asyncio.gather(*(answer(house, f"/echo?{number}", headers) for number in range(8)))
        assert {status for status, _ in found} == {200}


async def test_an_unknown_session_and_a_released_one_are_distinguished(house: House) -> None:
    uuid = await house.session()
    headers = await house.headers(uuid)
    await house.world.releases.uninstall(uuid)
    assert (await answer(house, "/", headers))[0] == 409
    await house.world.provisioner.delete(uuid, keep_data=False)
    assert (await answer(house, "/", headers))[0] == 404


async def test_a_post_is_not_repeated_after_its_pod_dies(house: House) -> None:
    uuid = await house.awake()
    status, body = await answer(house, "/reset", await house.headers(uuid), "POST", data=b"once")
    assert (status, json.loads(body)["title"]) == (502, "The workspace stopped")
    assert len(house.workspaces[uuid].requests) == 1


async def test_retries_stop_for_a_pod_that_keeps_closing_connections(house: House) -> None:
    uuid = await house.awake()
    status, body = await answer(house, "/reset", await house.headers(uuid))
    assert (status, json.loads(body)["title"]) == (502, "The workspace does not answer")
    assert 1 < len(house.workspaces[uuid].requests) < 30


async def test_a_heartbeat_does_not_wake_a_sleeper(house: House) -> None:
    uuid = await house.session()
    with pytest.raises(SessionAsleep):
        await house.world.activity.heartbeat(uuid, "visit")


async def test_an_unreadable_session_tells_its_user_whom_to_ask_and_hides_redis_details(house: House) -> None:
    uuid = await house.session()
    house.world.queues.unreadable_queues[uuid] = (
        f"queue:{uuid} in Redis is a string; `redis-cli DEL queue:{uuid}` repairs it"
    )
    for headers in (await house.headers(uuid), await house.person(uuid)):
        status, body = await answer(house, "/", headers)
        assert status == 503
        assert b"Ask your operator" in body
        assert b"redis" not in body.lower()
