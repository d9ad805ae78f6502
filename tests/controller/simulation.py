"""A small model of KEDA over the fakes, and gates that let a test choose the order of all calls."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from service.controller.leadership import Leadership
from service.controller.reconciler import Reconciler
from service.domain.idle_times import IdleTimes
from service.domain.names import SessionId
from service.domain.queue_state import QueueState
from service.domain.record import Record, RecordStatus
from service.domain.release import Release, ReleaseState
from service.domain.workload import ScaledBy, Workload
from tests.fakes import MemoryCluster, MemoryQueues

UUID = SessionId("abc123xy")
IDLE_TIMES = IdleTimes(lease=timedelta(seconds=15), cooldown=timedelta(seconds=20), poll=timedelta(seconds=5))
START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Clock:
    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Keda:
    """What KEDA does with one ScaledObject, as docs/decisions/0004-parking.md describes it.

    `poll` and `scale` are separate: anything may happen between them, and KEDA writes all the same.
    """

    cluster: MemoryCluster
    queues: MemoryQueues
    clock: Clock
    polling: bool = False
    """Whether its polling loop runs, which starts when it sees that the session is not parked."""
    seen: bool | None = None
    """The result of the last poll that KEDA has not acted on yet."""

    @property
    def workload(self) -> Workload:
        return self.cluster.workload(UUID)

    def reconcile(self) -> None:
        """Start or stop polling; an unparked ScaledObject is polled at once."""
        started = not self.polling and self.workload.polled
        self.polling = self.workload.polled
        if started:
            self.poll()

    def poll(self) -> None:
        if self.polling and self.seen is None:
            self.seen = self.queues.queue(UUID).tokens > 0

    def scale(self) -> None:
        active, self.seen = self.seen, None
        last = self.workload.last_active
        if active:
            replicas = max(1, self.workload.replicas)
            self.cluster.change(
                replace(self.workload, replicas=replicas, last_active=self.clock().replace(microsecond=0))
            )
        elif active is False and (last is None or self.clock() - last >= IDLE_TIMES.cooldown):
            asleep = replace(self.workload, replicas=0, ready=0, failure=None, final=False, scaled_by=ScaledBy.KEDA)
            self.cluster.change(asleep)


def asleep(*, parked: bool = True) -> Workload:
    """A session right after its install."""
    release = Release(f"user-{UUID}", 1, ReleaseState.DEPLOYED, START)
    return Workload(
        UUID,
        user_id="ann",
        release=release,
        deployed=True,
        has_scaler=True,
        parked=parked,
        idle_times=IDLE_TIMES,
        chart="user-pod-0",
    )


class Gates:
    """Blocks every call of a port until the test lets it pass. One `Gates` is one process of the service."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.open = False

    def behind(self, port: Any, methods: Sequence[str]) -> Any:
        """The port with gates before and after each of the methods."""
        return _Gated(port, {name: partial(self._call, getattr(port, name)) for name in methods})

    async def _call(self, method: Callable[..., Awaitable[Any]], *arguments: Any) -> Any:
        await self._pass()
        result = await method(*arguments)
        await self._pass()
        return result

    async def _pass(self) -> None:
        if not self.open:
            gate = asyncio.get_running_loop().create_future()
            self.waiting.append(gate)
            await gate

    def let(self, index: int) -> None:
        gate = self.waiting.pop(index % len(self.waiting))
        if not gate.done():
            gate.set_result(None)

    def let_all(self) -> None:
        self.open = True
        while self.waiting:
            self.let(0)


class _Gated:
    def __init__(self, port: Any, methods: dict[str, Any]) -> None:
        self._port = port
        self._methods = methods

    def __getattr__(self, name: str) -> Any:
        return self._methods.get(name) or getattr(self._port, name)


@dataclass
class _SkewedQueues:
    """The queues as seen by a replica whose clock is wrong: it computes the end of a lease from the remaining time."""

    queues: MemoryQueues
    process: "Process"

    async def read(self, uuids: Sequence[SessionId]) -> Mapping[SessionId, QueueState]:
        found = await self.queues.read(uuids)
        ahead = self.process.ahead
        return {u: replace(p, lease_until=p.lease_until and p.lease_until + ahead) for u, p in found.items()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.queues, name)


@dataclass
class Process:
    """One replica's reconciler, whose calls the gates block."""

    cluster: MemoryCluster
    queues: MemoryQueues
    clock: Clock
    leading: bool
    ahead: timedelta = timedelta(0)
    """How far the replica's clock is ahead of Redis and KEDA."""
    gates: Gates = field(default_factory=Gates)

    def __post_init__(self) -> None:
        self.reconciler = Reconciler(
            queues=self.gates.behind(_SkewedQueues(self.queues, self), ("read", "renew", "settle")),
            cluster=self.gates.behind(self.cluster, ("scale", "park", "unpark")),
            cache=self.cluster,
            idle_times=IDLE_TIMES,
            parks_per_second=1e6,
            unparks_per_second=1e6,
            defer_unparks=timedelta(0),
            leadership=Leadership(held=self.leading),
            clock=lambda: self.clock() + self.ahead,
        )
        self.task = asyncio.ensure_future(self.reconciler.run())

    async def crash(self) -> None:
        """End it wherever it is; blocked calls do not happen any more."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.gates.waiting.clear()


def record() -> Record:
    return Record(UUID, "ann", RecordStatus.CREATED, START)
