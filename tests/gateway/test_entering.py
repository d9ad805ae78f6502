"""Who may enter a workspace, and what nobody can reach through its host."""

import asyncio
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from service.domain.entrance import Entrance
from service.domain.names import SessionId
from service.gateway.gateway import Terms
from service.gateway.headers import COOKIE
from service.gateway.hosts import Hosts
from tests.domain.conftest import World
from tests.gateway.conftest import DOMAIN, House, answer

UUID = SessionId("abc123xy")


async def enter(house: House, url: str) -> tuple[int, dict[str, str]]:
    parts = urlsplit(url)
    async with house.http.get(
        house.url(f"{parts.path}?{parts.query}"), headers={"Host": parts.netloc}, allow_redirects=False
    ) as found:
        return found.status, dict(found.headers)


async def test_a_ticket_lets_its_bearer_in_once_and_to_where_it_says(house: House) -> None:
    uuid = await house.awake()
    invitation = await house.entrance.invite(uuid, "/?folder=/home/coder")
    status, headers = await enter(house, invitation.url)
    assert (status, headers["Location"]) == (303, "/?folder=/home/coder")
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert cookie.startswith(f"{COOKIE}=")
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert (await answer(house, "/echo", {"Host": house.host(uuid), "Cookie": cookie}))[0] == 200
    assert (await enter(house, invitation.url))[0] == 403
    assert not house.workspaces[uuid].requests[:-1]


@pytest.mark.parametrize(
    "target", ["//evil.test", "https://evil.test/", "/\\evil.test", "evil", "/a\r\nX: y", "/\t/evil"]
)
async def test_a_ticket_leads_nowhere_else(house: House, target: str) -> None:
    uuid = await house.awake()
    status, headers = await enter(house, (await house.entrance.invite(uuid, target)).url)
    assert (status, headers["Location"]) == (303, "/")


async def test_a_ticket_of_one_session_opens_no_other_and_is_used_up(house: House) -> None:
    ann, bob = await house.awake("ann"), await house.awake("bob")
    url = (await house.entrance.invite(ann)).url
    assert (await enter(house, url.replace(ann, bob)))[0] == 403
    assert (await enter(house, url))[0] == 403


async def test_a_ticket_grows_too_old(house: House) -> None:
    uuid = await house.awake()
    house.entrance._ticket = timedelta(seconds=-1)
    assert (await enter(house, (await house.entrance.invite(uuid)).url))[0] == 403


async def test_a_pass_of_one_session_opens_no_other(house: House) -> None:
    ann, bob = await house.awake("ann"), await house.awake("bob")
    headers = await house.headers(ann)
    assert (await answer(house, "/echo", headers | {"Host": house.host(bob)}))[0] == 401
    assert (await answer(house, "/echo", {"Host": house.host(ann)}))[0] == 401
    twice = f"{headers['Cookie']}; {(await house.headers(bob))['Cookie']}"
    assert (await answer(house, "/echo", headers | {"Cookie": twice}))[0] == 401


async def test_a_forged_or_stale_pass_is_none(world: World) -> None:
    now = 1_000_000.0
    entrance = Entrance(House(world).tickets, origin=str, now=lambda: now)
    ticket = parse_qs(urlsplit((await entrance.invite(UUID)).url).query)["ticket"][0]
    given = await entrance.redeem(ticket, UUID)
    assert given is not None
    until, _, seal = given.partition(".")
    assert await entrance.admits(given, UUID)
    for forged in (
        f"{int(until) + 1}.{seal}",
        f"{until}.{seal[:-1]}",
        f"{until}.",
        ".",
        "",
        "x.y",
        f"{until}.ü",
        "9" * 40,
    ):
        assert not await entrance.admits(forged, UUID)
    now += entrance.stay.total_seconds()
    assert not await entrance.admits(given, UUID)


async def test_every_replica_knows_the_passes_of_the_others(world: World) -> None:
    tickets = House(world).tickets
    first, second = Entrance(tickets, origin=str), Entrance(tickets, origin=str)
    assert not await second.admits("9999999999.x", UUID)
    ticket = parse_qs(urlsplit((await first.invite(UUID)).url).query)["ticket"][0]
    given = await second.redeem(ticket, UUID)
    assert given is not None
    assert await first.admits(given, UUID)


async def test_without_the_lock_everybody_gets_in(world: World) -> None:
    async with House(world, Terms(closed=False)).open() as house:
        uuid = await house.awake()
        assert (await answer(house, "/echo", {"Host": house.host(uuid)}))[0] == 200


@pytest.mark.parametrize(
    ("method", "more", "status"),
    [
        ("GET", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ("POST", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403),
        ("POST", {"Origin": "https://vs-code-00000000.pods.test"}, 403),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ("POST", {"Origin": "null"}, 403),
        ("POST", {"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 200),
        ("POST", {"Origin": "null", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate"}, 200),
        ("POST", {"Origin": "null", "Sec-Fetch-Site": "none"}, 403),
        ("POST", {"Origin": "null", "Sec-Fetch-Site": "same-site"}, 403),
        ("POST", {"Origin": "null", "Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {"Origin": "https://vs-code-{uuid}.pods.test"}, 200),
        ("POST", {"Origin": "https://vs-code-{uuid}.pods.test:443"}, 200),
        ("POST", {"Origin": "https://vs-code-{uuid}.pods.test.evil.test"}, 403),
        ("POST", {}, 200),
    ],
)
async def test_pages_of_other_hosts_may_only_lead_here(
    house: House, method: str, more: dict[str, str], status: int
) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid) | {name: value.format(uuid=uuid) for name, value in more.items()}
    assert (await answer(house, "/echo", headers, method))[0] == status
    assert len(house.workspaces[uuid].requests) == (status == 200)


@pytest.mark.parametrize(
    ("host", "session"),
    [
        (f"vs-code-abc123xy.{DOMAIN}", UUID),
        (f"VS-Code-ABC123xy.{DOMAIN.upper()}:8081", UUID),
        (f"vs-code-abc123xy.{DOMAIN}.", UUID),
        (f"vs-code-abc123xy.{DOMAIN}.evil.test", None),
        (f"evil.vs-code-abc123xy.{DOMAIN}", None),
        (f"vs-code-abc123xy.{DOMAIN}@evil.test", None),
        (f"vs-code-abc123xy.{DOMAIN}:80:80", None),
        (f"vs-code-abc123xy/.{DOMAIN}", None),
        (f"vs-code-abc123xyz.{DOMAIN}", None),
        ("127.0.0.1", None),
        ("169.254.169.254", None),
        ("", None),
    ],
)
def test_a_host_names_one_session_or_none(host: str, session: SessionId | None) -> None:
    assert Hosts(DOMAIN).session(host) == session


SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "GET http://{host}/echo HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n",
        "GET http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n",
        "CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n",
        "GET /echo HTTP/1.1\r\nHost: {host}\r\nHost: {other}\r\n{cookie}\r\n",
        "GET /echo HTTP/1.1\r\n{cookie}\r\n",
        "GET @127.0.0.1/ HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n",
        "POST /echo HTTP/1.1\r\nHost: {host}\r\n{cookie}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0"
        "\r\n\r\n" + SMUGGLED,
        "POST /echo HTTP/1.1\r\nHost: {host}\r\n{cookie}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd" + SMUGGLED,
        "POST /echo HTTP/1.1\r\nHost: {host}\r\n{cookie}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        "POST /echo HTTP/1.1\r\nHost: {host}\r\n{cookie}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        "POST /echo HTTP/1.1\r\nHost: {host}\r\n{cookie}Content-Length: +4\r\n\r\nabcd" + SMUGGLED,
        "GET /echo HTTP/1.1\r\nHost: {host}\r\n{cookie}X: a\r\n b\r\n\r\n",
        "GET /echo HTTP/1.1\nHost: {host}\n{cookie}X: a\x00b\n\n",
    ],
)
async def test_what_could_be_read_in_two_ways_reaches_no_pod(house: House, text: str) -> None:
    uuid, other = await house.awake(), await house.awake("bob")
    cookie = f"Cookie: {(await house.headers(uuid))['Cookie']}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
    told = text.format(host=house.host(uuid), other=house.host(other), port=house.workspaces[other].port, cookie=cookie)
    writer.write(told.encode("latin-1"))
    async with asyncio.timeout(5):
        answered = await reader.readexactly(12)
        await asyncio.sleep(0.1)  # for whatever follows
    writer.close()
    assert answered.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.0 400"))
    assert not house.workspaces[uuid].requests
    assert not house.workspaces[other].requests
