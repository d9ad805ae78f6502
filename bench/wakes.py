"""Wakes: one at a time, and 200 at once, each compared with bare scales of the same pods."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial

from bench.figures import Figure
from bench.ground import Ground

CROWD = 200
_LEASE = 30
"""Expiry of a bare push in seconds: more than two polls of plain KEDA."""
_REST = (0.1, 1.1)
"""Random pause between two wakes, so that they are spread over KEDA's polling interval."""


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
    label = "parked" if parked else "plain KEDA"
    floor = Figure(f"{label}: bare scale beside, to ready", size, "s", scales)
    return [
        Figure(f"{label}: wake answered", size, "s", answered),
        Figure.against(floor, f"{label}: wake to ready", ready),
        floor,
    ]


async def crowd(ground: Ground, rounds: int, *, parked: bool) -> list[Figure]:
    """The last of 200 pods to become ready, compared with 200 bare scales; and the API requests of one wake."""
    wakes: list[float] = []
    scales: list[float] = []
    requests: list[float] = []
    kedas: list[float] = []
    for _ in range(rounds):
        for kind in random.sample([wakes, scales], 2):
            before = await ground.api.requests(), await ground.metrics.keda_requests()
            if kind is wakes:
                uuids = random.sample(ground.herd.uuids, CROWD)
                wakes.append(await _last(ground, uuids, partial(_wake if parked else _push, ground)))
                await asyncio.sleep(CROWD / 20 + 5)  # until the last of them is unparked, which also costs requests
                await ground.put_to_sleep(uuids)
            else:
                scales.append(await _last(ground, ground.bare[:CROWD], partial(ground.scale, replicas=1)))
                await ground.put_to_sleep([], ground.bare[:CROWD])
            await asyncio.sleep(CROWD / 50 + 3)  # until all of them are parked again
            if kind is wakes:
                requests.append((await ground.api.requests() - before[0]) / CROWD)
                kedas.append((await ground.metrics.keda_requests() - before[1]) / CROWD)
    size, label = len(ground.herd.uuids), "parked" if parked else "plain KEDA"
    floor = Figure(f"{label}: {CROWD} bare scales beside, last ready", size, "s", scales)
    return [
        Figure.against(floor, f"{label}: {CROWD} wakes at once, last ready", wakes),
        floor,
        Figure(f"{label}: API requests per wake and sleep", size, "", requests),
        Figure(f"{label}: of these by KEDA", size, "", kedas),
    ]


async def _last(ground: Ground, names: list[str], act: Callable[[str], Awaitable[None]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(act(name) for name in names))
    return max(await asyncio.gather(*(ground.arrivals.ready(name) for name in names))) - began


async def _wake(ground: Ground, uuid: str) -> None:
    await ground.call("POST", f"/session/{uuid}/wake")


async def _push(ground: Ground, uuid: str) -> None:
    async with ground.redis.pipeline(transaction=True) as pipe:
        await pipe.rpush(f"queue:{uuid}", "wake").expire(f"queue:{uuid}", _LEASE).execute()
