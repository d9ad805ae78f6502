"""The second half of `make bench`: the gateway, with real pods where this machine can have them.

Everything is measured in one run on one machine, and what is compared alternates in random order. So trust the ratios,
not the seconds.
"""

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from bench.figures import Figure, save, show
from bench.ground import Ground, lacks_for_real_pods, real_pods
from bench.pages import pages
from bench.passing import passing
from bench.visits import CROWD, visits
from stack.stack import Stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    rounds: Annotated[int, typer.Option(help="Visits of each kind.")] = 20,
    repeats: Annotated[int, typer.Option(help="Rounds of everything else.")] = 3,
    state: Annotated[Path, typer.Option(help="Folder of the benchmark's own cluster.")] = Path(".cluster-bench"),
    output: Annotated[Path, typer.Option(help="Path of the JSON output.")] = Path("bench/results/gateway.json"),
) -> None:
    facts = {"cores": os.cpu_count(), "poll": "5 s", "pods": "real, the tiny workspace"}
    print("what the gateway adds to what goes through it", flush=True)
    figures = uvloop.run(passing(repeats)) + uvloop.run(pages(repeats))
    save(figures, facts=facts, path=output)
    if lacks := lacks_for_real_pods():
        print(f"no visits of real pods: that needs {', '.join(lacks)}")
    else:
        print("visits of sleepers", flush=True)
        with real_pods(state) as stack:
            figures += uvloop.run(_measured(stack, rounds, repeats))
        save(figures, facts=facts, path=output)
    show(figures, facts=facts)
    print(f"as JSON: {output}")


async def _measured(stack: Stack, rounds: int, repeats: int) -> list[Figure]:
    async with Ground.prepared(stack, bare=CROWD) as ground:
        await asyncio.sleep(2)
        return await visits(ground, rounds, repeats)


if __name__ == "__main__":
    app()
