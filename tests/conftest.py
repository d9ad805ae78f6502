"""What all tests share: one embedded cluster for the whole run, and a guard against forgotten tasks."""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, async_playwright

from devcluster import toolchain
from devcluster.cluster import Cluster
from devcluster.toolchain import Tools
from stack.stack import Stack

SHORT = {
    "POLLING_INTERVAL": "1",
    "LEASE": "4",
    "COOLDOWN": "3",
    "HELM_TIMEOUT": "8",
    "HEALTH_CACHE": "0",
    "RECOVERY_INTERVAL": "0.5",
    "KUBE_TIMEOUT": "3",
    "SWEEP_INTERVAL": "5",
    "LEADER_TERM": "2",
}
"""Settings of the service under test: the same idle times as in production, ten times as fast."""

_ON_A_NODE = {"real", "real_stack", "installation"}
"""Fixtures that start the real node, of which a machine can have one at a time."""
_ON_A_CLUSTER = {*_ON_A_NODE, "cluster", "stack"}
_COMPILED = {*_ON_A_CLUSTER, "tools", "program", "tiny", "workspace"}
"""Fixtures that compile programs or build images, which takes minutes the first time."""

_CHROMIUM = "chromium"
_CLOSES_WITHIN = 20.0
"""Seconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first. A test's fixtures say what it needs, but for those that a parameter asks for."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & _ON_A_CLUSTER:
            item.add_marker(pytest.mark.cluster)
        if fixtures & _COMPILED or item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.compiled)
        if fixtures & _ON_A_NODE:
            item.add_marker(pytest.mark.node)
        if "browser" in fixtures:
            item.add_marker(pytest.mark.browser)
    items.sort(key=lambda item: item.get_closest_marker("cluster") is not None)


@pytest.fixture(scope="session")
def tools(pytestconfig: pytest.Config) -> Tools:
    """Every compiled tool, those only for tests included."""
    if "not compiled" in pytestconfig.option.markexpr:
        pytest.fail("a test that is not marked `compiled` needs compiled tools: mark its parameter `cluster`")
    return toolchain.ensure({**toolchain.CLUSTER, **toolchain.EXTRA})


@pytest.fixture(scope="session")
def cluster(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A real control plane with KEDA, kwok and Redis, for this run only."""
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), tools=tools)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@asynccontextmanager
async def chromium(*arguments: str) -> AsyncIterator[Browser]:
    """Debian's Chromium, with these additional command-line arguments."""
    if shutil.which(_CHROMIUM) is None and not os.environ.get("CI"):
        pytest.skip("a browser needs the Debian package chromium")
    async with async_playwright() as playwright:
        # As root, as tests of a real node run, Chromium has no sandbox; it sees nothing but the tests' own pages.
        args = ["--no-sandbox", *arguments]
        launched = await playwright.chromium.launch(executable_path=shutil.which(_CHROMIUM), args=args)
        yield launched
        # A Chromium that does not end when it is asked to is killed with Playwright's driver.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSES_WITHIN):
                await launched.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as launched:
        yield launched


@pytest.fixture
async def page(browser: Browser) -> Page:
    return await browser.new_page()


@pytest.fixture(autouse=True)
async def no_forgotten_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind: in the service, nothing would await it at shutdown."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    own = asyncio.current_task()
    left = {task for task in asyncio.all_tasks() - before if not task.done() and task is not own}
    for task in left:
        task.cancel()
    assert not left, f"tasks left behind: {left}"


@pytest.fixture(scope="session")
def stack(cluster: Cluster) -> Iterator[Stack]:
    """The real service on the real cluster, with its chart's rights and short times; a test may stop and start it.

    After the last test, no call of the service may have been refused for lack of a right.
    """
    stack = Stack(cluster, port=free_port(), settings=SHORT)
    stack.prepare()
    stack.start()
    yield stack
    cluster.stop(stack.name)
    assert cluster.forbidden(stack.account) == []


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
