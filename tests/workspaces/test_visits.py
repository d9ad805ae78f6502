"""Visits of real pods: they wake on the first request, sleep when their user is gone, and lose nothing between."""

import asyncio
import json
import time

import aiohttp
import pytest

from tests.workspaces.conftest import BUSYBOX, Visitor


async def test_the_first_request_of_a_program_waits_for_the_pod_and_is_served_by_it(visitor: Visitor) -> None:
    async with visitor.http.post(visitor.url + "/echo?x=1", headers=visitor.headers, data=b"y" * 300_000) as answer:
        told = json.loads(await answer.read())
    assert (answer.status, told["method"], told["length"]) == (200, "POST", 300_000)
    assert visitor.headers["Cookie"] not in json.dumps(told)


async def test_a_websocket_survives_a_cold_start_and_is_closed_properly_at_the_sleep(visitor: Visitor) -> None:
    async with visitor.http.ws_connect(visitor.url + "/ws", headers=visitor.headers, autoping=False) as socket:
        await socket.send_str("first")
        assert (await socket.receive_str(timeout=30)) == "first"
        # Nobody sends anything any more: an open connection alone keeps nobody awake.
        closed = await socket.receive(timeout=60)
        assert closed.type is aiohttp.WSMsgType.CLOSE
        assert (closed.data, closed.extra) == (1001, "the workspace went to sleep")
    await visitor.asleep()


async def test_automatic_requests_neither_wake_nor_keep_awake(visitor: Visitor) -> None:
    assert (await visitor.get("/healthz"))[0] == 503
    await visitor.get("/echo")
    slept = False
    for _ in range(300):
        status, _ = await visitor.get("/healthz")
        slept = status == 503
        if slept:
            break
        await asyncio.sleep(0.1)
    assert slept
    await visitor.asleep()


async def test_a_user_who_types_is_not_put_to_sleep(visitor: Visitor) -> None:
    async with visitor.http.ws_connect(visitor.url + "/ws", headers=visitor.headers) as socket:
        for number in range(11):  # longer than lease, cooldown and poll
            await socket.send_str(f"key {number}")
            assert (await socket.receive_str(timeout=30)) == f"key {number}"
            await asyncio.sleep(1)
        status = await visitor.status()
    assert (status["phase"], status["activity_source"]) == ("ready", "input")


async def test_a_deleted_pod_is_replaced_and_the_next_request_waits_for_it(visitor: Visitor) -> None:
    await visitor.get("/echo")
    visitor.stack.cluster.kubectl("-n", "users", "delete", "pod", "-l", f"uuid={visitor.uuid}", "--wait=false")
    found = await asyncio.gather(*(visitor.get("/echo") for _ in range(20)))
    assert {status for status, _ in found} == {200}


async def test_the_gateway_waits_longer_than_lease_and_cooldown(visitor: Visitor) -> None:
    """As with an image that takes minutes to come."""
    limits = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}
    slow = {"name": "slow", "image": BUSYBOX, "command": ["/bin/sh", "-c", "sleep 15"], "resources": limits}
    patch = json.dumps({"spec": {"template": {"spec": {"initContainers": [slow]}}}})
    visitor.stack.cluster.kubectl("-n", "users", "patch", "deployment", f"user-{visitor.uuid}", "-p", patch)
    began = time.monotonic()
    status, page = await visitor.get("/")
    assert status == 200
    assert f"user-{visitor.uuid}" in page.decode()
    assert time.monotonic() - began < 25, "it had to begin anew"


async def test_the_gateway_waits_for_a_start_that_succeeds_on_a_retry(visitor: Visitor) -> None:
    """Two tries fail; the third comes ten seconds later, which is longer than lease and cooldown together."""
    limits = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "1", "memory": "64Mi"}}
    flaky = {
        "name": "flaky",
        "image": BUSYBOX,
        "command": ["/bin/sh", "-c", "echo >> /kept/tries; test $(wc -l < /kept/tries) -gt 2"],
        "resources": limits,
        "volumeMounts": [{"name": "kept", "mountPath": "/kept"}],
    }
    spec = {"initContainers": [flaky], "volumes": [{"name": "kept", "emptyDir": {}}]}
    patch = json.dumps({"spec": {"template": {"spec": spec}}})
    visitor.stack.cluster.kubectl("-n", "users", "patch", "deployment", f"user-{visitor.uuid}", "-p", patch)
    asking = asyncio.create_task(visitor.get("/"))
    _, page = await visitor.get("/", visitor.person)
    assert b"waking up" in page
    _, events = await visitor.get("/.user-pods/wake")
    assert "event: failed" not in events.decode()
    assert events.decode().rstrip().rsplit("event: ", 1)[1].startswith("answers")
    assert (await asking)[0] == 200


async def test_a_failed_start_is_explained_at_once(visitor: Visitor) -> None:
    image = '{"spec": {"template": {"spec": {"containers": [{"name": "workspace", "image": "localhost/no/such:1"}]}}}}'
    visitor.stack.cluster.kubectl("-n", "users", "patch", "deployment", f"user-{visitor.uuid}", "-p", image)
    status, body = await visitor.get("/")
    assert (status, json.loads(body)["title"]) == (503, "The workspace could not be started")
    assert "ErrImageNeverPull" in json.loads(body)["detail"]
    assert (await visitor.get("/", visitor.person))[0] == 503
    _, events = await visitor.get("/.user-pods/wake")
    assert "ErrImageNeverPull" in events.decode().rsplit("event: failed", 1)[1]


@pytest.mark.parametrize("size", [0, 50_000_000])
async def test_large_bodies_pass_in_both_directions(visitor: Visitor, size: int) -> None:
    async with visitor.http.get(f"{visitor.url}/stream?bytes={size}", headers=visitor.headers) as answer:
        length = 0
        async for chunk in answer.content.iter_any():
            length += len(chunk)
    assert length == size


async def test_the_status_shows_activity_seen_by_the_gateway(visitor: Visitor) -> None:
    await visitor.get("/echo")
    await visitor.get("/echo")
    sources: list[str] = []

    async def look() -> None:
        sources.append((await visitor.status())["activity_source"])

    for _ in range(50):
        await look()
        if sources[-1] == "visit":
            break
        await asyncio.sleep(0.1)
    assert sources[-1] == "visit"
