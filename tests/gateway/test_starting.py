"""Pods that take their time: what Kubernetes keeps trying is waited for, and what only looks like an answer is none."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from aiohttp import ClientResponse

from service.domain.errors import RedisUnavailable
from service.domain.journal import Ready
from service.domain.names import SessionId
from service.domain.workload import Pod
from service.gateway.limits import GatewayLimits
from tests.domain.conftest import World
from tests.gateway.conftest import Headers, House, answer
from tests.waiting import until

_PULL = "ErrImagePull: the registry answers 503"
_BAD = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Sidecar:
    """What takes a pod's connections before its program is there; `early` is what it says then, None: it resets."""

    def __init__(self, early: bytes | None) -> None:
        self.early = early
        self.there = False
        """The program."""
        self.only: str | None = None
        """The one path that the program does not serve yet."""
        self.asked: list[str] = []

    def serves(self, line: str) -> bool:
        return self.there and (self.only is None or self.only not in line)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            if self.early is None and not self.there:
                self.asked.append("reset")
                writer.transport.abort()
                return
            line = (await reader.readuntil(b"\r\n\r\n")).decode().partition(" HTTP")[0]
            self.asked.append(line)
            said = _OK if self.serves(line) else self.early
            if said is None:
                writer.transport.abort()
                return
            writer.write(said.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if line.startswith("HEAD") else said)
        writer.close()


@asynccontextmanager
async def starting(
    house: House, early: bytes | None, *, ready: bool = False
) -> AsyncIterator[tuple[SessionId, Sidecar]]:
    """A session whose pod takes connections at once, and is ready or not as Kubernetes sees it."""
    uuid, sidecar = await house.session(), Sidecar(early)
    server = await asyncio.start_server(sidecar.serve, "127.0.0.1", 0)
    async with server:
        place = Pod("p1", "127.0.0.1", server.sockets[0].getsockname()[1], scheduled=True, started=True, ready=ready)
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), replicas=1, ready=int(ready), pod=place))
        yield uuid, sidecar


async def heal(house: House, uuid: SessionId) -> None:
    """The next try of Kubernetes succeeds."""
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), failure=None))
    await house.start(uuid)


async def page_shown(house: House, uuid: SessionId) -> None:
    status, page = await answer(house, "/", await house.person(uuid))
    assert (status, b"waking up" in page) == (503, True)


async def next_event(stream: ClientResponse, name: str) -> dict[str, str]:
    """The data of the stream's next event of that name."""
    while True:
        event = (await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 5)).decode()
        if f"event: {name}\n" in event:
            data: dict[str, str] = json.loads(event.partition("data: ")[2])
            return data


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.waiting.pod_waiter.CHECK_INTERVAL", 0.05)
    monkeypatch.setattr("service.gateway.waiting.events.CHECK_INTERVAL", 0.05)
    monkeypatch.setattr("service.gateway.waiting.delays.LASTS", 0.1)


# --- what Kubernetes keeps trying ---


async def test_a_request_waits_while_kubernetes_retries_and_is_then_served(house: House) -> None:
    house.fails = _PULL
    uuid = await house.session()
    asking = asyncio.create_task(answer(house, "/echo", await house.headers(uuid), "POST", data=b"once"))
    await until(lambda: house.world.cluster.workload(uuid).failure is not None)
    await asyncio.sleep(0.2)
    assert not asking.done()
    await heal(house, uuid)
    status, body = await asking
    assert (status, json.loads(body)["length"]) == (200, 4)


async def test_the_page_explains_a_lasting_delay_and_continues_when_a_retry_succeeds(house: House) -> None:
    house.fails = _PULL
    uuid = await house.session()
    await page_shown(house, uuid)
    async with house.http.get(house.url("/.user-pods/wake"), headers=await house.headers(uuid)) as stream:
        assert (await next_event(stream, "warning"))["reason"] == f"Kubernetes keeps retrying. {_PULL}"
        _, page = await answer(house, "/", await house.person(uuid))
        assert _PULL in page.decode()
        await heal(house, uuid)
        await next_event(stream, "answers")


async def test_the_gateway_waits_for_an_unschedulable_pod_and_the_page_says_so(house: House) -> None:
    house.delay = 60
    uuid = await house.session()
    await page_shown(house, uuid)
    full = "Unschedulable: 0/3 nodes are available"
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), blocker=full))
    async with house.http.get(house.url("/.user-pods/wake"), headers=await house.headers(uuid)) as stream:
        assert (await next_event(stream, "warning"))["reason"] == full
        await house.start(uuid)
        await next_event(stream, "answers")


async def test_a_resolved_delay_disappears_from_the_page(house: House) -> None:
    house.fails = _PULL
    uuid = await house.session()
    await page_shown(house, uuid)
    async with house.http.get(house.url("/.user-pods/wake"), headers=await house.headers(uuid)) as stream:
        await next_event(stream, "warning")
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), failure=None))
        assert (await next_event(stream, "warning"))["reason"] == ""


async def test_the_page_says_that_a_wake_takes_longer_than_expected_even_if_kubernetes_does_not_say_why(
    house: House,
) -> None:
    house.delay = 60
    uuid = await house.session()
    await house.world.history.append(Ready(uuid=uuid, user=None, seconds=0.02, pod="before"))
    await page_shown(house, uuid)
    async with house.http.get(house.url("/.user-pods/wake"), headers=await house.headers(uuid)) as stream:
        late = await next_event(stream, "warning")
        assert (late["kind"], late["reason"][:35]) == ("late", "It is taking longer than expected. ")
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), failure=_PULL))
        explained = await next_event(stream, "warning")
        assert (explained["kind"], explained["reason"]) == ("retried", f"Kubernetes keeps retrying. {_PULL}")
        await heal(house, uuid)
        await next_event(stream, "answers")


async def test_a_timeout_reports_what_kubernetes_is_still_retrying(world: World) -> None:
    async with House(world, GatewayLimits(hold_timeout=timedelta(seconds=0.3)), fails=_PULL).open() as house:
        uuid = await house.session()
        status, body = await answer(house, "/echo", await house.headers(uuid))
        assert (status, json.loads(body)["detail"]) == (504, f"Kubernetes keeps retrying. {_PULL}")


async def test_a_failure_that_becomes_final_ends_the_wait(house: House) -> None:
    house.fails = _PULL
    uuid = await house.session()
    await page_shown(house, uuid)
    headers = await house.headers(uuid)
    async with house.http.get(house.url("/.user-pods/wake"), headers=headers) as stream:
        asking = asyncio.create_task(answer(house, "/echo", headers))
        await next_event(stream, "warning")
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), failure="Evicted: no disk", final=True))
        said = await next_event(stream, "failed")
        assert said["title"] == "The workspace could not be started"
        assert said["reason"].startswith("Evicted: no disk (This is not retried automatically")
        assert (await asking)[0] == 503


async def test_a_failure_that_becomes_final_by_time_alone_ends_the_wait(house: House) -> None:
    """As of a pod that was evicted, and has not been replaced for some seconds."""
    house.fails = "Evicted: no disk"
    uuid = await house.session()
    asking = asyncio.create_task(answer(house, "/echo", await house.headers(uuid)))
    await until(lambda: house.world.cluster.workload(uuid).failure is not None)
    house.world.cluster.workloads[uuid] = replace(house.world.cluster.workload(uuid), final=True)  # no listener hears
    assert (await asking)[0] == 503


async def test_a_wake_is_renewed_while_anybody_waits(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    is_wanted: list[str] = []

    async def counted(_uuid: SessionId, source: str, *, ago: timedelta) -> None:
        assert ago < timedelta(seconds=1)
        is_wanted.append(source)

    monkeypatch.setattr("service.gateway.activity.notes.INTERVAL", 0.02)
    monkeypatch.setattr(house.world.activity, "heartbeat", counted)
    house.fails = _PULL
    uuid = await house.session()
    await page_shown(house, uuid)
    async with house.http.get(house.url("/.user-pods/wake"), headers=await house.headers(uuid)):
        await until(lambda: len(is_wanted) > 3)
    await until(lambda: not house.gateway._waiter.waiting)
    await until(lambda: not house.gateway._activity._timers)
    seen = len(is_wanted)
    asking = asyncio.create_task(answer(house, "/echo", await house.headers(uuid)))
    await until(lambda: len(is_wanted) > seen + 3)
    asking.cancel()
    assert set(is_wanted) == {"visit"}


async def test_a_page_that_reloads_itself_keeps_an_awake_pod_and_wakes_no_sleeper(house: House) -> None:
    uuid = await house.session()
    headers = await house.headers(uuid, Last_Event_ID="1-0")
    async with house.http.get(house.url("/.user-pods/wake"), headers=headers) as stream:
        assert (await next_event(stream, "failed"))["title"] == "Asleep"
    assert house.world.cluster.workload(uuid).replicas == 0


async def test_waiting_for_a_page_has_a_limit(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.waiting.events.PAGE_TIMEOUT", 0.2)
    house.fails = _PULL
    uuid = await house.session()
    await page_shown(house, uuid)
    async with house.http.get(house.url("/.user-pods/wake"), headers=await house.headers(uuid)) as stream:
        said = await next_event(stream, "failed")
    assert said["title"] == "The workspace did not wake in time"
    assert _PULL in said["reason"]


async def test_waiting_survives_an_outage_of_redis(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.delay = 30
    uuid = await house.session()
    asking = asyncio.create_task(answer(house, "/echo", await house.headers(uuid)))
    await until(lambda: house.world.cluster.workload(uuid).replicas == 1)
    tried = asyncio.Event()

    async def away(_uuid: SessionId, **_: object) -> int:
        tried.set()
        raise RedisUnavailable

    monkeypatch.setattr(house.world.activity, "wake", away)
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), replicas=0))
    await asyncio.wait_for(tried.wait(), 5)
    await house.start(uuid)
    assert (await asking)[0] == 200


# --- what stands before the program ---


@pytest.mark.parametrize("early", [None, _BAD, _BAD.replace(b"502", b"503")], ids=["resets", "502", "503"])
async def test_the_gateway_waits_for_a_program_behind_an_early_sidecar(house: House, early: bytes | None) -> None:
    async with starting(house, early) as (uuid, sidecar):
        headers = await house.headers(uuid)
        asking = [asyncio.create_task(answer(house, "/api", headers)) for _ in range(5)]
        asking += [asyncio.create_task(answer(house, "/api", headers, "POST", data=b"once"))]
        await asyncio.sleep(1)
        assert not any(task.done() for task in asking)
        assert len(sidecar.asked) < 30, "it is not hammered at, however many wait"
        sidecar.there = True
        assert {await task for task in asking} == {(200, b"ok")}
        assert sidecar.asked.count("POST /api") == 1


async def test_the_page_continues_only_when_the_program_answers(house: House) -> None:
    async with starting(house, _BAD) as (uuid, sidecar):
        await page_shown(house, uuid)
        async with house.http.get(house.url("/.user-pods/wake"), headers=await house.headers(uuid)) as stream:
            await until(lambda: len(sidecar.asked) > 3)
            sidecar.there = True
            await next_event(stream, "answers")
        assert await answer(house, "/", await house.person(uuid)) == (200, b"ok")


async def test_the_gateway_waits_for_a_late_path_where_repeating_is_safe(house: House) -> None:
    async with starting(house, _BAD) as (uuid, sidecar):
        sidecar.there, sidecar.only = True, "/api"
        headers = await house.headers(uuid)
        asking = asyncio.create_task(answer(house, "/api", headers))
        await until(lambda: sidecar.asked.count("GET /api") > 1)
        assert await answer(house, "/api", headers, "POST", data=b"once") == (502, b"bad")
        assert sidecar.asked.count("POST /api") == 1
        sidecar.only = None
        assert await asking == (200, b"ok")


async def test_a_websocket_waits_for_the_program_too(house: House) -> None:
    async with starting(house, _BAD) as (uuid, sidecar):
        sidecar.there, sidecar.only = True, "/ws"
        handshake: Headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
        asking = asyncio.create_task(answer(house, "/ws", {**await house.headers(uuid), **handshake}))
        await until(lambda: sidecar.asked.count("GET /ws") > 1)
        sidecar.only = None
        assert (await asking)[0] == 200, "which is this program's answer to a handshake"


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_the_answer_of_a_ready_pod_is_passed_on_unchanged(house: House, status: int) -> None:
    early = _BAD.replace(b"502", str(status).encode())
    async with starting(house, early, ready=True) as (uuid, sidecar):
        assert await answer(house, "/api", await house.headers(uuid)) == (status, b"bad")
        assert sidecar.asked == ["GET /api"]


async def test_after_the_timeout_the_pods_own_answer_is_passed_on(world: World) -> None:
    async with (
        House(world, GatewayLimits(hold_timeout=timedelta(seconds=0.3))).open() as house,
        starting(house, _BAD) as (uuid, sidecar),
    ):
        sidecar.there, sidecar.only = True, "/api"
        assert await answer(house, "/api", await house.headers(uuid)) == (502, b"bad")


async def test_after_the_timeout_a_pod_that_only_resets_is_reported_as_not_ready(world: World) -> None:
    async with (
        House(world, GatewayLimits(hold_timeout=timedelta(seconds=0.3))).open() as house,
        starting(house, None) as (uuid, _),
    ):
        status, body = await answer(house, "/api", await house.headers(uuid))
        assert (status, json.loads(body)["title"]) == (504, "The workspace did not wake in time")
        assert "the program in it does not answer yet" in json.loads(body)["detail"]


async def test_a_slow_answer_counts_as_a_running_program(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.proxy.pods._PROBE_TIMEOUT", 0.05)
    uuid = await house.awake()
    workload = house.world.cluster.workload(uuid)
    assert workload.pod is not None
    house.world.cluster.change(replace(workload, ready=0, pod=replace(workload.pod, ready=False)))
    monkeypatch.setattr(house.workspaces[uuid], "_echo", house.workspaces[uuid]._late)
    assert await answer(house, "/other", await house.headers(uuid)) == (200, b"late")


async def test_a_visit_to_a_sleeper_that_an_operator_has_paused_says_so(
    house: House,
) -> None:
    uuid, words = await house.session(), "an operator has paused the session"
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), paused=words))
    status, page = await answer(house, "/", await house.person(uuid))
    assert (status, words in page.decode()) == (503, True)
    assert house.world.queues.queue(uuid).is_wanted
