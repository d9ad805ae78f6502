"""A session cookie is renewed while it is used, unless a cache could pass it to another user."""

from datetime import timedelta

import pytest
from aiohttp import WSMsgType, web

from service.gateway.access.cookie_header import COOKIE
from tests.gateway.conftest import Headers, House, answer


@pytest.fixture
async def half(house: House) -> Headers:
    """Of a program with a cookie whose half is over."""
    uuid = await house.awake()
    headers = await house.headers(uuid)
    house.access.stay *= 3
    return headers


def cookies(found: object) -> list[str]:
    return [each for each in found.headers.getall("Set-Cookie", []) if each.startswith(COOKIE)]  # type: ignore[attr-defined]


async def test_a_response_renews_an_ageing_cookie(house: House, half: Headers) -> None:
    async with house.http.get(house.url("/echo"), headers=half) as found:
        (cookie,) = cookies(found)
        assert found.headers["Cache-Control"] == "private"
    value, *attributes = cookie.split("; ")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
    age = int(next(each for each in attributes if each.startswith("Max-Age=")).partition("=")[2])
    assert abs(age - house.access.stay.total_seconds()) < 60
    async with house.http.get(house.url("/echo"), headers=half | {"Cookie": value}) as found:
        assert (found.status, cookies(found)) == (200, [])
        assert "Cache-Control" not in found.headers


async def test_a_fresh_cookie_is_left_as_it_is(house: House) -> None:
    uuid = await house.awake()
    async with house.http.get(house.url("/echo"), headers=await house.headers(uuid)) as found:
        assert (found.status, cookies(found)) == (200, [])


async def test_a_handshake_renews_a_cookie_too(house: House, half: Headers) -> None:
    async with house.http.ws_connect(house.url("/ws"), headers=half) as socket:
        assert len(cookies(socket._response)) == 1
        await socket.send_str("hello")
        assert (await socket.receive()).type is WSMsgType.TEXT


async def test_a_pod_never_sees_the_new_cookie_and_keeps_its_own(house: House, half: Headers) -> None:
    async with house.http.get(house.url("/cookies"), headers=half) as found:
        given = found.headers.getall("Set-Cookie")
    assert [each.partition("=")[0] for each in given] == ["own", "wide", COOKIE]
    assert "forged" not in given[-1]
    (workspace,) = house.workspaces.values()
    assert COOKIE not in str(workspace.requests)


@pytest.mark.parametrize(
    ("status", "headers", "control"),
    [
        (200, {}, "private"),
        (404, {}, "private"),
        (200, {"Cache-Control": "no-store"}, "no-store"),
        (200, {"Cache-Control": "private, max-age=60"}, "private, max-age=60"),
        (200, {"Cache-Control": "no-cache"}, "no-cache, private"),
        (200, {"Cache-Control": "max-age=0, must-revalidate"}, "max-age=0, must-revalidate, private"),
        (200, {"Expires": "Thu, 01 Jan 2099 00:00:00 GMT"}, "private"),
        (304, {}, None),
        (200, {"Cache-Control": "public, max-age=0"}, None),
        (200, {"Cache-Control": "max-age=31536000, immutable"}, None),
        (200, {"Cache-Control": "Public"}, None),
        (200, {"Cache-Control": "s-maxage=0"}, None),
        (200, {"Cache-Control": 'private="x", max-age=9'}, None),
        (200, {"Cache-Control": "no-cache", "CDN-Cache-Control": "max-age=9"}, None),
        (200, {"Surrogate-Control": "max-age=9"}, None),
    ],
)
async def test_a_response_with_a_new_cookie_is_not_cacheable(
    house: House, half: Headers, status: int, headers: Headers, control: str | None
) -> None:
    (workspace,) = house.workspaces.values()

    async def said(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=status, headers=headers)

    workspace._echo = said  # type: ignore[assignment,method-assign]
    async with house.http.get(house.url("/echo"), headers=half) as found:
        assert len(cookies(found)) == (control is not None)
        if control is not None:
            assert ", ".join(found.headers.getall("Cache-Control")) == control


async def test_a_refused_request_gets_no_new_cookie(house: House, half: Headers) -> None:
    async with house.http.get(house.url("/echo"), headers=half | {"Origin": "https://evil.test"}) as found:
        assert (found.status, cookies(found)) == (403, [])


async def test_the_seal_of_a_known_cookie_is_not_checked_again(
    house: House, half: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.access.stay = timedelta(hours=12)
    assert (await answer(house, "/echo", half))[0] == 200

    async def check_cookie(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(house.access, "check_cookie", check_cookie)
    assert (await answer(house, "/echo", half))[0] == 200
