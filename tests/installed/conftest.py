"""The product as operators install it: its image, its charts and helmfile's `embedded` environment, on a real node."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import aiohttp
import pytest
import yaml

from devcluster import node
from devcluster.cluster import Cluster
from devcluster.toolchain import Tools
from images import recipes
from images.recipes import Name
from stack.installation import prepare
from tests.chart.test_helmfile import KEYS, Helmfile
from tests.stack.client import Caller, Json, until

SYSTEM, USERS = "user-pods", "users"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:session-service"
_SHORT = {"service": {"settings": {"POLLING_INTERVAL": "1", "LEASE": "4", "COOLDOWN": "3"}}}
_IMAGES = (Name.SERVICE, Name.REDIS, Name.TINY)


@dataclass(frozen=True)
class Installation:
    """`values`: files for helmfile."""

    cluster: Cluster
    helmfile: Helmfile
    values: Sequence[str]

    def sync(self, command: str = "sync") -> None:
        files = [part for path in self.values for part in ("--state-values-file", path)]
        self.helmfile(*files, command, KUBECONFIG=str(self.cluster.kubeconfig))

    @cached_property
    def _service(self) -> Json:
        found = self.cluster.kubectl("-n", SYSTEM, "get", "service", "session-service", "-o", "json")
        return dict(json.loads(found)["spec"])

    def url(self, port: str) -> str:
        """Of a port of the Service, which this machine reaches as pods do."""
        numbers = {each["name"]: each["port"] for each in self._service["ports"]}
        return f"http://{self._service['clusterIP']}:{numbers[port]}"

    def pods(self) -> list[str]:
        """The service's ready pods."""
        selector = ("-l", "app.kubernetes.io/instance=session-service", "--field-selector=status.phase=Running")
        found = json.loads(self.cluster.kubectl("-n", SYSTEM, "get", "pods", *selector, "-o", "json"))["items"]
        return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


@pytest.fixture(scope="package")
def installation(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    lacks = [*node.missing(), *(part for name in _IMAGES for part in recipes.missing(name))]
    if lacks and not os.environ.get("CI"):
        pytest.skip(f"an installation needs {', '.join(lacks)}")
    cluster = Cluster(tmp_path_factory.mktemp("installed"), tools=tools)
    try:
        cluster.up(real_node=True)
        images, times = prepare(cluster, Name.TINY), cluster.state / "times.yaml"
        times.write_text(yaml.safe_dump(_SHORT))
        installed = Installation(cluster, Helmfile(tools, "embedded"), (str(images), str(times)))
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


@dataclass(frozen=True)
class User:
    """A user with a session. `headers`: of a program that may open it."""

    caller: Caller
    uuid: str
    headers: dict[str, str]


@pytest.fixture
async def user(installation: Installation, http: aiohttp.ClientSession) -> User:
    caller = Caller(installation.url("http"), http)
    name, created = f"ann-{secrets.token_hex(6)}@example.com", {"uuid": ""}

    async def is_there() -> bool:
        nonlocal created
        code, created = await caller.create(name)
        return code == 201

    # A service that has just started fills its index first.
    await until(is_there, 60, lambda: f"not created: {created}")
    uuid = str(created["uuid"])
    code, opened = await caller.call("POST", f"/session/{uuid}/open")
    assert code == 201, opened
    host = f"vs-code-{uuid}.localhost:8081"
    link = str(opened["url"]).replace(f"http://{host}", installation.url("gateway"))
    async with http.get(link, headers={"Host": host, "Authorization": ""}, allow_redirects=False) as answer:
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
    return User(caller, uuid, {"Host": host, "Cookie": cookie, "Authorization": ""})
