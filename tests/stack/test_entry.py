"""Access with real parts: keys in the cluster, and nothing in Redis that admits anybody."""

import asyncio
import hashlib
import json
import secrets
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from redis.asyncio import Redis

from stack.stack import ROOT, SIGNING_KEYS, SYSTEM, USERS, Stack
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


@pytest.fixture
async def second(gate: Gate) -> AsyncIterator[Gate]:
    """Another replica."""
    other = Stack(gate.stack.cluster, port=free_port(), gateway_port=free_port(), settings=SHORT, name="entry-2")
    other.start()
    yield Gate(other, Caller(other.url, gate.http), gate.http, gate.redis)
    other.cluster.stop(other.name)


async def test_a_revocation_reaches_every_replica_lasts_through_helm_and_outlives_the_release(
    gate: Gate, second: Gate
) -> None:
    cluster, uuid = gate.stack.cluster, await gate.session()
    helm = [str(cluster.tools.path("helm")), "--kubeconfig", str(cluster.kubeconfig), "-n", USERS]
    link = await gate.link(uuid)
    place = link.partition("/.user-pods")[0] + _NOTHING
    status, cookie = await gate.get(link)
    assert status == 303
    unused = await gate.link(uuid)
    assert {(await each.get(place, cookie))[0] for each in (gate, second)} == {404}

    code, revoked = await gate.caller.call("POST", f"/session/{uuid}/revoke")
    assert (code, revoked["uuid"], revoked["action"]) == (202, uuid, "revoke")

    async def refused() -> bool:
        return {(await each.get(place, cookie))[0] for each in (gate, second)} == {401}

    await until(refused, 3, lambda: "a replica still lets the cookie in")
    assert (await second.get(unused))[0] == 403
    status, later = await second.get(await gate.link(uuid))
    assert status == 303
    assert {(await each.get(place, later))[0] for each in (gate, second)} == {404}

    # An upgrade and a rollback of the release forget nothing.
    chart = str(ROOT / "chart" / "user-pod")
    for command in (["upgrade", f"user-{uuid}", chart, "--reuse-values"], ["rollback", f"user-{uuid}", "1"]):
        await asyncio.to_thread(subprocess.run, [*helm, *command], check=True, capture_output=True)
        note = cluster.kubectl("-n", USERS, "get", "deploy", f"user-{uuid}", "-o", "jsonpath={.metadata.annotations}")
        assert json.loads(note)["user-pods/revoked-at"] == revoked["revoked_at"]
    gate.restart()
    assert await refused()
    assert (await gate.get(place, later))[0] == 404

    # Nor does an uninstall, though it removes the note, and a create brings the same id back.
    user = (await gate.caller.status(uuid))["session"]["user_id"]
    argv = [*helm, "uninstall", f"user-{uuid}", "--wait"]
    await asyncio.to_thread(subprocess.run, argv, check=True, capture_output=True)
    code, created = await gate.caller.create(user)
    assert (code, created["uuid"]) == (201, uuid)
    status, last = await gate.get(await gate.link(uuid))
    assert status == 303
    assert [(await gate.get(place, each))[0] for each in (cookie, later, last)] == [401, 401, 404]
    entries = (await gate.caller.call("GET", f"/session/{uuid}/history"))[1]["entries"]
    assert [(entry["kind"], entry["by"]) for entry in entries] == [("revocation", "api")]


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
