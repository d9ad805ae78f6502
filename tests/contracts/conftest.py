"""Redis servers of these tests' own, so that they may be emptied: the one at hand, and 6.2, the oldest supported."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from devcluster import components
from devcluster.errors import DevclusterError
from devcluster.processes import Processes, Program, environment
from service.adapters.redis.audit_trail import RedisAuditTrail
from service.adapters.redis.client import connected
from service.adapters.redis.companions import RedisCompanions
from service.adapters.redis.diagnoses import RedisDiagnoses
from service.adapters.redis.history import RedisHistory
from service.adapters.redis.inspection import RedisInspector
from service.adapters.redis.measured_wakes import RedisMeasuredWakes
from service.adapters.redis.progress import RedisProgress
from service.adapters.redis.queues import RedisQueues
from service.adapters.redis.rollouts import RedisRollouts
from service.adapters.redis.shared_levels import RedisSharedLevels
from service.adapters.redis.sign_outs import RedisSignOuts
from service.adapters.redis.store import RedisStore
from service.adapters.redis.tickets import RedisTickets
from service.domain.audit import AuditTrail
from service.domain.diagnosis.ports import Diagnoses, RedisInspection
from service.domain.ports import Companions, History, Progress, Queues, Rollouts, SignOuts, Store, Tickets
from service.domain.rate_limits import SharedLevels
from service.domain.wake_times import MeasuredWakes
from tests.conftest import free_port
from tests.fakes import (
    MemoryAuditTrail,
    MemoryCompanions,
    MemoryDiagnoses,
    MemoryHistory,
    MemoryMeasuredWakes,
    MemoryProgress,
    MemoryQueues,
    MemoryRedisInspector,
    MemoryRollouts,
    MemorySharedLevels,
    MemorySignOuts,
    MemoryStore,
    MemoryTickets,
)


@dataclass
class Kept:
    """Everything that is kept in Redis, on the same one, or on none."""

    store: Store
    queues: Queues
    progress: Progress
    tickets: Tickets
    sign_outs: SignOuts
    history: History
    companions: Companions
    levels: SharedLevels
    audit: AuditTrail
    measured: MeasuredWakes
    inspector: RedisInspection
    rollouts: Rollouts
    diagnoses: Diagnoses


@pytest.fixture(scope="session")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    processes = Processes(tmp_path_factory.mktemp("redis"))
    found: dict[str, int] = {}
    try:
        for which in ("system", "wheel"):
            with contextlib.suppress(DevclusterError):
                found[which] = _start(processes, which, components.redis_server(which))
        yield found
    finally:
        for which in found:
            processes.stop(which)


def _start(processes: Processes, which: str, server: Path) -> int:
    port = free_port()
    argv = [str(server), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    program = Program(which, argv, environment(), lambda: _answers(port))
    processes.start(program)
    processes.wait(program)
    return port


@pytest.fixture(params=["system", "wheel"])
def redis_port(request: pytest.FixtureRequest, ports: dict[str, int]) -> int:
    if request.param not in ports:
        pytest.skip("no redis-server on PATH; the wheel's alone is tested")
    return ports[request.param]


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


@pytest.fixture(params=["memory", "system", "wheel"])
async def kept(request: pytest.FixtureRequest, ports: dict[str, int]) -> AsyncIterator[Kept]:
    if request.param == "memory":
        queues, memory = MemoryQueues(index_is_complete=True), MemoryProgress()
        past = MemoryHistory(queues.sessions)
        sessions = MemoryStore(queues, memory, past)
        yield Kept(
            sessions,
            queues,
            memory,
            MemoryTickets(),
            MemorySignOuts(),
            past,
            MemoryCompanions(),
            MemorySharedLevels(),
            MemoryAuditTrail(kept=100),
            MemoryMeasuredWakes(kept=100),
            MemoryRedisInspector(queues),
            MemoryRollouts(),
            MemoryDiagnoses(),
        )
        return
    if request.param not in ports:
        pytest.skip("no redis-server on PATH; the wheel's alone is tested")
    async with connected(f"redis://127.0.0.1:{ports[request.param]}/0", call_timeout=5) as redis:
        await redis.flushall()
        store = RedisStore(redis)
        await store.mark_index_complete()
        progress = RedisProgress(redis)
        sign_outs = RedisSignOuts(redis)
        listening = [asyncio.create_task(each.run()) for each in (progress, sign_outs)]
        tickets, history, companions = RedisTickets(redis), RedisHistory(redis), RedisCompanions(redis)
        levels, audit = RedisSharedLevels(redis), RedisAuditTrail(redis, kept=100)
        measured, rollouts = RedisMeasuredWakes(redis, kept=100), RedisRollouts(redis)
        wakes, inspector = RedisQueues(redis), RedisInspector(redis)
        yield Kept(
            store,
            wakes,
            progress,
            tickets,
            sign_outs,
            history,
            companions,
            levels,
            audit,
            measured,
            inspector,
            rollouts,
            RedisDiagnoses(redis),
        )
        for each in listening:
            each.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
