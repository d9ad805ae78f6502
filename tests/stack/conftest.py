"""The real service as a separate process on the real cluster."""

import asyncio
import json
import secrets
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import aiohttp
import pytest
from redis.asyncio import Redis

from service.adapters.kubernetes.api import KubeApi, connect
from service.adapters.kubernetes.workload_cache import KubeWorkloadCache
from service.domain.ports import WorkloadCache
from stack.stack import USERS, Stack
from tests.stack.client import Caller


@pytest.fixture
async def caller(stack: Stack) -> AsyncIterator[Caller]:
    stack.start()  # a test before may have ended it
    timeout = aiohttp.ClientTimeout(total=60)
    connector = aiohttp.TCPConnector(limit=0, force_close=True)  # the service is restarted now and then
    async with aiohttp.ClientSession(timeout=timeout, connector=connector, trust_env=False) as session:
        yield Caller(stack.url, session)
    await asyncio.sleep(0)


@pytest.fixture
async def restarted(stack: Stack, caller: Caller) -> AsyncIterator[Callable[[dict[str, str]], None]]:
    """Restarts the service with other settings; the next test gets the usual ones again."""

    def restart(settings: dict[str, str]) -> None:
        stack.cluster.stop(stack.name)
        other = Stack(stack.cluster, port=stack.port, settings={**stack.settings, **settings}, name=stack.name)
        other.start()

    yield restart
    stack.cluster.stop(stack.name)


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.cluster.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def cache(stack: Stack) -> AsyncIterator[WorkloadCache]:
    """A watch of the test's own, with an administrator's rights."""
    async with await connect(stack.cluster.kubeconfig) as api:
        cache = KubeWorkloadCache(KubeApi(api, timeout=10), namespace=USERS, schedule_timeout=timedelta(minutes=2))
        async with cache.running():
            await cache.wait_synced()
            yield cache


@pytest.fixture
def user() -> str:
    return f"ann-{secrets.token_hex(6)}@example.com"


def releases(stack: Stack) -> dict[str, str]:
    """Helm's own word: release name -> state, of all in the users' namespace."""
    argv = [str(stack.cluster.tools.path("helm")), "list", "-n", USERS, "-o", "json", "--max", "0"]
    argv += ["--kubeconfig", str(stack.cluster.kubeconfig)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    return {release["name"]: release["status"] for release in json.loads(done.stdout)}


def owners(stack: Stack) -> dict[str, str]:
    """Deployment name -> the user it says it belongs to."""
    items = json.loads(stack.cluster.kubectl("-n", USERS, "get", "deployments", "-o", "json"))["items"]
    return {i["metadata"]["name"]: i["metadata"].get("annotations", {}).get("user-pods/user-id", "") for i in items}
