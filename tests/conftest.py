"""What all tests share: one embedded cluster for the whole run, and a guard against forgotten tasks."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from devcluster import toolchain
from devcluster.cluster import Cluster
from devcluster.toolchain import Tools


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: those on a cluster are told by their fixtures, so no marker can be forgotten."""
    heavy = {"cluster", "stack"}
    for item in items:
        if heavy & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)
    items.sort(key=lambda item: item.get_closest_marker("cluster") is not None)


@pytest.fixture(scope="session")
def tools() -> Tools:
    """Every compiled tool, those only for tests included."""
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


@pytest.fixture(autouse=True)
async def no_forgotten_tasks() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind: in the service it would be work that nobody waits for at the end."""
    before = asyncio.all_tasks()
    yield
    await asyncio.sleep(0)
    own = asyncio.current_task()
    left = {task for task in asyncio.all_tasks() - before if not task.done() and task is not own}
    for task in left:
        task.cancel()
    assert not left, f"tasks left behind: {left}"
