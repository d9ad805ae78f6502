"""Access with real parts: keys in the cluster, and nothing in Redis that admits anybody."""

import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from redis.asyncio import Redis

from stack.stack import SIGNING_KEYS, SYSTEM, Stack
from tests.conftest import SHORT, free_port
from tests.stack.client import Caller, until

_NOTHING = "/.user-pods/nothing"
"""A path that answers 404 with access and 401 without, and does not wake."""


@dataclass
class Gate:
    """A service with a gateway, on the cluster of the others."""

    stack: Stack
    caller: Caller
    http: aiohttp.ClientSession
    redis: Redis

    def restart(self) -> None:
        self.stack.cluster.stop(self.stack.name)
        self.stack.start()

    async def session(self) -> str:
        code, created = await self.caller.create(f"ann-{secrets.token_hex(6)}@example.com")
        assert code == 201, created
        return str(created["uuid"])

    async def link(self, uuid: str) -> str:
        code, opened = await self.caller.call("POST", f"/session/{uuid}/open")
        assert code == 201, opened
        return str(opened["url"])

    async def get(self, url: str, cookie: str = "") -> tuple[int, str]:
        """Status, and the cookie that came."""
        parts = urlsplit(url)
        address = f"http://127.0.0.1:{self.stack.settings['GATEWAY_PORT']}{parts.path}?{parts.query}"
        headers = {"Host": parts.netloc, "Cookie": cookie}
        async with self.http.get(address, headers=headers, allow_redirects=False) as found:
            return found.status, found.headers.get("Set-Cookie", "").split(";")[0]


@pytest.fixture
async def gate(stack: Stack) -> AsyncIterator[Gate]:
    other = Stack(stack.cluster, port=free_port(), gateway_port=free_port(), settings=SHORT, name="entry")
    redis: Redis = Redis.from_url(stack.cluster.redis_url, decode_responses=True)
    await redis.set("user-pods:gateway-secret", "00" * 32)  # as an earlier version left it
    other.start()
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Gate(other, Caller(other.url, http), http, redis)
    await redis.aclose()
    stack.cluster.stop(other.name)


async def test_access_to_redis_opens_no_workspace_and_its_loss_signs_nobody_out(gate: Gate) -> None:
    uuid = await gate.session()
    link = await gate.link(uuid)
    place = link.partition("/.user-pods")[0] + _NOTHING
    status, cookie = await gate.get(link)
    assert status == 303
    assert (await gate.get(place, cookie))[0] == 404
    assert (await gate.get(place))[0] == 401

    # What Redis knows of tickets opens nothing, nor does what somebody adds to it.
    assert await gate.redis.get("user-pods:gateway-secret") is None
    ticket = parse_qs(urlsplit(await gate.link(uuid)).query)["ticket"][0]
    planted = ticket[:-4] + "AAAA"
    digest = hashlib.sha256(planted.encode()).hexdigest()
    await gate.redis.zadd(f"user-pods:tickets:{uuid}", {digest: 2**52})
    assert (await gate.get(link.replace(parse_qs(urlsplit(link).query)["ticket"][0], planted)))[0] == 403

    await gate.redis.delete(f"user-pods:tickets:{uuid}")
    gate.restart()
    assert (await gate.get(place, cookie))[0] == 404


async def test_an_outage_of_the_api_server_blocks_no_visitor_and_emptied_keys_sign_everybody_out(gate: Gate) -> None:
    uuid, cluster = await gate.session(), gate.stack.cluster
    link = await gate.link(uuid)
    place = link.partition("/.user-pods")[0] + _NOTHING
    cluster.stop("kube-apiserver")
    try:
        status, cookie = await gate.get(link)
        assert status == 303
        assert (await gate.get(place, cookie))[0] == 404
    finally:
        cluster.start("kube-apiserver")

    async def empties() -> bool:
        cluster.kubectl("-n", SYSTEM, "patch", "secret", SIGNING_KEYS, "--type=merge", "--patch", '{"data":null}')
        return True

    await until(empties, 10, lambda: "the keys could not be emptied")
    gate.restart()
    assert (await gate.get(place, cookie))[0] == 401
    secret = json.loads(cluster.kubectl("-n", SYSTEM, "get", "secret", SIGNING_KEYS, "-o", "json"))
    assert len(secret["data"]) == 1
    status, cookie = await gate.get(await gate.link(uuid))
    assert status == 303
    assert (await gate.get(place, cookie))[0] == 404
