"""`make bench-peers`: JupyterHub with KubeSpawner beside this project's gateway, on one cluster with real pods.

Both wake a pod of the same image on a visit. By turns in random order, with the floor, the bare scale of such a pod.
Trust the ratios, not the seconds.
"""

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import aiohttp
import typer
import uvloop

from bench import jupyterhub
from bench.figures import Figure, save, show
from bench.ground import Ground, lacks_for_real_pods, real_pods
from bench.jupyterhub import Guest, JupyterHub
from bench.visits import CROWD, REST, Visitor, by_person, get, issue_link, scale, timed
from stack.stack import Stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_CALM = 5
"""Seconds of rest before a burst."""


@app.command()
def main(
    rounds: Annotated[int, typer.Option(help="Visits of each kind.")] = 20,
    crowds: Annotated[int, typer.Option(help=f"Times that {CROWD} visit at once, of each kind.")] = 3,
    state: Annotated[Path, typer.Option(help="Folder of the benchmark's own cluster.")] = Path(".cluster-bench"),
    output: Annotated[Path, typer.Option(help="Path of the JSON output.")] = Path("bench/results/peers.json"),
) -> None:
    if lacks := [*jupyterhub.missing(), *lacks_for_real_pods()]:
        raise typer.BadParameter(f"nothing can be measured here; that needs {', '.join(lacks)}")
    facts = {"cores": os.cpu_count(), "pods": "real, the tiny workspace", **jupyterhub.versions()}
    figures = _measured(state, rounds, crowds)
    save(figures, facts=facts, path=output)
    show(figures, facts=facts)
    print(f"as JSON: {output}")


def _measured(state: Path, rounds: int, crowds: int) -> list[Figure]:
    with real_pods(state) as stack:
        try:
            return uvloop.run(_side_by_side(stack, rounds, crowds))
        except Exception:
            print(stack.cluster.tail("hub"))  # which goes with the cluster
            raise


async def _side_by_side(stack: Stack, rounds: int, crowds: int) -> list[Figure]:
    async with Ground.prepared(stack, bare=CROWD) as ground:
        hub = JupyterHub(stack.cluster, await ground.pod())
        await asyncio.to_thread(hub.up)
        visitors = [await issue_link(ground, number) for number in range(CROWD)]
        await ground.put_to_sleep([each.uuid for each in visitors])
        async with _guests(hub) as guests:
            ways = _ways(ground, visitors, guests)
            print("visits, one at a time", flush=True)
            figures = await _single(ways, rounds)
            print(f"{CROWD} visits at once", flush=True)
            return figures + await _crowded([way for way in ways if way.crowds], crowds)


@dataclass(frozen=True)
class _Way:
    """One route to pods; there are as many pods as visitors in a crowd."""

    name: str
    wake: Callable[[int], Awaitable[object]]
    """Visit the pod with this number, until its first 200."""
    end: Callable[[Sequence[int]], Awaitable[object]]
    """End the pods with these numbers, and wait until they are gone."""
    crowds: bool = True


def _ways(ground: Ground, visitors: Sequence[Visitor], guests: Sequence[Guest]) -> list[_Way]:
    """The floor first."""

    async def leave(numbers: Sequence[int]) -> None:
        await asyncio.gather(*(guests[number].leave() for number in numbers))
        await asyncio.gather(*(ground.arrivals.gone(guests[number].name) for number in numbers))

    async def sleep(numbers: Sequence[int]) -> None:
        await ground.put_to_sleep([visitors[number].uuid for number in numbers])

    async def fall(numbers: Sequence[int]) -> None:
        await ground.put_to_sleep([], [ground.bare[number] for number in numbers])

    return [
        _Way("bare scale", lambda number: scale(ground, ground.bare[number]), fall),
        _Way("gateway, by a program", lambda number: get(ground, visitors[number], "/"), sleep),
        _Way("gateway, by a person", lambda number: by_person(ground, visitors[number]), sleep, crowds=False),
        _Way("JupyterHub, by a program", lambda number: guests[number].visit_by_program(), leave),
        _Way("JupyterHub, by a person", lambda number: guests[number].visit_by_person(), leave, crowds=False),
    ]


async def _single(ways: Sequence[_Way], rounds: int) -> list[Figure]:
    """Measure this number of visits of each kind, in random order."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for way in random.sample([*ways] * rounds, len(ways) * rounds):
        await asyncio.sleep(random.uniform(*REST))  # noqa: S311
        number = random.randrange(CROWD)  # noqa: S311
        times[way.name].append(await timed(lambda way=way, number=number: way.wake(number)))  # type: ignore[misc]
        await way.end([number])
    return _beside_the_first(times, "first 200")


async def _crowded(ways: Sequence[_Way], rounds: int) -> list[Figure]:
    """Visit all pods of a route at once, until the last has answered."""
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for way in random.sample([*ways] * rounds, len(ways) * rounds):
        await asyncio.sleep(_CALM)
        began = time.perf_counter()
        await asyncio.gather(*(way.wake(number) for number in range(CROWD)))
        times[way.name].append(time.perf_counter() - began)
        await way.end(range(CROWD))
    return _beside_the_first(times, f"{CROWD} at once, last 200")


def _beside_the_first(times: Mapping[str, Sequence[float]], what: str) -> list[Figure]:
    (first, values), *others = times.items()
    floor = Figure(f"{first}, {what}", CROWD, "s", values)
    return [floor, *(Figure.against(floor, f"{name}, {what}", values) for name, values in others)]


@asynccontextmanager
async def _guests(hub: JupyterHub) -> AsyncIterator[list[Guest]]:
    """Users that the hub knows, logged in. One has had a pod, because the hub starts its watch with the first pod."""
    async with AsyncExitStack() as opened:
        guests = []
        for number in range(CROWD):
            http = await opened.enter_async_context(_browser())
            guests.append(Guest(http, hub.url, f"guest{number:02d}", hub.token))
            await guests[-1].enter(hub.password)
        await guests[0].visit_by_program()
        await guests[0].leave()
        yield guests


def _browser() -> aiohttp.ClientSession:
    """A client with its own cookies, which it also sends to IP addresses."""
    jar = aiohttp.CookieJar(unsafe=True)
    timeout = aiohttp.ClientTimeout(total=120)
    return aiohttp.ClientSession(cookie_jar=jar, timeout=timeout, raise_for_status=True, trust_env=False)


if __name__ == "__main__":
    app()
