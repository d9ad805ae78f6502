"""The companion's WebSocket: what pages hear of their session, and how little a hostile page can do with it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, WSMsgType
from hypothesis import given
from hypothesis import strategies as st

from service.domain.access import ValidCookie
from service.domain.errors import RedisUnavailable
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.session import Session
from service.gateway.access.cookie_header import COOKIE
from service.gateway.activity import presence
from service.gateway.activity.measured import COMPANION, NO_COMPANION
from service.gateway.companion import channel, messages, session_tabs
from service.gateway.limits import GatewayLimits
from service.gateway.waiting import delays
from tests.domain.conftest import World
from tests.gateway.conftest import House, answer
from tests.waiting import until

PATH = "/.user-pods/companion"
Json = dict[str, Any]


class Page:
    """A page's companion."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def hears(self, type_: str, **members: Any) -> Json:
        """The next message that fits."""
        async with asyncio.timeout(3):
            while True:
                message: Json = json.loads(await self.socket.receive_str())
                if message["type"] == type_ and all(message[name] == value for name, value in members.items()):
                    return message

    async def says(self, type_: str, **members: Any) -> None:
        await self.socket.send_str(json.dumps({"type": type_, **members}))


@asynccontextmanager
async def page(house: House, uuid: SessionId, browser: str = "", **more: str) -> AsyncIterator[Page]:
    """`browser`: its name, as the companion's cookie has it."""
    headers = await house.headers(uuid, **more)
    headers["Cookie"] += f"; {COMPANION}={browser}" if browser else ""
    async with house.http.ws_connect(house.url(PATH), headers=headers, max_msg_size=0) as socket:
        yield Page(socket)


async def refused(house: House, headers: dict[str, str]) -> int:
    """The status of a handshake that is refused."""
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
               "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
    return (await answer(house, PATH, {**headers, **upgrade}))[0]


async def fall_asleep(house: House, uuid: SessionId) -> None:
    house.world.queues.drop(uuid)
    await house.fall_asleep(uuid)


async def test_a_page_hears_the_texts_and_the_state_first(house: House) -> None:
    uuid = await house.awake()
    async with page(house, uuid, Accept_Language="de") as each:
        hello = await each.hears("hello")
        assert hello["texts"]["asleep.title"] == "Im Ruhezustand seit {time}"
        assert (hello["notice"], hello["stay"]) == (60, 60)
        state = await each.hears("state")
        assert (state["phase"], state["pod"], state["asleep_since"]) == ("ready", f"{uuid}-1", None)
        assert abs(state["now"] - datetime.now(UTC).timestamp()) < 5


async def test_a_sleep_is_heard_in_every_tab_at_once_even_while_redis_is_away(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as one, page(house, uuid) as two:
        await one.hears("state", phase="ready")
        await two.hears("state", phase="ready")

        async def away(_uuid: SessionId) -> None:
            await asyncio.sleep(60)
            raise RedisUnavailable

        monkeypatch.setattr(house.world.store, "record", away)
        await fall_asleep(house, uuid)
        for each in (one, two):
            state = await each.hears("state", phase="asleep")
            assert abs(state["asleep_since"] - datetime.now(UTC).timestamp()) < 1


@pytest.mark.parametrize("worked", [True, False])
async def test_a_page_hears_whether_the_sleep_interrupted_a_program(house: House, worked: bool) -> None:
    uuid = await house.awake()
    now = datetime.now(UTC)
    record = house.world.store.sessions[uuid]
    printed = now - timedelta(seconds=5 if worked else 300)
    house.world.store.sessions[uuid] = replace(record, last_activity=now - timedelta(minutes=10), last_output=printed)
    async with page(house, uuid) as each:
        await each.hears("state", phase="ready")
        await fall_asleep(house, uuid)
        state = await each.hears("state", phase="asleep")
        if worked and not state["interrupted"]:  # the first is sent before anything is read
            state = await each.hears("state", phase="asleep")
        assert state["interrupted"] is worked


async def test_a_page_that_connects_to_a_sleeper_hears_since_when_it_sleeps(house: House) -> None:
    uuid = await house.session()
    async with page(house, uuid) as each:
        assert (await each.hears("state"))["phase"] == "asleep"
    assert house.world.cluster.workload(uuid).replicas == 0, "a page that connects wakes nobody"


async def test_a_wake_is_followed_to_its_end_in_every_tab(house: House) -> None:
    house.delay = 0.3
    uuid = await house.awake()
    async with page(house, uuid) as one, page(house, uuid) as two:
        await two.hears("state")
        await fall_asleep(house, uuid)
        await one.hears("state", phase="asleep")
        await one.says("wake")
        await one.says("wake")
        for each in (one, two):
            assert (await each.hears("progress"))["stage"] == "accepted"
            await each.hears("ready")
    assert house.workspaces[uuid].name == f"{uuid}-2"


async def test_a_wake_by_somebody_else_is_heard_too(house: House) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as each:
        await fall_asleep(house, uuid)
        await each.hears("state", phase="asleep")
        await house.world.activity.wake(uuid)
        await each.hears("ready")


async def test_a_wake_that_cannot_succeed_says_why_and_the_next_one_is_tried(house: House) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as each:
        await fall_asleep(house, uuid)
        house.fails, house.final = "ErrImageNeverPull", True
        await each.says("wake")
        assert "ErrImageNeverPull" in (await each.hears("failed"))["detail"]
        house.fails = None
        await fall_asleep(house, uuid)
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), failure=None, final=False))
        await each.says("wake")
        await each.hears("ready")


async def test_a_released_session_says_so_and_a_wake_of_it_what_to_do(house: House) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as each:
        gone = replace(house.world.cluster.workload(uuid), replicas=0, ready=0, pod=None, release=None, deployed=False)
        house.world.cluster.change(gone)
        await each.hears("state", phase="released")
        await each.says("wake")
        assert (await each.hears("failed"))["title"] == "The workspace was removed"


async def test_input_is_activity_at_the_time_when_it_was(house: House) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as each:
        await each.hears("state")
        assert house.world.store.sessions[uuid].last_activity is None, "a connection alone is no activity"
        await each.says("input", ago=1500)
        await until(lambda: house.world.store.sessions[uuid].activity_source == "input")
        noted = house.world.store.sessions[uuid].last_activity
        assert noted is not None
        assert timedelta(seconds=1.4) < datetime.now(UTC) - noted < timedelta(seconds=3)


TIMES = IdleTimes(lease=timedelta(seconds=30), cooldown=timedelta(seconds=1), poll=timedelta(seconds=1))


async def test_the_notice_is_due_before_the_sleep_and_withdrawn_in_every_tab_by_input_in_one(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = await house.awake()
    house.world.queues.tokens[uuid] = (1, datetime.now(UTC) + timedelta(seconds=15.5))
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), idle_times=TIMES))
    async with page(house, uuid) as one, page(house, uuid) as two:
        assert (await one.hears("hello"))["notice"] == 15, "half the time after which it sleeps"
        await one.hears("state")
        due = await one.hears("state")  # half a second later
        assert 14 < due["sleeps_at"] - due["now"] <= 15
        await two.says("input")
        assert (await one.hears("state"))["sleeps_at"] is None
        await until(lambda: house.world.store.sessions[uuid].activity_source == "input")


async def test_a_withdrawn_notice_does_not_come_back_before_the_input_is_noted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_tabs, "NOTICE_INTERVAL", 0.02)
    uuid = await house.awake()
    house.world.cluster.change(replace(house.world.cluster.workload(uuid), idle_times=TIMES))
    async with page(house, uuid) as each:
        await each.says("input", ago=25_000)  # noted at once; the next one in some seconds
        await until(lambda: house.world.store.sessions[uuid].activity_source == "input")
        house.world.queues.tokens[uuid] = (1, datetime.now(UTC) + timedelta(seconds=10))
        house.world.cluster.change(house.world.cluster.workload(uuid))
        while (await each.hears("state"))["sleeps_at"] is None:
            pass
        await each.says("input")
        assert (await each.hears("state"))["sleeps_at"] is None
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await each.hears("state")


async def test_without_a_notice_pages_still_hear_when_to_save(world: World) -> None:
    async with House(world, GatewayLimits(sleep_notice=timedelta(0))).open() as house:
        uuid = await house.awake()
        house.world.queues.tokens[uuid] = (1, datetime.now(UTC) + timedelta(seconds=5.5))
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), idle_times=TIMES))
        async with page(house, uuid) as each:
            assert (await each.hears("hello"))["notice"] == 0
            await each.hears("state")
            due = await each.hears("state")
            assert 4 < due["sleeps_at"] - due["now"] <= 5


async def test_staying_awake_is_an_extension(house: House) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as each:
        await each.says("stay")
        until_then = (await each.hears("stayed"))["until"]
        assert 3590 < until_then - datetime.now(UTC).timestamp() < 3610
        assert house.world.store.sessions[uuid].kept_until is not None


async def test_nobody_gets_in_without_a_cookie_or_from_another_hosts_page(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid)
    assert await refused(house, {"Host": headers["Host"]}) == 401
    assert await refused(house, {**headers, "Origin": "https://vs-code-00000000.pods.test"}) == 403
    assert await refused(house, {**headers, "Sec-Fetch-Site": "same-site"}) == 403
    assert (await answer(house, PATH, headers))[0] == 426
    assert not house.workspaces[uuid].requests


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{", '{"type": 1}', '{"type": ["input"]}', '{"type": "other"}', '"' + "x" * 400, "[" * 500,
     '{"type": "input", "ago": "1"}', '{"type": "input", "ago": -5}', '{"type": "input", "ago": 1e400}',
     '{"type": "input", "ago": NaN}'],
)  # fmt: skip
async def test_what_makes_no_sense_is_ignored(house: House, text: str) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as each:
        await each.socket.send_str(text)
        await each.says("stay")
        await each.hears("stayed")


@given(
    st.text(max_size=300) | st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none()).map(json.dumps)
)
def test_no_message_is_an_error(text: str) -> None:
    message = messages.parse(text)
    assert message is None or 0 <= message.ago <= 60


@pytest.mark.parametrize("flood", ["text", "ping", "binary", "large"])
async def test_a_flood_ends_its_own_connection_and_no_other(house: House, flood: str) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as good, page(house, uuid) as bad:
        for _ in range(200):
            if bad.socket.closed:
                break
            if flood == "text":
                await bad.says("input")
            elif flood == "ping":
                await bad.socket.ping()
            elif flood == "binary":
                await bad.socket.send_bytes(b"x")
            else:
                with contextlib.suppress(ConnectionError):
                    await bad.socket.send_str("x" * 100_000)
        async with asyncio.timeout(3):
            while (await bad.socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR):
                pass
        await good.says("stay")
        await good.hears("stayed")


async def test_tabs_are_limited_per_session_and_take_no_place_of_the_pods_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "TABS", 3)
    async with House(world, GatewayLimits(session_requests=1)).open() as house:
        uuid, other = await house.awake(), await house.awake("bob")
        async with page(house, uuid), page(house, uuid), page(house, uuid), page(house, other) as bobs:
            assert await refused(house, await house.headers(uuid)) == 429
            await bobs.hears("state")
            async with house.http.ws_connect(house.url("/ws"), headers=await house.headers(uuid)) as socket:
                await socket.send_str("works")
                assert await socket.receive_str() == "works"
        await until(lambda: not house.gateway._companions._sessions)


async def test_a_tab_that_reads_nothing_is_closed_and_delays_no_other(house: House) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as good:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port, limit=2**10)
        upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                   "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in ((await house.headers(uuid)) | upgrade).items())
        writer.write(f"GET {PATH} HTTP/1.1\r\n{head}\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        (tabs,) = house.gateway._companions._sessions.values()
        await until(lambda: len(tabs._tabs) == 2)
        reading = asyncio.create_task(good.hears("end"))
        for _ in range(400):
            tabs._send(json.dumps({"type": "noise", "text": "x" * 50_000}))
            await asyncio.sleep(0.002)
            if len(tabs._tabs) == 1:
                break
        await until(lambda: len(tabs._tabs) == 1)
        tabs._send('{"type": "end"}')
        await reading
        writer.transport.abort()


async def test_at_the_end_tabs_are_told_to_connect_elsewhere(house: House) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as one, page(house, uuid) as two:
        await two.hears("state")
        await house.gateway.drain(0.1)
        for each in (one, two):
            async with asyncio.timeout(3):
                while (closed := await each.socket.receive()).type is not WSMsgType.CLOSE:
                    pass
            assert closed.data == 1012


async def test_a_handshake_renews_the_session_cookie(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid)
    monkeypatch.setattr(house.access, "known_since", lambda *_: None)

    async def renewed(value: str, _uuid: SessionId) -> ValidCookie:
        return ValidCookie(since=0, renewed=value)

    monkeypatch.setattr(house.access, "check_cookie", renewed)
    async with house.http.ws_connect(house.url(PATH), headers=headers) as socket:
        assert socket._response.headers["Set-Cookie"].startswith(f"{COOKIE}=")


async def test_a_tab_whose_user_signs_out_is_closed(house: House) -> None:
    uuid = await house.awake()
    async with page(house, uuid) as each:
        await each.hears("state")
        for since in {*house.gateway._open._open[uuid].values()}:
            await house.gateway._open.end(uuid, since)
        async with asyncio.timeout(3):
            while (await each.socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR):
                pass


MEASURED = {
    "measured": f"{COMPANION}=1",
    "unmeasured": f"{COMPANION}=1; {NO_COMPANION}=1",
    "forged": "x=1; y=z" + COMPANION + "=1",
}


@pytest.mark.parametrize("cookies", MEASURED)
async def test_a_measured_browsers_requests_and_frames_do_not_count_and_wake_nobody(house: House, cookies: str) -> None:
    uuid, measured = await house.awake(), cookies == "measured"
    headers = await house.headers(uuid, Sec_Fetch_Mode="cors", Sec_Fetch_Dest="empty", Sec_Fetch_Site="same-origin")
    headers["Cookie"] += f"; {MEASURED[cookies]}"
    assert (await answer(house, "/echo", headers))[0] == 200
    async with house.http.ws_connect(house.url("/ws"), headers=headers) as socket:
        await socket.send_str("saved by itself")
        await socket.receive_str()
    await asyncio.sleep(0.1)
    assert (house.world.store.sessions[uuid].last_activity is None) is measured
    await fall_asleep(house, uuid)
    assert (await answer(house, "/echo", headers))[0] == (503 if measured else 200)
    assert house.starts == (1 if measured else 2)


@pytest.fixture
def checked_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "CHECK", 1.0)


async def sends(house: House, uuid: SessionId, browser: str) -> None:
    """A page of that browser sends something by itself, in both ways."""
    headers = await house.headers(uuid, Sec_Fetch_Mode="cors", Sec_Fetch_Dest="empty", Sec_Fetch_Site="same-origin")
    headers["Cookie"] += f"; {COMPANION}={browser}"
    async with house.http.ws_connect(house.url("/ws"), headers=headers) as socket:
        await socket.send_str("typed, or polled")
        await socket.receive_str()
    assert (await answer(house, "/echo", headers))[0] == 200


@pytest.mark.usefixtures("checked_soon")
async def test_what_a_page_sends_counts_with_its_time_where_the_companion_never_connects(house: House) -> None:
    uuid = await house.awake()
    began = datetime.now(UTC)
    await sends(house, uuid, "blocked")
    ended = datetime.now(UTC)
    assert house.world.store.sessions[uuid].last_activity is None
    await until(lambda: house.world.store.sessions[uuid].last_activity is not None)
    noted = house.world.store.sessions[uuid].last_activity
    assert noted is not None
    assert began <= noted <= ended + timedelta(seconds=0.5)


WHERE = ("here", "elsewhere", "here in a moment", "in another browser")


@pytest.mark.usefixtures("checked_soon")
@pytest.mark.parametrize("where", WHERE)
async def test_what_a_page_sends_does_not_count_while_its_companion_is_connected_somewhere(
    house: House, where: str
) -> None:
    uuid = await house.awake()
    async with AsyncExitStack() as companion:
        if where == "elsewhere":  # at another replica
            await house.companions.seen(uuid, "named")
        if where in ("here", "in another browser"):
            named = "named" if where == "here" else "another"
            await companion.enter_async_context(page(house, uuid, named))
        await sends(house, uuid, "named")
        if where == "here in a moment":  # after an outage, its page may be the first to reach the gateway again
            await companion.enter_async_context(page(house, uuid, "named"))
        await until(lambda: not house.gateway._presence._undecided)
        await asyncio.sleep(0.05)
        counted = house.world.store.sessions[uuid].last_activity is not None
        assert counted is (where == "in another browser")


@pytest.mark.usefixtures("checked_soon")
async def test_other_replicas_hear_of_a_companion_while_it_is_connected_and_the_pod_is_awake(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_ANNOUNCED", 0.05)
    uuid, asleep = await house.awake(), await house.session("bob")
    async with page(house, asleep, "bobs"), page(house, uuid, "named"):
        await until(lambda: bool(house.companions.browsers))
        house.companions.browsers.clear()
        await until(lambda: bool(house.companions.browsers))
        assert {each: {*names} for each, names in house.companions.browsers.items()} == {uuid: {"named"}}
    await until(lambda: not house.gateway._presence._announcing)


@pytest.mark.usefixtures("checked_soon")
async def test_while_redis_is_away_it_is_decided_later_what_counts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, tries = await house.awake(), 0
    is_seen = house.companions.is_seen

    async def away(_uuid: SessionId, _browser: str) -> bool:
        nonlocal tries
        tries += 1
        raise RedisUnavailable

    monkeypatch.setattr(house.companions, "is_seen", away)
    await sends(house, uuid, "blocked")
    await until(lambda: tries >= 2)
    assert house.world.store.sessions[uuid].last_activity is None
    monkeypatch.setattr(house.companions, "is_seen", is_seen)
    await until(lambda: house.world.store.sessions[uuid].last_activity is not None)


async def test_undecided_browsers_are_limited_and_what_others_send_counts(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_MOST", 1)
    uuid, other = await house.awake(), await house.awake("bob")
    await sends(house, uuid, "one")
    await sends(house, other, "two")
    await until(lambda: house.world.store.sessions[other].last_activity is not None)
    assert house.world.store.sessions[uuid].last_activity is None


async def test_a_measured_browsers_navigation_counts_and_wakes(house: House) -> None:
    uuid = await house.awake()
    headers = await house.person(uuid)
    headers["Cookie"] += f"; {COMPANION}=1"
    assert (await answer(house, "/echo", headers))[0] == 200
    await until(lambda: house.world.store.sessions[uuid].activity_source == "visit")
    await fall_asleep(house, uuid)
    assert (await answer(house, "/echo", headers))[0] == 503
    await until(lambda: house.starts == 2)


async def test_a_long_upload_of_a_measured_browser_counts(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.gateway.activity.notes.INTERVAL", 0.3)
    uuid = await house.awake()
    headers = await house.headers(uuid)
    headers["Cookie"] += f"; {COMPANION}=1"

    async def pieces(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 1000
            await asyncio.sleep(0.1)

    await answer(house, "/echo", headers, "POST", data=pieces(2))
    assert house.world.store.sessions[uuid].last_activity is None
    await answer(house, "/echo", headers, "POST", data=pieces(8))
    await until(lambda: house.world.store.sessions[uuid].activity_source == "visit")


async def test_pods_see_none_of_the_cookies_and_cannot_set_them(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid)
    headers["Cookie"] += f"; {COMPANION}=1; mine=1; {NO_COMPANION}=1"
    _, body = await answer(house, "/echo", headers)
    assert json.loads(body)["headers"]["cookie"] == ["mine=1"]
    assert COMPANION.startswith(COOKIE)
    assert NO_COMPANION.startswith(COOKIE)


async def test_sessions_whose_status_cannot_be_read_keep_their_tabs(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_tabs, "UNKNOWN_INTERVAL", 0.05)
    uuid = await house.awake()
    record = house.world.store.record

    async def away(_uuid: SessionId) -> None:
        raise RedisUnavailable

    monkeypatch.setattr(house.world.store, "record", away)
    async with page(house, uuid) as each:
        assert (await each.hears("state"))["phase"] == "ready"
        await asyncio.sleep(0.2)
        monkeypatch.setattr(house.world.store, "record", record)
        await each.says("stay")
        await each.hears("stayed")


async def test_a_tab_that_joins_while_another_leaves_hears_what_happens(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid, read, reading = await house.awake(), asyncio.Event(), 0
    status = house.world.queries.status

    async def late(asked: SessionId) -> Session:
        nonlocal reading
        reading += 1
        await read.wait()
        return await status(asked)

    monkeypatch.setattr(house.world.queries, "status", late)
    async with page(house, uuid) as one, page(house, uuid) as two:
        await until(lambda: reading == 2)
        (tabs,) = house.gateway._companions._sessions.values()
        assert one.socket._response.connection is not None
        one.socket._response.connection.transport.abort()  # type: ignore[union-attr]
        await until(lambda: len(house.gateway._companions) == 1)
        read.set()
        await two.hears("state", phase="ready")
        assert house.gateway._companions._sessions == {uuid: tabs}
        await fall_asleep(house, uuid)
        await two.hears("state", phase="asleep")


async def test_what_delays_a_wake_is_told_by_the_same_rule_as_on_the_waiting_page(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delays, "LASTS", 0.5)
    monkeypatch.setattr(session_tabs, "_CHECK_INTERVAL", 0.05)
    house.delay = 30
    uuid = await house.awake()
    async with page(house, uuid) as each:
        await fall_asleep(house, uuid)
        await each.says("wake")
        await each.hears("progress", stage="accepted")
        late = replace(house.world.cluster.workload(uuid), blocker="FailedMount: the volume is not attached yet")
        house.world.cluster.change(late)
        begun = asyncio.get_running_loop().time()
        told = await each.hears("progress", stage="delayed")
        assert told["detail"] == "FailedMount: the volume is not attached yet"
        assert asyncio.get_running_loop().time() - begun >= 0.5
        house.world.cluster.change(replace(late, blocker=None))
        assert (await each.hears("progress", stage="delayed"))["detail"] == ""
