"""Without access: people are led to the page that signs them in, and programs are told so."""

import re
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import pytest

from service.gateway.access.home import MOST_TRIES, TRIES_COOKIE
from tests.domain.conftest import World
from tests.gateway.conftest import DOMAIN, Headers, House, answer, raw

HOME = "https://app.example.com/workspace?from=gateway"
PERSON = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}


@pytest.fixture
async def house(world: World) -> AsyncIterator[House]:
    async with House(world, home=HOME).open() as house:
        yield house


async def led(house: House, path: str, headers: Headers) -> tuple[int, str, str]:
    """Status, where it leads, and the cookie."""
    async with house.http.get(house.url(path), headers=headers, allow_redirects=False) as found:
        cookie = found.headers.get("Set-Cookie", "").partition(";")[0]
        return found.status, found.headers.get("Location", ""), cookie


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/", "/"),
        ("/a%2Fb?folder=/home/coder&x=%20", "/a%2Fb?folder=/home/coder&x=%20"),
        ("/?next=https://evil.test/", "/?next=https://evil.test/"),
        ("/a&return_to=https://evil.test", "/a&return_to=https://evil.test"),
        ("//evil.test/", "/"),
        ("/\\evil.test/", "/%5Cevil.test/"),
        (f"/{'x' * 2000}", "/"),
        ("/.user-pods/nothing", "/.user-pods/nothing"),
    ],
)
async def test_a_person_is_led_to_sign_in_and_the_page_asked_for_comes_along(
    house: House, path: str, asked: str
) -> None:
    uuid = await house.session()
    said = await raw(house, f"GET {path}", {"Host": house.host(uuid), "Connection": "close", **PERSON})
    head = dict(line.split(": ", 1) for line in said.decode().partition("\r\n\r\n")[0].split("\r\n")[1:])
    assert said.startswith(b"HTTP/1.1 302 ")
    location = urlsplit(head["Location"])
    assert location._replace(query="").geturl() == HOME.partition("?")[0]
    assert parse_qs(location.query) == {"from": ["gateway"], "return_to": [f"https://{house.host(uuid)}{asked}"]}
    assert (head["Cache-Control"], head["Referrer-Policy"]) == ("no-store", "no-referrer")


async def test_the_session_named_is_that_of_the_host_however_it_is_spelt(house: House) -> None:
    uuid = await house.session()
    _, location, _ = await led(house, "/", {"Host": f"VS-CODE-{uuid}.{DOMAIN.upper()}:99", **PERSON})
    assert parse_qs(urlsplit(location).query)["return_to"] == [f"https://{house.host(uuid)}/"]


async def test_a_session_that_nobody_has_looks_like_any_other(house: House) -> None:
    uuid = await house.awake()
    there = await led(house, "/x", {"Host": house.host(uuid), **PERSON})
    nowhere = await led(house, "/x", {"Host": house.host("00000000"), **PERSON})
    assert there[1].replace(uuid, "00000000") == nowhere[1]
    assert (there[0], there[2]) == (nowhere[0], nowhere[2])


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {}),
        ("GET", {"Sec-Fetch-Mode": "cors", "Accept": "text/html"}),
        ("GET", {**PERSON, "Sec-Fetch-Dest": "iframe"}),
        ("GET", {**PERSON, "Sec-Purpose": "prefetch"}),
        ("HEAD", PERSON),
        ("POST", PERSON),
        ("GET", {**PERSON, "Connection": "Upgrade", "Upgrade": "websocket"}),
    ],
)
async def test_programs_and_forms_are_not_led_anywhere(house: House, method: str, headers: Headers) -> None:
    uuid = await house.session()
    status, body = await answer(house, "/", {"Host": house.host(uuid), **headers}, method)
    assert status == 401
    is_person = headers.get("Sec-Fetch-Dest") == "document" and "Upgrade" not in headers and method != "HEAD"
    assert (b"Sign in</a>" in body) == is_person


async def test_a_used_link_leads_to_a_new_one(house: House) -> None:
    uuid = await house.awake()
    link = urlsplit((await house.access.issue_link(uuid, "/a?b=c")).url)
    path, headers = f"{link.path}?{link.query}", {"Host": house.host(uuid), **PERSON}
    assert (await led(house, path, headers))[:2] == (303, "/a?b=c")
    status, location, _ = await led(house, path, headers)
    assert status == 302
    assert parse_qs(urlsplit(location).query)["return_to"] == [f"https://{house.host(uuid)}/a?b=c"]
    assert "ticket" not in location
    assert (await answer(house, path, {"Host": house.host(uuid)}))[0] == 403


async def test_a_browser_that_comes_back_without_access_again_and_again_gets_a_page(house: House) -> None:
    uuid = await house.session()
    headers = {"Host": house.host(uuid), **PERSON}
    for tries in range(1, MOST_TRIES + 1):
        status, _, cookie = await led(house, "/", headers)
        assert (status, cookie) == (302, f"{TRIES_COOKIE}={tries}")
        headers["Cookie"] = f"other=1; {cookie}"
    status, body = await answer(house, "/", headers)
    assert status == 401
    assert b"Signing in did not work" in body
    assert f'href="{HOME}&amp;return_to=https%3A%2F%2F{house.host(uuid)}%2F"'.encode() in body


@pytest.mark.parametrize("tries", ["", "-1", "x", "99999", "1e9", "\udcff"])
async def test_a_count_of_any_bytes_leads_to_sign_in_or_to_the_page(house: House, tries: str) -> None:
    uuid = await house.session()
    cookie = {"Cookie": f"{TRIES_COOKIE}={tries}", "Connection": "close"}
    said = await raw(house, "GET /", {"Host": house.host(uuid), **PERSON, **cookie})
    assert said.partition(b" ")[2][:4] in (b"302 ", b"401 ")


async def test_the_count_never_reaches_a_pod_nor_comes_from_one(house: House) -> None:
    uuid = await house.awake()
    person = await house.person(uuid)
    person["Cookie"] += f"; {TRIES_COOKIE}=2; own=1"
    assert (await answer(house, "/echo", person))[0] == 200
    assert house.workspaces[uuid].requests[-1][2]["Cookie"] == ["own=1"]


async def test_other_pages_link_to_the_start_page(house: House) -> None:
    uuid = await house.awake()
    person = await house.person(uuid)
    for headers, path in ((person, "/.user-pods/nothing"), ({"Host": "elsewhere.test", **PERSON}, "/")):
        status, body = await answer(house, path, headers)
        assert status == 404
        assert f' href="{HOME}">Go to your start page</a>'.encode() in body


async def test_the_domain_itself_leads_to_the_start_page(house: House) -> None:
    assert (await led(house, "/", {"Host": f"{DOMAIN.upper()}:443", **PERSON}))[:2] == (302, HOME)
    assert (await answer(house, "/", {"Host": DOMAIN}))[0] == 404


async def test_without_a_home_pages_link_nowhere_else_and_say_whom_to_ask(world: World) -> None:
    async with House(world).open() as house:
        uuid = await house.session()
        status, body = await answer(house, "/", {"Host": house.host(uuid), **PERSON})
        assert status == 401
        assert re.findall(rb'<a [^>]*href="([^"]*)"', body) == [b""], "to try again"
        assert b"from the page that led you here" in body
        assert b"user-pods open" in body
        assert b"ask your operator" in body
