"""Real pods of the tiny workspace on a real node, behind the real gateway."""

import asyncio
import base64
import os
import re
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import pytest
import yaml

from devcluster import network, node
from devcluster.cluster import Cluster
from devcluster.image import write
from devcluster.toolchain import Tools
from images import recipes
from images.recipes import Name
from stack import workspace
from stack.stack import GATEWAY_DOMAIN, USERS, Stack
from tests.conftest import SHORT, free_port
from tests.devcluster.test_node import busybox
from tests.stack.client import Caller, Json, until

BRAND = {
    "GATEWAY_BRAND_NAME": "Desks of Acme",
    "GATEWAY_BRAND_COLOR": "#7a1fa2",
    "GATEWAY_BRAND_LOGO": "data:image/svg+xml;base64,"
    + base64.b64encode(
        b"<svg xmlns='http://www.w3.org/2000/svg' width='24' height='24'><path d='M2 22L12 2l10 20z'/></svg>"
    ).decode(),
    "GATEWAY_SUPPORT": "Ask the [help desk](mailto:help@example.com).",
}
"""What the operator puts on the pages of workspaces that are VS Codes."""
BUSYBOX = "localhost/user-pods/busybox:1"
"""An image that is a shell."""
LEASE, POLL = int(SHORT["LEASE"]), int(SHORT["POLLING_INTERVAL"])
EDITOR_COOLDOWN = 8
_REPORTED_WITHIN = 7
"""Seconds by which page and gateway may report a key late, which outlasts a lease as short as this one."""
EDITOR_SLEEPS_AFTER = LEASE - POLL + EDITOR_COOLDOWN, max(LEASE, _REPORTED_WITHIN) + EDITOR_COOLDOWN + POLL + 2
"""Seconds from an editor's last key to its sleep, at least and at most."""


@pytest.fixture(scope="package")
def real_stack(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    lacks = [*node.missing(), *recipes.missing(Name.TINY)]
    if lacks and not os.environ.get("CI"):
        pytest.skip(f"real pods need {', '.join(lacks)}")
    cluster = Cluster(tmp_path_factory.mktemp("real"), tools=tools)
    try:
        cluster.up(real_node=True)
        image = recipes.build(Name.TINY)
        stack = Stack(cluster, port=free_port(), gateway_port=free_port(), settings=SHORT, image=image)
        stack.prepare()
        stack.values.write_text(workspace.text(yaml.safe_load(stack.values.read_text()) | {"tests": _tests(cluster)}))
        stack.start()
        yield stack
        cluster.stop(stack.name)
        assert cluster.forbidden(stack.account) == []
    finally:
        cluster.down()


@pytest.fixture(scope="package")
def editors(real_stack: Stack) -> Iterator[Stack]:
    """A second service on the same cluster, whose sessions are VS Codes."""
    lacks = recipes.missing(Name.WORKSPACE)
    if lacks and not os.environ.get("CI"):
        pytest.skip(f"a VS Code needs {', '.join(lacks)}")
    gateway, provider = free_port(), free_port()
    settings = {
        "GATEWAY_INTERNAL_URL": f"http://{network.HOST}:{gateway}",
        "COOLDOWN": str(EDITOR_COOLDOWN),
        # A provider that is away unless a test starts it.
        "OIDC_ISSUER": f"http://127.0.0.1:{provider}",
        "OIDC_CLIENT_ID": "workspaces",
        "OIDC_CLIENT_SECRET": "hunter2hunter2",
        **BRAND,
    }
    stack = Stack(
        real_stack.cluster,
        port=free_port(),
        gateway_port=gateway,
        settings=SHORT | settings,
        image=recipes.build(Name.WORKSPACE),
        volume=True,
        name="editor-service",
    )
    stack.prepare()
    stack.start()
    yield stack
    real_stack.cluster.stop(stack.name)


def _tests(cluster: Cluster) -> Json:
    """What `helm test` needs in this cluster: an image, a way to find Services without DNS, and one to Redis."""
    # One program that is a shell and all that its script calls.
    archive = write(cluster.state / "busybox.tar", name=BUSYBOX, files={"bin/sh": busybox()}, command=["/bin/sh"])
    cluster.load_image(archive)
    # Redis listens on the machine's loopback: the test lets pods reach it, see `redis_for_pods`.
    return {"image": BUSYBOX, "serviceLinks": True, "redis": {"address": f"{network.HOST}:{cluster.redis_port}"}}


@dataclass
class Visitor:
    """`user` has a session; `headers` are those of a program with access."""

    stack: Stack
    caller: Caller
    http: aiohttp.ClientSession
    uuid: str
    user: str
    headers: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.stack.settings['GATEWAY_PORT']}"

    @property
    def host(self) -> str:
        return f"vs-code-{self.uuid}.{GATEWAY_DOMAIN}:{self.stack.settings['GATEWAY_PORT']}"

    @property
    def person(self) -> dict[str, str]:
        return {**self.headers, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}

    async def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        async with self.http.get(self.url + path, headers=headers or self.headers) as answer:
            return answer.status, await answer.read()

    async def link(self, to: str = "/") -> str:
        """A URL that lets the visitor's browser in."""
        code, opened = await self.caller.call("POST", f"/session/{self.uuid}/open?to={quote(to, safe='')}")
        assert code == 201, opened
        return str(opened["url"])

    async def status(self) -> Json:
        return await self.caller.status(self.uuid)

    def use(self, image: str) -> str:
        """Use another image for the next pod; returns the current one."""
        path = "{.spec.template.spec.containers[0].image}"
        before = self.kubectl("get", self.deployment, "-o", f"jsonpath={path}")
        self.kubectl("set", "image", self.deployment, f"workspace={image}")
        return before

    @property
    def deployment(self) -> str:
        return f"deployment/user-{self.uuid}"

    def kubectl(self, *argv: str) -> str:
        return self.stack.cluster.kubectl("-n", USERS, *argv)

    async def pages_without_script(self) -> float:
        """Pages to which the gateway added no companion, because their policy forbids it."""
        return await self._metric('user_pods_gateway_pages_total{script="policy"}')

    async def nobody_waits(self) -> None:
        """Wait until the gateway has noticed that a waiting page was left. Until then it wakes a sleeping pod again."""

        async def none() -> bool:
            return await self._metric("user_pods_gateway_held") == 0

        await until(none, 30, lambda: "the gateway still waits for a pod")

    async def _metric(self, name: str) -> float:
        async with self.http.get(f"{self.stack.url}/metrics") as answer:
            found = re.search(rf"^{re.escape(name)} (\S+)", await answer.text(), re.M)
        return float(found[1]) if found else 0

    async def asleep(self, within: float = 30) -> None:
        """Wait until the pod sleeps and nothing of it is left."""
        await self.caller.until(self.uuid, "asleep", within)

    async def stays_asleep(self, seconds: float, *, within: float = 30) -> None:
        """Wait until it sleeps, and check that it stays asleep for this long."""
        await self.asleep(within)
        await asyncio.sleep(seconds)
        status = await self.status()
        assert (status["phase"], status["queue_length"], status["parked"]) == ("asleep", 0, True)


@pytest.fixture
async def visitors(real_stack: Stack) -> AsyncIterator["Visitors"]:
    timeout, connector = aiohttp.ClientTimeout(total=90), aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(
        timeout=timeout, connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar()
    ) as http:
        yield Visitors(real_stack, http)
    await asyncio.sleep(0)


@dataclass
class Visitors:
    stack: Stack
    http: aiohttp.ClientSession

    async def new(self, *, background: float = 0) -> Visitor:
        """A visitor with a new session, asleep. `background`: seconds for which a program may keep it awake."""
        caller, user = Caller(self.stack.url, self.http), f"ann-{secrets.token_hex(6)}@example.com"
        created: Json = {}

        async def is_there() -> bool:
            nonlocal created
            session = {"user_id": user, "idle": {"background": background}}
            code, created = await caller.call("POST", "/session/create", session)
            return code == 201

        # A service that has just started fills its index first.
        await until(is_there, 20, lambda: f"not created: {created}")
        uuid = created["uuid"]
        visitor = Visitor(self.stack, caller, self.http, uuid, user, {})
        path = (await visitor.link()).removeprefix(f"http://{visitor.host}")
        async with self.http.get(visitor.url + path, headers={"Host": visitor.host}, allow_redirects=False) as answer:
            assert answer.status == 303
            visitor.headers = {"Host": visitor.host, "Cookie": answer.headers["Set-Cookie"].split(";")[0]}
        return visitor


@pytest.fixture
async def visitor(visitors: Visitors) -> Visitor:
    return await visitors.new()
