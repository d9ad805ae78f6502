"""A replica is restarted under load, behind a balancer that looks at /readyz: no request is lost."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from stack.stack import Stack
from tests.conftest import free_port
from tests.stack.client import Caller

_LOOK = 0.1
"""Seconds between two looks of the balancer. The replicas drain for ten times as long."""
_CLIENTS = 8


@dataclass
class Balancer:
    """Passes each connection on to one of the replicas that were ready at the last look."""

    ports: list[int]
    ready: set[int] = field(default_factory=set)
    taken: int = 0
    connections: set["asyncio.Task[None]"] = field(default_factory=set)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        async with aiohttp.ClientSession(trust_env=False, timeout=aiohttp.ClientTimeout(total=1)) as http:
            looks = asyncio.create_task(self._follow(http))
            async with server:
                yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
                server.close()
            for task in (looks, *self.connections):
                task.cancel()
            await asyncio.gather(looks, *self.connections, return_exceptions=True)

    async def _follow(self, http: aiohttp.ClientSession) -> None:
        while True:
            for port in self.ports:
                await self._look(http, port)
            await asyncio.sleep(_LOOK)

    async def _look(self, http: aiohttp.ClientSession, port: int) -> None:
        self.ready.discard(port) if await self._status(http, port) != 200 else self.ready.add(port)

    async def _status(self, http: aiohttp.ClientSession, port: int) -> int:
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
                return answer.status
        return 0

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        task.add_done_callback(self.connections.discard)
        self.taken += 1
        with contextlib.closing(writer):
            ready = sorted(self.ready)
            if not ready:
                return
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", ready[self.taken % len(ready)])
            with contextlib.closing(there_writer):
                ways = [_pump(reader, there_writer), _pump(there_reader, writer)]
                tasks = [asyncio.ensure_future(way) for way in ways]
                try:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for each in tasks:
                        each.cancel()
                    await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()


@pytest.fixture
def replicas(stack: Stack) -> Iterator[list[Stack]]:
    settings = {**stack.settings, "DRAIN_SECONDS": "1"}
    pair = [Stack(stack.cluster, port=free_port(), settings=settings, name=name) for name in ("rolling-a", "rolling-b")]
    for each in pair:
        each.start()
    yield pair
    for each in pair:
        stack.cluster.stop(each.name)


@pytest.mark.parametrize("keeps", [False, True], ids=["new connections", "kept connections"])
async def test_a_replica_that_is_restarted_loses_no_request(
    stack: Stack, caller: Caller, replicas: list[Stack], user: str, *, keeps: bool
) -> None:
    uuid = (await caller.create(user))[1]["uuid"]
    balancer, answers, failures = Balancer([each.port for each in replicas]), Counter[int](), []
    restarted = asyncio.Event()

    async def load(url: str, http: aiohttp.ClientSession) -> None:
        while not restarted.is_set():
            for method, path in (("POST", f"/session/{uuid}/wake"), ("GET", f"/session/{uuid}/status")):
                try:
                    async with http.request(method, url + path) as answer:
                        await answer.read()
                        answers[answer.status] += 1
                except (aiohttp.ClientError, TimeoutError) as error:
                    failures.append(repr(error))
            await asyncio.sleep(0.02)

    connector = aiohttp.TCPConnector(force_close=not keeps, limit=0)
    async with balancer.open() as url, aiohttp.ClientSession(connector=connector, trust_env=False) as http:
        async with asyncio.timeout(30):
            while len(balancer.ready) < 2:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.05)
        clients = [asyncio.create_task(load(url, http)) for _ in range(_CLIENTS)]
        for each in replicas:
            await asyncio.to_thread(stack.cluster.stop, each.name)
            await asyncio.to_thread(each.start)
        restarted.set()
        await asyncio.gather(*clients)
    assert not failures
    assert set(answers) == {200, 202}
    assert answers[202] > 50
