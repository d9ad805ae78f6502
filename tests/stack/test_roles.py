"""API and controller as separate processes, on one cluster and one Redis."""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator

import aiohttp
import pytest

from stack.demo import free_port
from stack.stack import Stack
from tests.stack.client import Caller

Restart = Callable[[dict[str, str]], None]


@pytest.fixture
def api(stack: Stack, restarted: Restart) -> Iterator[Stack]:
    """A process of role api beside one of role controller."""
    restarted({"ROLE": "controller"})
    api = Stack(stack.cluster, port=free_port(), settings={**stack.settings, "ROLE": "api"}, name="api")
    api.start()
    yield api
    stack.cluster.stop(api.name)


@pytest.fixture
async def api_caller(api: Stack) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield Caller(api.url, session)


async def test_a_wake_accepted_by_an_api_process_is_carried_out_by_the_controller(
    stack: Stack, api_caller: Caller, record_property: Callable[[str, object], None]
) -> None:
    code, created = await api_caller.create(f"ann-{secrets.token_hex(6)}@example.com")
    assert code == 201
    uuid = created["uuid"]
    await api_caller.until(uuid, "asleep")
    began = time.monotonic()
    assert (await api_caller.call("POST", f"/session/{uuid}/wake"))[0] == 202
    await api_caller.until(uuid, "ready", 10)
    record_property("seconds to ready", round(time.monotonic() - began, 2))
    assert (await api_caller.call("POST", f"/session/{uuid}/sleep"))[0] == 202
    await api_caller.until(uuid, "asleep")
    async with aiohttp.ClientSession(trust_env=False) as session:
        assert (await Caller(stack.url, session).call("GET", "/sessions"))[0] == 404
