"""One fault from beginning to end: load, fault, healing, and the audit."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from typing import Any

from faults.calls import Operation, Rules
from faults.ledger import Ledger
from faults.load import Load
from faults.system import TIMES, Replica, System

_WARM = 2.0
"""Seconds of load before a fault begins."""
_HEALING = 90.0
"""Seconds after which a fault counts as not healed."""
_OWED = 15.0
"""Seconds that accepted calls may take after that."""
_LEFTOVERS = 30.0
"""Seconds until background work of the service is finished."""
_MARGIN = 8.0
"""Seconds of tolerance after the latest time of falling asleep, for a busy machine."""
_LOOK = 0.1
_AGAIN = 0.5
"""Seconds after which a wake is repeated if a replica does not show its pod."""

Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`during` is a context manager: the fault begins on entry and ends on exit."""

    name: str
    rules: Callable[[], Rules]
    during: Callable[[System, Load], AbstractAsyncContextManager[None]]
    hold: float = 8.0
    """Seconds between its beginning and its end."""


@dataclass(kw_only=True)
class Row:
    """The result of one trial."""

    fault: str
    operations: int
    """Calls from the fault's beginning until it was healed."""
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    healed: float | None
    """Seconds from the fault's end until every operation was right on both replicas; None: never."""
    lasted: float
    """Seconds from the fault's beginning to its end."""
    right: dict[str, float] = field(default_factory=dict)
    """The same for each operation."""
    late_zeros: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing was lost or wrong, and everything has recovered."""
        return not self.lost and not self.wrong and self.healed is not None

    def plain(self) -> dict[str, Any]:
        return asdict(self)


async def trial(system: System, fault: Fault, tell: Tell) -> Row:
    """Run the trial. Afterwards the system is as before."""
    system.ledger = ledger = Ledger(TIMES)
    system.observer.replay()
    load = Load(system)
    healing = Healing(system)
    await asyncio.gather(load.prepare(), healing.prepare())
    ledger.rules = fault.rules()
    load.start()
    await asyncio.sleep(_WARM)
    before, began = ledger.calls, time.monotonic()
    tell("begins")
    async with fault.during(system, load):
        await asyncio.sleep(fault.hold)
    ended = time.monotonic()
    tell(f"is over after {ended - began:.0f} s and {ledger.calls - before} operations")
    whole = await healing.wait()
    healed = max(healing.right.values()) - ended if whole else None
    await load.stop()
    operations = ledger.calls - before
    tell(
        "never healed" if healed is None else f"healed after {healed:.1f} s; waiting for accepted calls to take effect"
    )
    await load.finish(_OWED)
    await settle(system, ledger)
    await system.settled.aclose()
    return Row(
        fault=fault.name,
        operations=operations,
        lost=ledger.lost,
        wrong=ledger.wrong,
        bad=ledger.bad,
        healed=healed,
        lasted=ended - began,
        right={name: round(at - ended, 2) for name, at in healing.right.items()},
        late_zeros=ledger.late_zeros,
    )


async def settle(system: System, ledger: Ledger) -> None:
    """Wait until every promise is kept and every pod sleeps or should, and compare the ledger with the final state."""
    await system.seen(lambda: not ledger.owed(), _OWED)
    await system.seen(lambda: not ledger.awake(), TIMES.asleep + _MARGIN)
    deadline = time.monotonic() + _LEFTOVERS
    snapshot = await system.snapshot(ledger)
    while ledger.unfinished(snapshot) and time.monotonic() < deadline:
        await asyncio.sleep(1)
        snapshot = await system.snapshot(ledger)
    ledger.close(snapshot)


class Healing:
    """Calls every operation on both replicas until each answer and its effect are right."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._probes = {replica.name: system.user("probe") for replica in system.replicas}
        self.right: dict[str, float] = {}
        """Operation -> when it was first right on both replicas."""

    async def prepare(self) -> None:
        """Create one session per replica, to wake."""
        for user in self._probes.values():
            while not (await self._system.call(Operation.CREATE, user)).accepted:  # noqa: ASYNC110 - asked each time
                await asyncio.sleep(_LOOK)

    async def wait(self) -> bool:
        """Whether everything was right in time."""
        try:
            async with asyncio.timeout(_HEALING):
                await asyncio.gather(*(self._all(replica) for replica in self._system.replicas))
        except TimeoutError:
            return False
        return True

    async def _all(self, replica: Replica) -> None:
        await asyncio.gather(self._good(replica, Operation.HEALTH), self._made(replica), self._used(replica))

    async def _made(self, replica: Replica) -> None:
        user = self._system.user("probe")
        await self._good(replica, Operation.CREATE, user)
        await self._good(replica, Operation.DELETE, user)

    async def _used(self, replica: Replica) -> None:
        user = self._probes[replica.name]
        uuid = self._system.ledger.account(user).uuid

        def ready() -> bool:
            seen = self._system.ledger.now(uuid)
            return seen is not None and seen.ready > 0

        async def shown() -> bool:
            call = await self._system.call(Operation.STATUS, user, at=replica)
            return call.accepted and call.body["phase"] == "ready" and call.body["behind_seconds"] is None

        # Wake repeatedly: a replica that is behind may see the pod only after the first wake has expired.
        while True:
            await self._good(replica, Operation.WAKE, user)
            if await self._system.seen(ready, 5) and await shown():
                break
            await asyncio.sleep(_AGAIN)
        self._note("ready")
        self._note(Operation.STATUS)
        await self._good(replica, Operation.ACTIVITY, user)
        await self._good(replica, Operation.LIST, user)
        await self._good(replica, Operation.SLEEP, user)

    async def _good(self, replica: Replica, operation: Operation, user: str = "") -> None:
        who = user or self._probes[replica.name]
        while not await self._accepted(replica, operation, who):  # noqa: ASYNC110 - it is asked again each time
            await asyncio.sleep(_LOOK)
        self._note(operation)

    async def _accepted(self, replica: Replica, operation: Operation, user: str) -> bool:
        return replica.down_since is None and (await self._system.call(operation, user, at=replica)).accepted

    def _note(self, what: str) -> None:
        self.right[str(what)] = time.monotonic()
