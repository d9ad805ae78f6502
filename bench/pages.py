"""What it costs the gateway to add the companion's script to a page, beside the same page when a script fetches it.

Needs no cluster: `python -m bench.pages`. It is a part of `make bench` too.
"""

import random
import sys
import tempfile
import time

import aiohttp
import uvloop

from bench.figures import Figure, show
from bench.passing import Way, client, gateway_process, running, until_it_answers
from devcluster.processes import environment
from stack.demo import free_port
from stack.stack import ROOT

_PAGES = 300
"""In a row, in each round."""
_SIZES = (2_000, 20_000, 200_000)
_CODINGS = ("identity", "gzip")
_FETCHED = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
_OPENED = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


async def pages(rounds: int) -> list[Figure]:
    kinds = [(size, coding, opened) for size in _SIZES for coding in _CODINGS for opened in (False, True)]
    busy: dict[tuple[int, str, bool], list[float]] = {kind: [] for kind in kinds}
    taken: dict[tuple[int, str, bool], list[float]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        variables, pod = environment(PYTHONPATH=str(ROOT), HOME=folder), free_port()
        argv = (sys.executable, "-m", "bench.page_pod", str(pod))
        async with running(*argv, env=variables), gateway_process(pod, variables) as way, client() as http:
            await until_it_answers(lambda: _get(http, way, 100, {}))
            for _ in range(rounds):
                for kind in random.sample(kinds, len(kinds)):
                    size, coding, opened = kind
                    headers = {**(_OPENED if opened else _FETCHED), "Accept-Encoding": coding}
                    before, began = way.busy(), time.perf_counter()
                    for _ in range(_PAGES):
                        await _get(http, way, size, headers)
                    taken[kind].append((time.perf_counter() - began) / _PAGES)
                    busy[kind].append((way.busy() - before) / _PAGES)
    figures: list[Figure] = []
    for size in _SIZES:
        for coding in _CODINGS:
            for what, values in (("CPU of the gateway", busy), ("time", taken)):
                name = f"{what}, a page of {size // 1000} KB, {coding}"
                fetched = Figure(f"{name}, fetched", 1, "s", values[size, coding, False])
                figures += [fetched, Figure.against(fetched, f"{name}, opened", values[size, coding, True])]
    return figures


async def _get(http: aiohttp.ClientSession, way: Way, size: int, headers: dict[str, str]) -> None:
    async with http.get(f"{way.url}/{size}", headers={**way.headers, **headers}) as answer:
        await answer.read()


if __name__ == "__main__":
    show(uvloop.run(pages(5)), facts={"pages": _PAGES})
