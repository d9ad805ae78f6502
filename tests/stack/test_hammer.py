"""Wakes aimed at the very moment of falling asleep: none is lost, and a pod once woken stays for lease and cooldown.

KEDA's poll that read an empty queue, and writes its 0 after the push, cannot be prevented. Such pods are counted, and
how long it took until they were wanted again. `HAMMER_ROUNDS` sets the wakes per session (`make hammer` does).
"""

import asyncio
import os
import random
import statistics
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field

import pytest

from service.domain.names import SessionId
from service.domain.ports import WorkloadCache
from service.domain.workload import Workload
from stack.stack import Stack
from tests.stack.client import Caller

SESSIONS = 40
ROUNDS = int(os.environ.get("HAMMER_ROUNDS", "5"))
TIMES = {"POLLING_INTERVAL": "2", "LEASE": "6", "COOLDOWN": "2", "HELM_QUEUE": "1000", "LEADER_TERM": "10"}
POLL, LEASE, COOLDOWN = 2.0, 6.0, 2.0
SETTLED = 2.0
"""Seconds after a push until the pod is asked for: a late 0 comes sooner, unless the API server stalls."""
EARLIEST = LEASE - POLL + COOLDOWN - 1
"""Seconds after a push within which a session must not sleep; KEDA's times are in whole seconds."""


@dataclass
class Blows:
    """What became of the wakes."""

    wakes: int = 0
    at_zero: int = 0
    """Wakes that found the pod gone already, as the watch had it; the others came before its end, or in its middle."""
    healed: list[float] = field(default_factory=list)
    """Seconds from KEDA's late 0 until the pod was wanted again."""
    lost: list[str] = field(default_factory=list)
    false_sleeps: list[str] = field(default_factory=list)
    missed_sleeps: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        share, slowest = 100 * len(self.healed) / self.wakes, max(self.healed, default=0)
        median = statistics.median(self.healed or [0])
        return (
            f"{self.wakes} wakes at the moment of falling asleep, {self.at_zero} of them just after it: none lost;"
            f" {len(self.healed)} pods ({share:.1f} %) taken by a late 0,"
            f" wanted again after {1000 * median:.0f} ms (median), {1000 * slowest:.0f} ms (slowest)"
        )


class Session:
    """One session under the hammer, observed by a watch of the test's own."""

    def __init__(self, uuid: SessionId, caller: Caller, cache: WorkloadCache, blows: Blows) -> None:
        self._uuid = uuid
        self._caller = caller
        self._cache = cache
        self._blows = blows
        self._last: Workload = cache.workload(uuid)
        self._looked = 0.0
        """When KEDA was last seen to have found the queue filled."""
        self._delay: float | None = None
        """From that look until KEDA's 0, as it was the last time; it depends on how the polls fall."""
        self._fell: float | None = None
        """When KEDA took the pod although its lease ran; a late 0 when it comes back, else a false sleep."""
        self._pushed = 0.0
        self._news = asyncio.Event()

    def changed(self) -> None:
        now, before, self._last = _now(), self._last, self._cache.workload(self._uuid)
        if self._last.last_active != before.last_active:
            self._looked = now
        if before.replicas and not self._last.replicas:
            if now < self._pushed + EARLIEST:
                self._fell = now
            if now > self._pushed + LEASE:
                self._delay = now - self._looked
        elif self._last.replicas and self._fell is not None:
            self._blows.healed.append(now - self._fell)
            self._fell = None
        self._news.set()

    async def suffer(self, rounds: int) -> None:
        for number in range(rounds):
            self._blows.wakes += 1
            self._blows.at_zero += self._last.replicas == 0
            self._pushed = _now()
            code, body = await self._caller.call("POST", f"/session/{self._uuid}/wake")
            assert code == 202, body
            await self._until_it_stays()
            await self._next_moment(learn=number % 4 == 0)

    async def _until_it_stays(self) -> None:
        """Until the pod is there, and a late 0 is over."""
        try:
            async with asyncio.timeout(60):
                await self._see(lambda: _now() > self._pushed + SETTLED and self._last.ready == 1)
        except TimeoutError:
            self._blows.lost.append(f"{self._uuid}: {self._last}")

    async def _next_moment(self, *, learn: bool) -> None:
        """Wait for the time at which KEDA will write its 0; to `learn` it, let it pass."""
        await asyncio.sleep(max(0, self._pushed + LEASE + 0.1 - _now()))
        if self._fell is not None:
            self._blows.false_sleeps.append(f"{self._uuid} {self._fell - self._pushed:.2f} s after its wake")
            self._fell = None
        if learn or self._delay is None:
            try:
                async with asyncio.timeout(60):
                    await self._see(lambda: self._last.replicas == 0)
            except TimeoutError:
                status = await self._caller.status(self._uuid)
                self._blows.missed_sleeps.append(f"{_now() - self._pushed:.1f} s after the wake: {status} {self._last}")
            return
        moment = self._looked + self._delay + random.gauss(-0.01, 0.03)
        await asyncio.sleep(max(0, moment - _now()))

    async def _see(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), 0.2)
            except TimeoutError:
                continue


@pytest.mark.timeout(300 + ROUNDS * 20)
async def test_no_wake_is_lost_at_the_moment_of_falling_asleep(
    stack: Stack, caller: Caller, cache: WorkloadCache, user: str, restarted: Callable[[dict[str, str]], None]
) -> None:
    restarted(TIMES)
    answers = await asyncio.gather(*(caller.create(f"{number}-{user}") for number in range(SESSIONS)))
    blows = Blows()
    sessions = {SessionId(body["uuid"]): body for _, body in answers}
    hit = {uuid: Session(uuid, caller, cache, blows) for uuid in sessions}
    unsubscribe = cache.subscribe(lambda uuid: hit[uuid].changed() if uuid in hit else None)
    try:
        await asyncio.gather(*(_later(session.suffer(ROUNDS)) for session in hit.values()))
    finally:
        unsubscribe()
    print(blows)  # noqa: T201 - what `make hammer` is for
    assert blows.lost == []
    assert blows.false_sleeps == []
    assert blows.missed_sleeps == []
    assert max(blows.healed, default=0) < 10, "a late 0 waits for its healing longer than any stall explains"
    assert blows.at_zero < blows.wakes, "no wake came before the end of a pod: the hammer does not aim"


async def _later(work: Coroutine[None, None, None]) -> None:
    """Spread the sessions over a poll, so that they do not beat in step."""
    await asyncio.sleep(random.random())  # noqa: S311
    await work


def _now() -> float:
    return asyncio.get_running_loop().time()
