"""The service, installed by helmfile on a real node, and its users from outside of the cluster."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import quote

import aiohttp
import pytest
from playwright.async_api import Browser
from websockets.asyncio.client import ClientConnection, connect

from devcluster import node
from devcluster.cluster import Cluster
from devcluster.toolchain import Tools
from images import recipes
from images.recipes import Name
from stack import installation as installing
from stack import workspace
from tests.chart.test_helmfile import KEYS, Helmfile
from tests.conftest import chromium
from tests.stack.client import Caller, Json, until

SYSTEM, KEDA, USERS = "user-pods", "keda", "users"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:session-service"
ACCOUNTS = ACCOUNT, f"system:serviceaccount:{KEDA}:keda-operator"
_SHORT = {"POLLING_INTERVAL": "1", "LEASE": "4", "COOLDOWN": "3", "GATEWAY_CLOSE_SPREAD": "2", "RATE_PER_USER": "0"}
"""Short times, and no limit to the load that a test puts on one session."""
_FOR_PEOPLE = {"COOLDOWN": "60"}
"""A person who waits for an editor is not asleep meanwhile."""
_IMAGES = (Name.SERVICE, Name.REDIS, Name.TINY, Name.WORKSPACE)


@dataclass
class Installation:
    """`values`: files for helmfile, of which the later ones win."""

    cluster: Cluster
    helmfile: Helmfile
    values: list[str] = field(default_factory=list)

    def sync(self, command: str = "sync") -> None:
        files = [part for path in self.values for part in ("--state-values-file", path)]
        self.helmfile(*files, command, KUBECONFIG=str(self.cluster.kubeconfig))

    def upgrade_to_editors(self) -> None:
        """By helmfile, as an operator: from now on new users have a VS Code. Nothing if that is so already."""
        path = self.cluster.state / "editors.yaml"
        if str(path) not in self.values:
            values = installing.users_values(self.cluster, Name.WORKSPACE)
            path.write_text(workspace.text({**values, "service": {"settings": _FOR_PEOPLE}}))
            self.values.append(str(path))
            self.sync()

    @cached_property
    def _service(self) -> Json:
        found = self.cluster.kubectl("-n", SYSTEM, "get", "service", "session-service", "-o", "json")
        return dict(json.loads(found)["spec"])

    @property
    def address(self) -> str:
        """Of the Service, which this machine reaches as pods do."""
        return str(self._service["clusterIP"])

    def port(self, name: str) -> int:
        return {str(each["name"]): int(each["port"]) for each in self._service["ports"]}[name]

    def url(self, port: str) -> str:
        return f"http://{self.address}:{self.port(port)}"

    def pods(self) -> list[str]:
        """The service's running pods, without those that are ending."""
        selector = ("-l", "app.kubernetes.io/instance=session-service", "--field-selector=status.phase=Running")
        found = json.loads(self.cluster.kubectl("-n", SYSTEM, "get", "pods", *selector, "-o", "json"))["items"]
        return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


@pytest.fixture(scope="package")
def installation(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    lacks = [*node.missing(), *(part for name in _IMAGES for part in recipes.missing(name))]
    if lacks and not os.environ.get("CI"):
        pytest.skip(f"an installation needs {', '.join(dict.fromkeys(lacks))}")
    cluster = Cluster(tmp_path_factory.mktemp("installed"), tools=tools)
    try:
        cluster.up(real_node=True, keda=False)
        images, times = installing.prepare(cluster, Name.TINY), cluster.state / "times.yaml"
        times.write_text(workspace.text({"service": {"settings": _SHORT}}))
        installed = Installation(cluster, Helmfile(tools, "embedded"), [str(images), str(times)])
        installed.sync()
        yield installed
    finally:
        cluster.down()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A frontend's client. A connection for each request, so that all replicas get some."""
    headers, connector = {"Authorization": f"Bearer {KEYS}"}, aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout, trust_env=False) as session:
        yield session
    await asyncio.sleep(0)


@pytest.fixture
async def browser(installation: Installation) -> AsyncIterator[Browser]:
    """A browser for which the users' hosts are the gateway's Service, as a load balancer has it."""
    place = f"{installation.address}:{installation.port('gateway')}"
    async with chromium(f"--host-resolver-rules=MAP *.localhost:8081 {place}") as launched:
        yield launched


@dataclass(frozen=True)
class User:
    """A user with a session. `headers`: of a program that may open it."""

    installation: Installation
    caller: Caller
    uuid: str
    headers: dict[str, str]

    async def link(self, to: str) -> str:
        """A URL that lets the user's browser in, as their frontend asks for it."""
        return await _link(self.caller, self.uuid, to)

    @asynccontextmanager
    async def websocket(self) -> AsyncIterator[ClientConnection]:
        """A WebSocket to the user's pod that echoes."""
        async with connect(
            f"ws://{_host(self.uuid)}/ws",
            additional_headers={"Cookie": self.headers["Cookie"]},
            host=self.installation.address,
            port=self.installation.port("gateway"),
            proxy=None,
            close_timeout=2,
        ) as connection:
            yield connection

    def shown(self, name: str) -> str:
        """The content of a file in the home of the user's pod."""
        deployment = f"deployment/user-{self.uuid}"
        return self.installation.cluster.kubectl("-n", USERS, "exec", deployment, "--", "cat", f"/home/coder/{name}")


def _host(uuid: str) -> str:
    return f"vs-code-{uuid}.localhost:8081"


async def _link(caller: Caller, uuid: str, to: str) -> str:
    code, opened = await caller.call("POST", f"/session/{uuid}/open?to={quote(to, safe='')}")
    assert code == 201, opened
    return str(opened["url"])


@dataclass(frozen=True)
class Users:
    installation: Installation
    http: aiohttp.ClientSession

    async def new(self, **idle: int) -> User:
        """A new user with a session, asleep. `idle`: its idle times, where they differ from the service's."""
        caller = Caller(self.installation.url("http"), self.http)
        name, created = f"ann-{secrets.token_hex(6)}@example.com", {"uuid": ""}

        async def is_there() -> bool:
            nonlocal created
            code, created = await caller.call("POST", "/session/create", {"user_id": name, "idle": idle})
            return code == 201

        # A service that has just started fills its index first.
        await until(is_there, 60, lambda: f"not created: {created}")
        uuid = str(created["uuid"])
        host = _host(uuid)
        link = (await _link(caller, uuid, "/")).replace(f"http://{host}", self.installation.url("gateway"))
        headers = {"Host": host, "Authorization": ""}
        async with self.http.get(link, headers=headers, allow_redirects=False) as answer:
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return User(self.installation, caller, uuid, {**headers, "Cookie": cookie})


@pytest.fixture
def users(installation: Installation, http: aiohttp.ClientSession) -> Users:
    return Users(installation, http)


@pytest.fixture
async def user(users: Users) -> User:
    return await users.new()
