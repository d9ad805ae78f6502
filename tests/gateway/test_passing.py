"""What goes through to an awake workspace, and back, unchanged."""

import asyncio
import hashlib
import ipaddress
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import ClientPayloadError

from service.gateway.access.cookie_header import COOKIE
from service.gateway.proxy.headers import Forwarding
from tests.domain.conftest import World
from tests.gateway.conftest import House, answer, raw

BIG = 32 * 1024 * 1024


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"])
async def test_every_method_is_passed_on_with_its_body(house: House, method: str) -> None:
    uuid = await house.awake()
    status, body = await answer(house, "/echo/x?a=1&a=2", await house.headers(uuid), method, data=b"some body")
    told = json.loads(body)
    assert (status, told["method"], told["path"], told["length"]) == (200, method, "/echo/x?a=1&a=2", 9)


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a%2Fb/..%2f/%2e%2e/c?x=%20&y=+&z",
        "/a//b/./c;p=1",
        "/?q=%E2%82%AC&raw=a|b",
        "/echo/%C3%A4",
        "/x?u=http://other/",
    ],
)
async def test_a_request_target_is_passed_on_byte_for_byte(house: House, target: str) -> None:
    uuid = await house.awake()
    said = await raw(house, f"GET {target}", await house.headers(uuid, Connection="close"))
    assert said.startswith(b"HTTP/1.1 200")
    assert house.workspaces[uuid].requests[-1][1] == target


@pytest.mark.parametrize("more", [{}, {"User-Agent": "mine", "Accept": "a/b"}, {"Content-Type": "a/b"}])
async def test_only_forwarding_headers_are_added_to_a_request(house: House, more: dict[str, str]) -> None:
    uuid = await house.awake()
    for method, body in (("GET", b""), ("PUT", b"some body")):
        sent = {**more, "Content-Length": str(len(body))} if body else more
        headers = {**await house.headers(uuid), **sent, "Connection": "close"}
        told = json.loads((await raw(house, f"{method} /echo", headers, body)).partition(b"\r\n\r\n")[2])
        names = {name.lower() for name in sent}
        ours = {"forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}
        assert set(told["headers"]) == {"host"} | names | ours


async def test_a_body_of_any_size_is_passed_on_chunked_or_not(house: House) -> None:
    uuid = await house.awake()
    part = bytes(range(256)) * 1024

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(BIG // len(part)):
            yield part

    wanted = hashlib.sha256(part * (BIG // len(part))).hexdigest()
    _, chunked = await answer(house, "/echo", await house.headers(uuid), "PUT", data=chunks())
    headers = await house.headers(uuid, Content_Length=str(BIG))
    _, sized = await answer(house, "/echo", headers, "PUT", data=chunks())
    assert json.loads(chunked)["sha256"] == json.loads(sized)["sha256"] == wanted
    assert json.loads(sized)["headers"]["content-length"] == [str(BIG)]
    assert "content-length" not in json.loads(chunked)["headers"]


async def test_a_response_of_any_size_arrives_complete(house: House) -> None:
    uuid = await house.awake()
    status, body = await answer(house, f"/bytes?size={BIG}", await house.headers(uuid))
    assert status == 200
    assert hashlib.sha256(body).digest() == hashlib.sha256(bytes(range(256)) * (BIG // 256)).digest()


async def test_events_arrive_as_they_are_sent_and_the_pod_notices_a_disconnect(house: House) -> None:
    uuid = await house.awake()
    async with house.http.get(house.url("/drip"), headers=await house.headers(uuid)) as stream:
        for number in range(3):
            assert await stream.content.readuntil(b"\n\n") == f"data: {number}\n\n".encode()
    await asyncio.wait_for(house.workspaces[uuid].interrupted.wait(), 5)


async def test_a_truncated_response_does_not_look_complete(house: House) -> None:
    uuid = await house.awake()
    async with house.http.get(house.url("/broken"), headers=await house.headers(uuid)) as found:
        with pytest.raises(ClientPayloadError):
            await found.read()


async def test_head_gives_the_size_without_the_body(house: House) -> None:
    uuid = await house.awake()
    async with house.http.head(house.url("/sized"), headers=await house.headers(uuid)) as found:
        assert found.headers["Content-Length"] == "12345"
        assert found.headers["Accept-Ranges"] == "bytes"
        assert await found.read() == b""


async def test_a_response_without_a_body_stays_without_one(house: House) -> None:
    uuid = await house.awake()
    async with house.http.get(house.url("/bare"), headers=await house.headers(uuid)) as found:
        assert found.status == 204
        assert "Content-Type" not in found.headers
        assert "Content-Length" not in found.headers


async def test_redirects_are_passed_on_to_the_browser(house: House) -> None:
    uuid = await house.awake()
    async with house.http.get(house.url("/moved"), headers=await house.headers(uuid), allow_redirects=False) as found:
        assert (found.status, found.headers["Location"]) == (302, "/elsewhere")


async def test_a_client_that_expects_100_continue_gets_it_and_loses_nothing(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid)
    status, body = await answer(house, "/echo", headers, "PUT", data=b"x" * 100_000, expect100=True)
    assert (status, json.loads(body)["length"]) == (200, 100_000)


async def test_large_headers_are_passed_on(house: House) -> None:
    uuid = await house.awake()
    _, body = await answer(house, "/echo", await house.headers(uuid, X_Large="y" * 30_000))
    assert json.loads(body)["headers"]["x-large"] == ["y" * 30_000]


async def test_connection_headers_are_not_forwarded(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid, Connection="close, X-Secret", X_Secret="1", TE="trailers", X_Kept="2")
    _, body = await answer(house, "/echo", headers)
    told = json.loads(body)["headers"]
    assert not {"x-secret", "te", "proxy-authorization"} & set(told)
    assert told["x-kept"] == ["2"]


async def test_the_pod_learns_the_clients_address_which_cannot_be_forged(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(
        uuid, X_Forwarded_For="6.6.6.6", X_Forwarded_Proto="gopher", X_Forwarded_Host="evil", Forwarded="for=6.6.6.6"
    )
    _, body = await answer(house, "/echo", headers)
    told = json.loads(body)["headers"]
    assert told["x-forwarded-for"] == ["127.0.0.1"]
    assert told["x-forwarded-proto"] == ["https"]
    assert told["x-forwarded-host"] == told["host"] == [house.host(uuid)]
    assert told["forwarded"] == ["for=127.0.0.1;proto=https"]


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        ("6.6.6.6, 9.9.9.9, 10.1.1.1", "9.9.9.9"),
        ("6.6.6.6, 9.9.9.9:4711", "9.9.9.9"),
        ("6.6.6.6, [2001:db8::1]:4711, ::ffff:10.1.1.1", "2001:db8::1"),
        ("6.6.6.6, unknown, 10.1.1.1", "10.1.1.1"),
        ("unknown", "127.0.0.1"),
        ("10.1.1.2, 10.1.1.1", "10.1.1.2"),
    ],
)
async def test_forwarded_addresses_count_only_up_to_the_first_untrusted_one(
    world: World, chain: str, client: str
) -> None:
    trusted = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8")]
    async with House(world).open(Forwarding(scheme="https", trusted=trusted)) as house:
        uuid = await house.awake()
        headers = await house.headers(uuid, X_Forwarded_For=chain, X_Forwarded_Proto="http")
        _, body = await answer(house, "/echo", headers)
    told = json.loads(body)["headers"]
    assert (told["x-forwarded-for"], told["x-forwarded-proto"]) == ([client], ["http"])


async def test_a_users_pod_is_no_trusted_proxy_even_in_a_trusted_network(world: World) -> None:
    trusted = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8")]
    async with House(world).open(Forwarding(scheme="https", trusted=trusted, cache=world.cluster)) as house:
        # Two pods share this machine's address here, so it is nobody's, but a proxy's.
        uuid, _, hostile = [await house.awake(user) for user in ("ann", "bob", "eve")]
        headers = await house.headers(uuid, X_Forwarded_For="6.6.6.6, 10.1.1.7, 10.1.1.1", X_Forwarded_Proto="http")
        _, through_ingress = await answer(house, "/echo", headers)
        workload = world.cluster.workloads[hostile]
        assert workload.pod is not None
        pod = replace(workload.pod, address="10.1.1.7")
        world.cluster.workloads[hostile] = replace(workload, pod=pod)
        _, afterwards = await answer(house, "/echo", headers)
    told = [json.loads(body)["headers"]["x-forwarded-for"] for body in (through_ingress, afterwards)]
    assert told == [["6.6.6.6"], ["10.1.1.7"]]


async def test_the_session_cookie_reaches_no_pod_and_a_pods_cookies_stay_on_its_host(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid)
    headers["Cookie"] = f"a=1; {headers['Cookie']}; b=2=3"
    _, body = await answer(house, "/echo", headers)
    assert json.loads(body)["headers"]["cookie"] == ["a=1; b=2=3"]
    async with house.http.get(house.url("/cookies"), headers=headers) as found:
        assert found.headers.getall("Set-Cookie") == ["own=1; Path=/; HttpOnly", "wide=1; Path=/"]
    assert all(COOKIE not in str(told) for _, _, told in house.workspaces[uuid].requests)


async def test_the_next_pod_gets_a_new_connection_even_at_the_same_address(house: House) -> None:
    uuid = await house.awake()
    headers = await house.headers(uuid)
    first = json.loads((await answer(house, "/echo", headers))[1])["pod"]
    await house.fall_asleep(uuid)
    second = json.loads((await answer(house, "/echo", headers))[1])["pod"]
    assert first != second


async def test_two_users_reach_only_their_own_workspaces(house: House) -> None:
    ann, bob = await house.awake("ann"), await house.awake("bob")
    for uuid in (ann, bob, ann):
        _, body = await answer(house, "/echo", await house.headers(uuid))
        assert json.loads(body)["pod"].startswith(uuid)
