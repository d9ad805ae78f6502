"""Users with recorded patterns on real KEDA: no false sleep (asleep while active), no missed sleep (awake while idle).

Never asleep before last activity + cooldown; asleep by last activity + lease + cooldown + poll + 2 s. The patterns are
the seconds between two signs of life; the long pauses lie just below the first limit and just above the second.
"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from service.domain.names import SessionId
from service.domain.ports import WorkloadCache
from stack.stack import Stack
from tests.stack.client import Caller

LEASE, COOLDOWN, POLL = 4.0, 3.0, 1.0
"""As in tests.conftest.SHORT."""
BELOW = COOLDOWN + LEASE - POLL - 1.5
"""A pause without a sleep: KEDA's last read of the queue is up to a poll old and rounded down to a second."""
ABOVE = LEASE + COOLDOWN + POLL + 2 + 1.5
"""A pause after which the pod must be gone."""

PATTERNS: dict[str, list[float]] = {
    "steady": [1.0] * 60,
    "every few seconds": [3.0] * 20,
    "bursts": [0.2, 0.2, 0.2, 0.2, BELOW] * 9,
    "just below the limit": [BELOW] * 10,
    "just above the limit": [ABOVE] * 5,
    "now below, now above": [BELOW, ABOVE, BELOW, BELOW, ABOVE, 0.5, 0.5, ABOVE],
    "once and never again": [],
}
KINDS = ("wake", "activity")


@dataclass
class User:
    """One user: wakes when asleep, else gives signs of life of one kind; watched from outside all the while."""

    uuid: SessionId
    pauses: list[float]
    kind: str
    caller: Caller
    signs: list[float] = field(default_factory=list)
    """When the service had taken each sign of life."""
    sleeps: list[float] = field(default_factory=list)
    """When the pod was seen to be wanted no more."""
    rises: list[float] = field(default_factory=list)
    """When it was seen to be wanted again."""

    async def live(self) -> None:
        await self._sign("wake")
        for pause in self.pauses:
            await asyncio.sleep(pause)
            await self._sign(self.kind)

    async def _sign(self, kind: str) -> None:
        body: dict[str, Any] | None = None if kind == "wake" else {"source": "typing"}
        code, problem = await self.caller.call("POST", f"/session/{self.uuid}/{kind}", body)
        if code == 409 and problem["type"] == "/problems/session-asleep":
            code, problem = await self.caller.call("POST", f"/session/{self.uuid}/wake")
        assert code == 202, problem
        self.signs.append(time.monotonic())

    def false_sleeps(self) -> list[str]:
        """Sleeps earlier than the last sign of life before them plus the cooldown.

        A 0 that KEDA decided on before a sign of life, and that was healed, is none: test_hammer.py counts those.
        """
        found = []
        for sleep in self.sleeps:
            before = max(sign for sign in self.signs if sign <= sleep)
            healed = [rise for rise in self.rises if sleep < rise < sleep + POLL]
            if sleep - before < COOLDOWN and not (sleep - before < POLL + 1 and healed):
                found.append(f"{self.uuid} ({self.kind}) slept {sleep - before:.2f} s after an activity")
        return found

    def missed_sleeps(self) -> list[str]:
        """Pauses longer than the second limit without a sleep in time."""
        found = []
        for sign, following in zip(self.signs, [*self.signs[1:], time.monotonic()], strict=True):
            limit = sign + LEASE + COOLDOWN + POLL + 2
            if following > limit + 1.2 and not [sleep for sleep in self.sleeps if sign < sleep < limit + 1]:
                found.append(f"{self.uuid} ({self.kind}) did not sleep within {limit - sign:.1f} s")
        return found


@pytest.mark.timeout(240)
async def test_active_sessions_stay_awake_and_idle_ones_fall_asleep(
    stack: Stack, caller: Caller, cache: WorkloadCache, user: str
) -> None:
    wanted = [(pauses, kind) for pauses in PATTERNS.values() for kind in KINDS]
    answers = await asyncio.gather(*(caller.create(f"{number}-{user}") for number in range(len(wanted))))
    users = {
        SessionId(body["uuid"]): User(SessionId(body["uuid"]), pauses, kind, caller)
        for (_, body), (pauses, kind) in zip(answers, wanted, strict=True)
    }
    awake: set[SessionId] = set()

    def changed(uuid: SessionId) -> None:
        if uuid not in users:
            return
        if cache.workload(uuid).replicas and uuid not in awake:
            awake.add(uuid)
            users[uuid].rises.append(time.monotonic())
        elif uuid in awake and not cache.workload(uuid).replicas:
            awake.remove(uuid)
            users[uuid].sleeps.append(time.monotonic())

    unsubscribe = cache.subscribe(changed)
    try:
        await asyncio.gather(*(each.live() for each in users.values()))
        await asyncio.sleep(ABOVE + 1)
    finally:
        unsubscribe()
    signs = sum(len(each.signs) for each in users.values())
    sleeps = sum(len(each.sleeps) for each in users.values())
    false = [words for each in users.values() for words in each.false_sleeps()]
    missed = [words for each in users.values() for words in each.missed_sleeps()]
    print(f"{signs} signs of life, {sleeps} sleeps: {len(false)} false, {len(missed)} missed")  # noqa: T201
    assert (false, missed) == ([], [])
    assert sleeps >= len(users), "hardly anybody slept: nothing was tried"
