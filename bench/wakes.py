"""Wakes: one at a time, and 200 at once, each beside bare scales of the same pods."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from bench.figures import Figure
from bench.ground import Ground

CROWD = 200
_LEASE = 30
"""Seconds that a bare push lasts: more than two polls of plain KEDA."""
_REST = (0.1, 1.1)
"""Seconds between two wakes, at random, so that they meet a poll at every moment."""


async def singly(ground: Ground, rounds: int, *, parked: bool) -> list[Figure]:
    """`rounds` of each kind in random order: wakes by the service, or bare pushes to plain KEDA; and bare scales."""
    answered, ready, scales = [], [], []
    order = ["wake", "scale"] * rounds
    random.shuffle(order)
    for kind in order:
        await asyncio.sleep(random.uniform(*_REST))  # noqa: S311
        began = time.perf_counter()
        if kind == "scale":
            name = random.choice(ground.bare)  # noqa: S311
            await ground.scale(name, 1)
            scales.append(await ground.arrivals.ready(name) - began)
            await ground.put_to_sleep([], [name])
        else:
            uuid = random.choice(ground.herd.uuids)  # noqa: S311
            await (_wake if parked else _push)(ground, uuid)
            answered.append(time.perf_counter() - began)
            ready.append(await ground.arrivals.ready(uuid) - began)
            await ground.put_to_sleep([uuid])
    size = len(ground.herd.uuids)
    beside = "parked" if parked else "plain KEDA"
    floor = Figure(f"bare scale to ready, beside {beside}", size, "s", scales)
    name = "wake call to ready" if parked else "plain KEDA, push to ready"
    figures = [Figure.against(floor, name, ready), floor]
    return [Figure("wake call answered", size, "s", answered), *figures] if parked else figures


async def crowd(ground: Ground, rounds: int, *, parked: bool) -> list[Figure]:
    """The last of 200 to get ready, against the last of the same 200 bare scales."""
    wakes: list[float] = []
    scales: list[float] = []
    for _ in range(rounds):
        uuids = random.sample(ground.herd.uuids, CROWD)
        kinds: list[tuple[list[float], list[str], Callable[[str], Awaitable[None]]]] = [
            (wakes, uuids, lambda uuid: (_wake if parked else _push)(ground, uuid)),
            (scales, ground.bare[:CROWD], lambda name: ground.scale(name, 1)),
        ]
        random.shuffle(kinds)
        for found, names, act in kinds:
            found.append(await _last(ground, names, act))
            await ground.put_to_sleep(*([names] if found is wakes else [[], names]))
            await asyncio.sleep(CROWD / 50 + 3)  # until those of them that are parked again, are
    size = len(ground.herd.uuids)
    floor = Figure(f"{CROWD} bare scales, beside {'parked' if parked else 'plain KEDA'}, last ready", size, "s", scales)
    name = f"{CROWD} wakes at once, last ready" if parked else f"plain KEDA, {CROWD} pushes at once, last ready"
    return [Figure.against(floor, name, wakes), floor]


async def _last(ground: Ground, names: list[str], act: Callable[[str], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(act(name) for name in names))
    return max(await asyncio.gather(*(ground.arrivals.ready(name) for name in names))) - began


async def _wake(ground: Ground, uuid: str) -> None:
    await ground.call("POST", f"/session/{uuid}/wake")


async def _push(ground: Ground, uuid: str) -> None:
    async with ground.redis.pipeline(transaction=True) as pipe:
        await pipe.rpush(f"queue:{uuid}", "wake").expire(f"queue:{uuid}", _LEASE).execute()
