"""Which data from a pod shows that a program works in it, and what the gateway makes of that."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from service.domain.idle_times import IdleTimes
from service.domain.metrics import ActivitySource
from service.domain.names import SessionId
from service.gateway.activity.background import OutputMeter
from service.gateway.activity.vscode import prints
from tests.gateway.conftest import House
from tests.gateway.test_editor import ACKNOWLEDGED, KEEP_ALIVE, message, method
from tests.gateway.test_websockets import socket
from tests.waiting import until

EDITOR = "/ws?reconnectionToken=1"
KERNEL = "/ws/api/kernels/5/channels"


def event(body: bytes, number: bytes = b"\x95\x01") -> bytes:
    """An event of an editor's server, with an object."""
    return message(b"\x04\x02\x06\xcc\x01\x06" + number + b"\x05" + bytes([len(body)]) + body)


PRINTED = event(rb'{"id":1,"event":"Thu Nov 26 16:55:24 UTC 2026\r\n"}')
IDLE_EDITOR = (
    KEEP_ALIVE,
    ACKNOWLEDGED,
    method("$onFoundNewCandidates", b'[[{"host":"127.0.0.1","port":31414}]]'),
    message(b"\x09\0\0\x02\x5d"),
    message(b"\x04\x02\x06\xc9\x01\x06\x40\x00"),
    event(b'{"id":1,"property":{"type":"title","value":"sleep"}}'),
    event(b'{"id":1,"event":{"pid":20238,"cwd":"/home/coder"}}'),
    b"",
    b"\x01\x00",
)
"""What a real VS Code got within minutes in which nobody touched it."""


@pytest.mark.parametrize("number", [b"\x05", b"\x95\x01", b"\x95\x95\x01"])
def test_what_a_terminal_prints_is_recognised_in_a_frame(number: bytes) -> None:
    assert prints(PRINTED)
    assert prints(KEEP_ALIVE + IDLE_EDITOR[2] + event(b'{"id":12,"event":"x"}', number))
    assert prints(event(b'{"id":1,"event":{"data":"x","trackCommit":true}}', number))


@pytest.mark.parametrize("frame", IDLE_EDITOR)
def test_what_an_idle_editor_gets_is_no_output(frame: bytes) -> None:
    assert not prints(frame)


def test_a_few_messages_or_much_data_within_seconds_is_work_and_a_keepalive_is_not() -> None:
    now = 0.0
    meter = OutputMeter(lambda: now)
    for _ in range(10):
        assert not meter.is_work(40)
        now += 6
    assert meter.is_work(5000)
    now += 6
    assert [meter.is_work(1) for _ in range(4)] == [False, False, True, True]


async def working(house: House, limit: timedelta) -> SessionId:
    uuid = await house.awake()
    workload = house.world.cluster.workload(uuid)
    house.world.cluster.change(replace(workload, idle_times=replace(IdleTimes(), background=limit)))
    return uuid


def output(house: House, uuid: SessionId) -> Any:
    return house.world.store.sessions[uuid].last_output


async def pod_side(house: House, uuid: SessionId) -> web.WebSocketResponse:
    await until(lambda: bool(house.workspaces[uuid].sockets))
    return house.workspaces[uuid].sockets[-1]


async def test_terminal_output_is_background_work_and_no_activity_of_the_user(house: House) -> None:
    uuid = await working(house, timedelta(hours=4))
    async with socket(house, uuid, EDITOR) as connection:
        pod = await pod_side(house, uuid)
        await until(lambda: house.world.store.sessions[uuid].activity_source == "visit")
        before = house.world.store.sessions[uuid].last_activity
        for frame in IDLE_EDITOR:
            await pod.send_bytes(frame)
            assert await connection.recv() == frame
        assert house.metrics.notes[ActivitySource.BACKGROUND] == 0
        await pod.send_bytes(PRINTED)
        assert await connection.recv() == PRINTED
        await until(lambda: house.metrics.notes[ActivitySource.BACKGROUND] == 1)
        assert output(house, uuid) is not None
        assert house.world.store.sessions[uuid].last_activity == before


async def test_work_is_noted_once_per_interval_however_much_is_printed(house: House) -> None:
    uuid = await working(house, timedelta(hours=4))
    async with socket(house, uuid, EDITOR) as connection:
        pod = await pod_side(house, uuid)
        for _ in range(300):
            await pod.send_bytes(PRINTED)
            await connection.recv()
        assert house.metrics.notes[ActivitySource.BACKGROUND] == 1


@pytest.mark.parametrize(
    ("path", "idle", "printed"),
    [
        (
            KERNEL,
            ['{"header": {"msg_type": "status"}, "content": {"execution_state": "idle"}}'] * 5,
            '{"header": {"msg_id": "1", "msg_type": "stream"}, "content": {"text": "1\\n"}}',
        ),
        ("/ws", ["ping"], "x" * 2000),
    ],
)
async def test_other_programs_output_is_told_from_their_chatter(
    house: House, path: str, idle: list[str], printed: str
) -> None:
    uuid = await working(house, timedelta(hours=4))
    async with socket(house, uuid, path) as connection:
        pod = await pod_side(house, uuid)
        for text in idle:
            await pod.send_str(text)
            assert await connection.recv() == text
        await pod.ping()
        assert output(house, uuid) is None
        await pod.send_str(printed)
        assert await connection.recv() == printed
        await until(lambda: output(house, uuid) is not None)


async def test_work_that_may_not_keep_the_pod_awake_is_noted_all_the_same(house: House) -> None:
    uuid = await working(house, timedelta(0))
    async with socket(house, uuid, EDITOR) as connection:
        await (await pod_side(house, uuid)).send_bytes(PRINTED)
        await connection.recv()
        await until(lambda: output(house, uuid) is not None)
    assert house.metrics.notes[ActivitySource.BACKGROUND] == 0


async def test_a_running_download_is_background_work(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.activity.background._LONG", 0.1)
    uuid = await working(house, timedelta(hours=4))
    headers = await house.headers(uuid)
    async with house.http.get(house.url("/drip?every=0.01"), headers=headers) as response:
        await response.content.readany()
        assert output(house, uuid) is None
        await until(lambda: output(house, uuid) is not None)


async def test_a_page_that_loads_and_a_stream_of_keepalives_are_no_background_work(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = await working(house, timedelta(hours=4))
    headers = await house.headers(uuid)
    async with house.http.get(house.url("/bytes?size=1000000"), headers=headers) as response:
        await response.read()
    monkeypatch.setattr("service.gateway.activity.background._LONG", 0.0)
    monkeypatch.setattr("service.gateway.activity.background._WINDOW", 0.1)
    async with house.http.get(house.url("/drip?every=0.3"), headers=headers) as response:
        for _ in range(4):
            await response.content.readany()
        await asyncio.sleep(0)
    assert output(house, uuid) is None
