"""Who may open a workspace, and what cannot be reached through its host."""

import asyncio
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest

from service.domain.access import WorkspaceAccess
from service.domain.errors import ClusterUnavailable, RedisUnavailable
from service.domain.keyring import Keyring
from service.domain.names import SessionId
from service.domain.signing_key import StoredKeys
from service.gateway.access.cookie_header import COOKIE
from service.gateway.access.hosts import Hosts
from service.gateway.limits import GatewayLimits
from tests.domain.conftest import World
from tests.fakes import MemorySigningKeys
from tests.gateway.conftest import DOMAIN, House, answer, raw

UUID = SessionId("abc123xy")


async def enter(house: House, url: str) -> tuple[int, dict[str, str]]:
    parts = urlsplit(url)
    async with house.http.get(
        house.url(f"{parts.path}?{parts.query}"), headers={"Host": parts.netloc}, allow_redirects=False
    ) as found:
        return found.status, dict(found.headers)


async def test_a_ticket_admits_its_bearer_once_and_leads_to_its_target(house: House) -> None:
    uuid = await house.awake()
    invitation = await house.access.issue_link(uuid, "/?folder=/home/coder")
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
async def test_a_ticket_does_not_redirect_to_another_host(house: House, target: str) -> None:
    uuid = await house.awake()
    status, headers = await enter(house, (await house.access.issue_link(uuid, target)).url)
    assert (status, headers["Location"]) == (303, "/")


async def test_a_ticket_of_another_session_is_refused_and_used_up(house: House) -> None:
    ann, bob = await house.awake("ann"), await house.awake("bob")
    url = (await house.access.issue_link(ann)).url
    assert (await enter(house, url.replace(ann, bob)))[0] == 403
    assert (await enter(house, url))[0] == 403


async def test_an_expired_ticket_is_refused(house: House) -> None:
    uuid = await house.awake()
    house.access._ticket = timedelta(seconds=-1)
    assert (await enter(house, (await house.access.issue_link(uuid)).url))[0] == 403


async def test_a_cookie_of_one_session_opens_no_other(house: House) -> None:
    ann, bob = await house.awake("ann"), await house.awake("bob")
    headers = await house.headers(ann)
    assert (await answer(house, "/echo", headers | {"Host": house.host(bob)}))[0] == 401
    assert (await answer(house, "/echo", {"Host": house.host(ann)}))[0] == 401
    twice = f"{headers['Cookie']}; {(await house.headers(bob))['Cookie']}"
    assert (await answer(house, "/echo", headers | {"Cookie": twice}))[0] == 401


async def test_a_forged_or_expired_cookie_is_refused(world: World) -> None:
    now = 1_000_000.0
    house = House(world)
    access = WorkspaceAccess(house.tickets, house.keyring, world.cluster, origin=str, now=lambda: now)
    ticket = parse_qs(urlsplit((await access.issue_link(UUID)).url).query)["ticket"][0]
    given = await access.redeem(ticket, UUID)
    assert given is not None
    until, _, seal = given.partition(".")
    assert await access.check_cookie(given, UUID)
    for forged in (
        f"{int(until) + 1}.{seal}",
        f"{until}.{seal[:-1]}",
        f"{until}.",
        ".",
        "",
        "x.y",
        f"{until}.ü",
        f"{until}.\udcfc",
        f"{given}\udce9",
        f"{given}\n",
        given.replace(".", ".0", 1),
        "9" * 40,
    ):
        assert not await access.check_cookie(forged, UUID)
    now += access.stay.total_seconds()
    assert not await access.check_cookie(given, UUID)


async def test_every_replica_accepts_the_cookies_of_the_others(world: World) -> None:
    tickets, keys = House(world).tickets, MemorySigningKeys()
    first, second = (WorkspaceAccess(tickets, Keyring(keys), world.cluster, origin=str) for _ in range(2))
    assert not await second.check_cookie("9999999999.x", UUID)
    ticket = parse_qs(urlsplit((await first.issue_link(UUID)).url).query)["ticket"][0]
    given = await second.redeem(ticket, UUID)
    assert given is not None
    assert await first.check_cookie(given, UUID)


CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
NAVIGATION = {
    "User-Agent": CHROME,
    "Accept": "text/html",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "cross-site",
}


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("HEAD", NAVIGATION, 200),
        ("GET", NAVIGATION | {"Sec-Purpose": "prefetch"}, 503),
        ("GET", NAVIGATION | {"Sec-Purpose": "prefetch;prerender"}, 503),
        ("GET", NAVIGATION | {"Purpose": "prefetch"}, 503),
        ("GET", NAVIGATION | {"X-Purpose": "preview"}, 503),
        ("GET", NAVIGATION | {"X-Moz": "prefetch"}, 503),
        ("GET", NAVIGATION | {"Sec-Fetch-Dest": "iframe"}, 200),
        ("GET", {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 200),
        ("GET", {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 200),
        ("GET", {"User-Agent": CHROME, "Accept": "text/html"}, 200),
        ("GET", {"User-Agent": "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)"}, 200),
        ("GET", {"User-Agent": "Mozilla/5.0 (Windows NT 6.1; WOW64) SkypeUriPreview Preview/0.5"}, 200),
        ("GET", {"User-Agent": "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"}, 200),
        ("GET", {"User-Agent": "facebookexternalhit/1.1"}, 200),
        ("GET", {"User-Agent": "WhatsApp/2.23.20.0"}, 200),
        ("GET", {"User-Agent": "TelegramBot (like TwitterBot)"}, 200),
        ("GET", {"User-Agent": "LinkedInBot/1.0"}, 200),
        ("GET", {"User-Agent": "Synapse (bot; +https://github.com/matrix-org/synapse)"}, 200),
        ("GET", {"User-Agent": "previewer", "Range": "bytes=0-32768"}, 200),
    ],
)
async def test_previewing_a_link_does_not_use_up_its_ticket(
    house: House, method: str, headers: dict[str, str], status: int
) -> None:
    uuid = await house.awake()
    parts = urlsplit((await house.access.issue_link(uuid, "/?a=b")).url)
    url = house.url(f"{parts.path}?{parts.query}")
    async with house.http.request(method, url, headers={"Host": parts.netloc, **headers}) as looked:
        assert looked.status == status
        assert "Set-Cookie" not in looked.headers
        assert looked.headers["Referrer-Policy"] == "no-referrer"
        assert looked.headers["Cache-Control"] == "no-store"
        text = await looked.text()
    assert ("Open workspace" in text) == (method == "GET" and status == 200)
    async with house.http.get(url, headers={"Host": parts.netloc, **NAVIGATION}, allow_redirects=False) as opened:
        assert (opened.status, opened.headers["Location"]) == (303, "/?a=b")
        assert COOKIE in opened.headers["Set-Cookie"]
    assert not house.workspaces[uuid].requests


async def test_the_page_of_a_link_opens_it_by_post(house: House) -> None:
    uuid = await house.awake()
    parts = urlsplit((await house.access.issue_link(uuid, "/x")).url)
    url, host = house.url(f"{parts.path}?{parts.query}"), {"Host": parts.netloc}
    async with house.http.get(url, headers={**host, "User-Agent": CHROME}) as looked:
        policy, page = looked.headers["Content-Security-Policy"], await looked.text()
    # The form goes to the address of the page itself, with the ticket that is in it.
    assert '<form method="post"' in page
    assert parse_qs(parts.query)["ticket"][0] not in page
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert f'<script nonce="{nonce}">' in page
    # Without a referrer the browser says that the form comes from nowhere.
    sent = {**host, **NAVIGATION, "Origin": "null", "Sec-Fetch-Site": "same-origin"}
    async with house.http.post(url, headers=sent, data=b"", allow_redirects=False) as opened:
        assert (opened.status, opened.headers["Location"]) == (303, "/x")
        assert COOKIE in opened.headers["Set-Cookie"]
    assert (await answer(house, f"{parts.path}?{parts.query}", host, "PUT"))[0] == 405


async def test_a_used_link_redirects_a_visitor_who_is_already_admitted(house: House) -> None:
    uuid, other = await house.awake(), await house.awake("bob")
    parts = urlsplit((await house.access.issue_link(uuid, "/?folder=/home")).url)
    path, host = f"{parts.path}?{parts.query}", {"Host": parts.netloc, **NAVIGATION}
    async with house.http.get(house.url(path), headers=host, allow_redirects=False) as first:
        cookie = first.headers["Set-Cookie"].split(";")[0]
    async with house.http.get(house.url(path), headers={**host, "Cookie": cookie}, allow_redirects=False) as again:
        assert (again.status, again.headers["Location"]) == (303, "/?folder=/home")
        assert "Set-Cookie" not in again.headers
    assert (await answer(house, path, host))[0] == 403
    assert (await answer(house, path, {**host, "Cookie": (await house.headers(other))["Cookie"]}))[0] == 403


async def test_without_redis_a_link_redirects_a_visitor_who_is_already_admitted(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> bool:
        raise RedisUnavailable

    uuid = await house.awake()
    parts, given = urlsplit((await house.access.issue_link(uuid)).url), await house.person(uuid)
    monkeypatch.setattr(house.tickets, "take", away)
    path = f"{parts.path}?{parts.query}"
    assert (await answer(house, path, given))[0] == 303
    assert (await answer(house, path, {"Host": parts.netloc}))[0] == 503


async def test_without_signing_keys_the_gateway_does_not_call_visitors_unauthorised(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> StoredKeys:
        raise ClusterUnavailable

    uuid = await house.awake()
    given = await house.person(uuid)
    house.access = house.gateway._access._access = WorkspaceAccess(
        house.tickets, Keyring(house.signing_keys), house.world.cluster, origin=str
    )
    with monkeypatch.context() as patched:
        patched.setattr(house.signing_keys, "read", away)
        status, page = await answer(house, "/echo", given)
        assert status == 503
        assert b"Try again in a moment" in page
        assert (await answer(house, "/.user-pods/enter?ticket=x", given))[0] == 503
    house.access._keyring._read_at = float("-inf")  # a second has passed
    assert (await answer(house, "/echo", given))[0] == 200


@pytest.mark.parametrize(
    "value", ["\udcff\udcfe", "1.2.00000000.\udce9", "ü", "9999999999.1.00000000." + "\udcc3" * 43, "="]
)
async def test_a_cookie_of_arbitrary_bytes_is_refused(house: House, value: str) -> None:
    uuid = await house.awake()
    said = await raw(
        house, "GET /echo", {"Host": house.host(uuid), "Cookie": f"{COOKIE}={value}", "Connection": "close"}
    )
    assert said.partition(b" ")[2].startswith(b"401 ")


@pytest.mark.parametrize(
    "query",
    ["", "ticket=", "ticket=%FF%FE", "ticket=%ED%A0%80", "ticket=%C3%A9", "ticket=%00", "ticket=%",
     "ticket=x&to=%ED%A0%80", "ticket=x&to=%FF", "ticket=x&ticket=y", "to=/"],
)  # fmt: skip
async def test_a_ticket_of_arbitrary_bytes_is_refused(house: House, query: str) -> None:
    uuid = await house.awake()
    said = await raw(house, f"GET /.user-pods/enter?{query}", {"Host": house.host(uuid), "Connection": "close"})
    assert said.partition(b" ")[2].startswith(b"403 ")


@pytest.mark.parametrize("to", ["%FF", "%ED%A0%80", "%C3%A9", "/%0D%0AX:y", "%"])
async def test_a_target_of_arbitrary_bytes_leads_to_the_workspace(house: House, to: str) -> None:
    uuid = await house.awake()
    ticket = parse_qs(urlsplit((await house.access.issue_link(uuid)).url).query)["ticket"][0]
    head = f"GET /.user-pods/enter?ticket={ticket}&to={to}"
    said = await raw(house, head, {"Host": house.host(uuid), "Connection": "close"})
    assert said.partition(b" ")[2].startswith(b"303 ")
    assert b"\r\nLocation: /\r\n" in said


async def test_with_access_control_off_everybody_is_admitted(world: World) -> None:
    async with House(world, GatewayLimits(closed=False)).open() as house:
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
async def test_pages_of_other_hosts_may_only_navigate_here(
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
def test_a_host_name_belongs_to_at_most_one_session(host: str, session: SessionId | None) -> None:
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
async def test_ambiguous_requests_reach_no_pod(house: House, text: str) -> None:
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
