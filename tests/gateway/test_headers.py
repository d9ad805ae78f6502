"""What of a request's headers a pod sees, and what of a pod's a browser sees."""

import time
from dataclasses import replace
from ipaddress import ip_network
from unittest.mock import Mock

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict, CIMultiDictProxy

from service.gateway.access.cookie_header import COOKIE
from service.gateway.access.hosts import Hosts
from service.gateway.proxy import cookies
from service.gateway.proxy.cookies import Cookies
from service.gateway.proxy.headers import Forwarding, to_browser
from tests.domain.conftest import World
from tests.gateway.conftest import DOMAIN, House, Workspace, answer, scripted

PROXYS = (
    "Forwarded", "X-Forwarded", "X-Forwarded-By", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Ssl",
    "X-Forwarded-Server", "X-Forwarded-Scheme", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups",
    "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token", "X-Forwarded-Client-Cert", "X-Forwarded-Anything",
    "X-Real-IP", "True-Client-IP", "CF-Connecting-IP", "X-Client-IP", "X-Cluster-Client-IP", "Client-IP",
    "Fastly-Client-IP", "X-Original-URL", "X-Original-Host", "X-Original-Forwarded-For", "X-Rewrite-URL",
    "X-Auth-Request-User", "X-Auth-Request-Access-Token", "Remote-User", "Remote-Groups", "Remote-Addr",
    "X-Remote-User", "X-Authentik-Username", "Cf-Access-Jwt-Assertion", "X-Goog-Authenticated-User-Email",
    "X-MS-CLIENT-PRINCIPAL-NAME", "X-Client-Cert", "SSL-Client-Verify", "X-Envoy-External-Address", "Proxy",
)  # fmt: skip


@pytest.mark.parametrize("spelling", [str, str.lower, str.upper, lambda name: name.replace("-", "_"),
                                      lambda name: name.replace("-", ".")])  # fmt: skip
async def test_forwarding_headers_come_from_the_gateway_or_are_removed(house: House, spelling: type[str]) -> None:
    uuid = await house.awake()
    sent = {spelling(name): "forged" for name in (*PROXYS, "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto")}
    sent |= {"X-Forwarder": "own", "X-Real": "own", "X_Own": "own"}
    assert (await answer(house, "/echo", {**await house.headers(uuid), **sent}))[0] == 200
    _, _, told = house.workspaces[uuid].requests[-1]
    assert not [name for name, values in told.items() if "forged" in values]
    assert [told[name] for name in ("X-Forwarder", "X-Real", "X_Own")] == [["own"]] * 3
    assert told["X-Forwarded-For"] == ["127.0.0.1"]
    assert told["X-Forwarded-Host"] == [house.host(uuid)]
    assert told["X-Forwarded-Proto"] == ["https"]


@pytest.mark.parametrize("peer", ["10.1.1.7", "::ffff:10.1.1.7"])
async def test_a_users_pod_is_no_trusted_proxy_in_either_spelling_of_its_address(house: House, peer: str) -> None:
    uuid = await house.awake()
    workload = house.world.cluster.workloads[uuid]
    assert workload.pod is not None
    house.world.cluster.workloads[uuid] = replace(workload, pod=replace(workload.pod, address="10.1.1.7"))
    forwarding = Forwarding(scheme="https", trusted=[ip_network("10.0.0.0/8")], cache=house.world.cluster)
    transport = Mock(get_extra_info={"peername": (peer, 4711)}.get)
    request = make_mocked_request("GET", "/", {"X-Forwarded-For": "6.6.6.6"}, transport=transport)
    assert forwarding.client(request) in (peer, "10.1.1.7")


@pytest.mark.parametrize(
    ("referer", "kept"),
    [
        ("https://{host}/?folder=/home/coder", True),
        ("https://{host}/a%20b?ticket=7", True),
        ("https://frontend.test/", True),
        ("https://{host}/.user-pods/enter?ticket=secret&to=/", False),
        ("https://{host}/.user-pods/%65nter?ticket=secret", False),
        ("https://{host}/%2Euser%2Dpods%2Fenter?ticket=secret", False),
        ("https://{host}/.USER-pods/%65nter", False),
        ("https://frontend.test/go?url=https%3A%2F%2F{host}%2F.user-pods%2Fenter%3Fticket%3Dsecret", False),
        (
            "https://frontend.test/go?url=https%253A%252F%252F{host}%252F.user-pods%252Fenter%253Fticket%253Dsecret",
            False,
        ),
    ],
)
async def test_tickets_are_removed_from_referers(house: House, referer: str, kept: bool) -> None:
    uuid = await house.awake()
    sent = referer.replace("{host}", house.host(uuid))
    await answer(house, "/echo", await house.headers(uuid, Referer=sent))
    _, _, told = house.workspaces[uuid].requests[-1]
    assert told.get("Referer") == ([sent] if kept else None)


@pytest.mark.parametrize(
    "name",
    ["Clear-Site-Data", "alt-svc", "Strict-Transport-Security", "Public-Key-Pins", "Public-Key-Pins-Report-Only",
     "Expect-CT", "NEL", "Report-To", "X-Accel-Redirect", "X-Sendfile", "Proxy-Authenticate", "Keep-Alive"],
)  # fmt: skip
def test_response_headers_that_affect_other_hosts_are_removed(name: str) -> None:
    sent = CIMultiDict({name: "x", "X-Accel-Buffering": "no", "Content-Security-Policy": "default-src 'self'"})
    sent.add(name, "y")
    assert set(to_browser(CIMultiDictProxy(sent))) == {"X-Accel-Buffering", "Content-Security-Policy"}


async def test_response_headers_that_affect_other_hosts_are_removed_from_real_responses(house: House) -> None:
    said = b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nClear-Site-Data: "*"\r\nAlt-Svc: h3=":443"\r\n\r\nok'
    async with (
        scripted(house, said) as (uuid, _),
        house.http.get(house.url(), headers=await house.headers(uuid)) as found,
    ):
        assert not {"Clear-Site-Data", "Alt-Svc"} & set(found.headers)


# --- cookies ---


@pytest.mark.parametrize(
    ("patterns", "kept"),
    [
        (cookies.WITHHELD, "code-server-session=1; vscode-tkn=2; a=3; b"),
        ((), "code-server-session=1; vscode-tkn=2; a=3; b; __Secure-login=4; _oauth2_proxy_0=5; CF_Authorization=6"),
        (("!a", "!__Secure-*"), "code-server-session=1; vscode-tkn=2; b; _oauth2_proxy_0=5; CF_Authorization=6"),
        (("code-server-session", "vscode-*"), "code-server-session=1; vscode-tkn=2"),
        (("nothing",), ""),
        (
            ("*", "x"),
            "code-server-session=1; vscode-tkn=2; a=3; __Secure-login=4; _oauth2_proxy_0=5; CF_Authorization=6",
        ),
    ],
)
def test_a_pod_gets_only_the_cookies_that_the_setting_allows(patterns: tuple[str, ...], kept: str) -> None:
    line = (
        f"{COOKIE}=pass; code-server-session=1; vscode-tkn=2;a=3; {COOKIE}=pass; b; __Secure-login=4;"
        " _oauth2_proxy_0=5; CF_Authorization=6"
    )
    assert Cookies(patterns).to_pod([line]) == kept.replace("2; a=3", "2;a=3")
    assert Cookies(patterns).to_pod([f"{COOKIE}=pass"]) == ""


@pytest.mark.parametrize("patterns", [cookies.WITHHELD, (), ("a", "b*")])
@pytest.mark.parametrize("line", ["__Secure-" + " " * 60_000, "; " * 30_000, "a" * 60_000, ";" + "\t" * 60_000 + "x"])
def test_no_cookie_takes_long_to_parse(patterns: tuple[str, ...], line: str) -> None:
    begun = time.process_time()
    Cookies(patterns).to_pod([line])
    assert time.process_time() - begun < 1


@pytest.mark.parametrize("patterns", [("a b",), ("a", "!b"), ("a=b",), ("*a",), ("ä",), ("!",)])
def test_an_invalid_cookie_setting_is_refused(patterns: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"cookie"):
        cookies.check(patterns)


async def test_the_cookie_setting_applies_to_requests_and_websockets(world: World) -> None:
    async with House(world).open(Forwarding(scheme="https", cookies=Cookies(("own",)))) as house:
        uuid = await house.awake()
        sent = await house.headers(uuid)
        sent["Cookie"] += "; own=1; login=2"
        await answer(house, "/echo", sent)
        async with house.http.ws_connect(house.url("/ws"), headers=sent):
            pass
        workspace: Workspace = house.workspaces[uuid]
        assert [told["Cookie"] for _, _, told in workspace.requests] == [["own=1"]] * 2


# --- many headers, and hosts ---


async def test_more_headers_than_the_librarys_default_pass_in_both_directions(house: House) -> None:
    many = b"".join(b"X-Many-%d: %d\r\n" % (number, number) for number in range(500))
    async with scripted(house, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + many + b"\r\nok") as (uuid, pod):
        sent = {**await house.headers(uuid), **{f"X-Sent-{number}": "1" for number in range(500)}}
        async with house.http.get(house.url(), headers=sent, max_headers=2000) as found:
            assert await found.read() == b"ok"
            assert sum(name.startswith("X-Many-") for name in found.headers) == 500
    assert pod.heads[0].count(b"X-Sent-") == 500


@pytest.mark.parametrize("size", [70_000, 2_000_000])
async def test_oversized_response_headers_are_an_invalid_answer(house: House, size: int) -> None:
    flood = b"".join(b"X-Many: %s\r\n" % (b"x" * 1000) for _ in range(size // 1000))
    async with scripted(house, b"HTTP/1.1 200 OK\r\n" + flood + b"Content-Length: 2\r\n\r\nok") as (uuid, _):
        assert (await answer(house, "/", await house.headers(uuid)))[0] == 502


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("vs-code-abc123xy.pods.test", True),
        ("VS-CODE-ABC123XY.Pods.Test:8081", True),
        ("vs-code-abc123xy.pods.test.", True),
        ("vs-code-abc123\u212ay.pods.test", False),  # the sign of Kelvin, a k in lower case
        ("vs-code-abc123xy.pod\u017f.test", False),  # a long s
        ("vs-code-abc123xy.pods.te\u0455t", False),
        ("vs-code-abc123xy.pods.test:123456", False),
        ("user@vs-code-abc123xy.pods.test", False),
        ("vs-code-abc123xy.pods.test" + "." * 60_000, False),
    ],
)
def test_host_names_are_compared_in_ascii(host: str, found: bool) -> None:
    hosts = Hosts(DOMAIN)
    assert (hosts.session(host) is not None) is found


def test_overlong_host_names_are_not_cached() -> None:
    hosts = Hosts(DOMAIN)
    hosts.session("x" * 60_000)
    assert hosts._cached.cache_info().currsize == 0
