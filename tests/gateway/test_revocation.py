"""What is open when access ends is closed; signing out ends it for one browser."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import ClientError, ClientResponse, WSMsgType

from service.domain.errors import RedisUnavailable
from service.gateway.access.cookie_header import COOKIE
from tests.domain.conftest import World
from tests.gateway.conftest import Headers, House, answer
from tests.waiting import until


async def revoke(house: House) -> None:
    (uuid,) = house.workspaces
    await house.world.revocation.revoke(uuid, by="api")


async def test_open_websockets_close_and_say_why(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid)
    async with house.http.ws_connect(house.url("/ws"), headers=headers) as socket:
        await socket.send_str("hello")
        assert (await socket.receive()).data == "hello"
        await revoke(house)
        async with asyncio.timeout(3):
            assert (await socket.receive()).type is WSMsgType.CLOSE
        assert socket.close_code == 1008
    assert (await answer(house, "/echo", headers))[0] == 401
    await until(lambda: house.workspaces[uuid].sockets[0].closed)


async def rest(response: ClientResponse) -> None:
    async with asyncio.timeout(3):
        while await response.content.readany():
            pass


async def test_downloads_and_event_streams_break_off(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid)
    for path in ("/flood", "/drip"):
        async with house.http.get(house.url(path), headers=headers) as found:
            await found.content.readany()
            await house.world.revocation.revoke(uuid, by="api")
            with pytest.raises(ClientError):
                await rest(found)
        async with asyncio.timeout(3):
            await house.workspaces[uuid].interrupted.wait()
        house.workspaces[uuid].interrupted.clear()
        headers = await house.headers(uuid)


async def test_an_upload_breaks_off(house: House) -> None:
    uuid = await house.awake()
    headers, sent = await house.headers(uuid), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"x"
        sent.set()
        await asyncio.sleep(30)

    upload = asyncio.create_task(answer(house, "/echo", headers, "POST", data=body()))
    await sent.wait()
    await until(lambda: bool(house.workspaces[uuid].requests))
    await revoke(house)
    with pytest.raises(ClientError):
        await upload


async def test_a_request_that_waits_for_its_pod_ends_too(world: World) -> None:
    async with House(world, delay=30).open() as house:
        uuid = await house.session()
        waiting = asyncio.create_task(answer(house, "/echo", await house.headers(uuid)))
        await until(lambda: house.gateway.traffic.held == 1)
        await world.revocation.revoke(uuid, by="api")
        assert (await waiting)[0] == 401  # the client has tried again
        await until(lambda: house.gateway.traffic.held == 0)


async def test_those_who_signed_in_afterwards_and_other_users_notice_nothing(house: House) -> None:
    ann, bob = await house.awake("ann"), await house.awake("bob")
    async with house.http.ws_connect(house.url("/ws"), headers=await house.headers(bob)) as bobs:
        await house.world.revocation.revoke(ann, by="api")
        async with house.http.ws_connect(house.url("/ws"), headers=await house.headers(ann)) as anns:
            # The cluster changes for other reasons.
            house.world.cluster.change(replace(house.world.cluster.workload(ann), last_active=datetime.now(UTC)))
            for socket in (bobs, anns):
                await socket.send_str("hello")
                assert (await socket.receive()).data == "hello"


async def test_a_replica_that_learns_late_ends_what_it_has_let_in(house: House) -> None:
    uuid = await house.awake()
    async with house.http.ws_connect(house.url("/ws"), headers=await house.headers(uuid)) as socket:
        later = datetime.now(UTC) + timedelta(seconds=2)
        house.world.cluster.change(replace(house.world.cluster.workload(uuid), revoked_at=later))
        assert (await socket.receive()).type is WSMsgType.CLOSE


async def test_nothing_is_remembered_of_requests_that_have_ended(house: House) -> None:
    uuid = await house.awake()
    assert (await answer(house, "/echo", await house.headers(uuid)))[0] == 200
    assert house.gateway._open._open == {}


# --- signing out ---


def form(headers: Headers, **more: str) -> Headers:
    """Of a browser that submits a form of the gateway's own page, which has no referrer."""
    return {**headers, "Accept": "text/html", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document",
            "Sec-Fetch-Site": "same-origin", "Origin": "null", **more}  # fmt: skip


async def test_signing_out_removes_the_cookie_and_ends_what_this_browser_has_open(world: World) -> None:
    async with House(world, home="https://app.example.com/").open() as house:
        uuid = await house.awake()
        headers = await house.headers(uuid)
        async with (
            house.http.ws_connect(house.url("/ws"), headers=headers) as socket,
            house.http.post(house.url("/.user-pods/sign-out"), headers=form(headers)) as found,
        ):
            page = await found.text()
            assert found.status == 200
            cookie, *attributes = found.headers["Set-Cookie"].split("; ")
            assert cookie == f"{COOKIE}="
            assert {"Path=/", "Max-Age=0", "Secure"} <= set(attributes)
            assert (await socket.receive()).type is WSMsgType.CLOSE
        assert "You are signed out" in page
        assert f' href="https://app.example.com/?return_to=https%3A%2F%2F{house.host(uuid)}%2F">' in page
        assert not [path for _, path, _ in house.workspaces[uuid].requests if "sign-out" in path]


async def test_signing_out_ends_what_this_browser_has_open_at_every_replica_and_no_others(world: World) -> None:
    first, second = House(world), House(world)
    second.access, second.sign_outs = first.access, first.sign_outs
    async with first.open(), second.open():
        uuid = await first.awake()
        headers = await first.headers(uuid)
        await asyncio.sleep(1.01)  # sign-ins have whole seconds
        other_browser = await first.headers(uuid)
        async with (
            second.http.ws_connect(second.url("/ws"), headers=headers) as mine,
            second.http.ws_connect(second.url("/ws"), headers=other_browser) as other,
        ):
            assert (await answer(first, "/.user-pods/sign-out", headers, "POST"))[0] == 204
            async with asyncio.timeout(3):
                assert (await mine.receive()).type is WSMsgType.CLOSE
            assert mine.close_code == 1008
            await other.send_str("hello")
            assert (await other.receive()).data == "hello"
        assert (await answer(second, "/echo", other_browser))[0] == 200


async def test_signing_out_works_while_redis_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise RedisUnavailable

    monkeypatch.setattr(house.sign_outs, "publish", away)
    headers = await house.headers(await house.awake())
    async with house.http.ws_connect(house.url("/ws"), headers=headers) as socket:
        assert (await answer(house, "/.user-pods/sign-out", headers, "POST"))[0] == 204
        assert (await socket.receive()).type is WSMsgType.CLOSE


async def test_signing_out_needs_no_sign_in(house: House) -> None:
    uuid = await house.session()
    status, body = await answer(house, "/.user-pods/sign-out", form({"Host": house.host(uuid)}), "POST")
    assert status == 200
    assert b"<a " not in body
    assert (await answer(house, "/.user-pods/sign-out", {"Host": house.host(uuid)}, "POST"))[0] == 204


async def test_a_link_to_it_shows_a_button_and_signs_nobody_out(house: House) -> None:
    person = await house.person(await house.awake())
    async with house.http.get(house.url("/.user-pods/sign-out"), headers=person) as found:
        assert found.status == 200
        assert "Set-Cookie" not in found.headers
        assert ">Sign out</button></form>" in await found.text()


@pytest.mark.parametrize("more", [{"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.test"}])
async def test_another_hosts_page_signs_nobody_out(house: House, more: Headers) -> None:
    headers = form(await house.headers(await house.awake()), **more)
    async with house.http.post(house.url("/.user-pods/sign-out"), headers=headers) as found:
        assert found.status == 403
        assert "Set-Cookie" not in found.headers


@pytest.mark.parametrize("method", ["PUT", "DELETE", "GET"])
async def test_programs_sign_out_by_post(house: House, method: str) -> None:
    headers = await house.headers(await house.awake())
    assert (await answer(house, "/.user-pods/sign-out", headers, method))[0] == 405
