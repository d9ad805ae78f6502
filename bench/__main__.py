"""`make bench` and `make bench-scale`: the service beside plain KEDA and bare Kubernetes, on the embedded cluster.

Everything is measured in one run on one machine, and what is compared alternates in random order. So trust the ratios,
not the seconds.
"""

import os
import time
from pathlib import Path
from typing import Annotated

import typer
import uvloop

from bench.costs import cost, starts
from bench.creates import creates
from bench.figures import Figure, save, show
from bench.ground import Ground
from bench.metrics import Cost
from bench.plots import draw
from bench.reads import reads
from bench.wakes import CROWD, crowd, singly
from devcluster.cluster import Cluster
from stack.demo import free_port
from stack.stack import Stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(  # noqa: PLR0917 - options of a command
    sizes: Annotated[str, typer.Option(help="Numbers of sleeping sessions, ascending.")] = "100,1000",
    rounds: Annotated[int, typer.Option(help="Wakes of each kind.")] = 30,
    repeats: Annotated[int, typer.Option(help="Rounds of everything else: starts, reads, many wakes at once.")] = 3,
    seconds: Annotated[float, typer.Option(help="Seconds for which costs are measured.")] = 45,
    plain_up_to: Annotated[
        int, typer.Option(help="Maximum number of sleeping sessions to test with plain KEDA.")
    ] = 1000,
    installs: Annotated[int, typer.Option(help="Creates of the throughput figures; 0: none at all.")] = 60,
    state: Annotated[Path, typer.Option(help="Folder of the benchmark's own cluster.")] = Path(".cluster-bench"),
    output: Annotated[Path, typer.Option(help="Path of the JSON output.")] = Path("bench/results/bench.json"),
    plots: Annotated[Path, typer.Option(help="Folder for the plots.")] = Path("bench/results"),
) -> None:
    cluster = Cluster(state)
    cluster.down(purge=True)
    stack = Stack(cluster, port=free_port())
    stack.up()
    run = Run(
        stack,
        rounds=rounds,
        repeats=repeats,
        seconds=seconds,
        plain_up_to=plain_up_to,
        installs=installs,
        output=output,
    )
    try:
        uvloop.run(run.all([int(size) for size in sizes.split(",")]))
        run.report(plots)
    finally:
        cluster.down(purge=True)


class Run:
    """One run. Results so far are in `figures` and on disk."""

    def __init__(
        self, stack: Stack, *, rounds: int, repeats: int, seconds: float, plain_up_to: int, installs: int, output: Path
    ) -> None:
        self._stack = stack
        self._rounds = rounds
        self._repeats = repeats
        self._seconds = seconds
        self._plain_up_to = plain_up_to
        self._installs = installs
        self._output = output
        self._began = time.monotonic()
        self._empty: Cost | None = None
        self.figures: list[Figure] = []

    async def all(self, sizes: list[int]) -> None:
        async with Ground.prepared(self._stack, bare=CROWD) as ground:
            self._tell("the cost of a cluster with one session")
            await ground.settled(parked=True)
            self._empty, figures = await cost(ground, self._seconds, "nobody", None)
            self._note(figures)
            if self._installs:
                self._tell("creates")
                self._note(await creates(ground, self._installs // 3, self._installs))
            for size in sizes:
                await self._at(ground, size)

    async def _at(self, ground: Ground, size: int) -> None:
        self._tell(f"{size} sessions: making them")
        began, missing = time.monotonic(), size - len(ground.herd.uuids)
        await ground.herd.grow(ground.pattern, size)
        await ground.settled(parked=True)
        self._note([Figure("making the herd, each", size, "s", [(time.monotonic() - began) / missing])])
        self._note(await starts(ground, self._repeats))
        await self._parked(ground)
        if size <= self._plain_up_to:
            await self._plain(ground)

    async def _parked(self, ground: Ground) -> None:
        size = len(ground.herd.uuids)
        self._tell(f"{size} sessions, parked: cost")
        await ground.settled(parked=True)
        self._note((await cost(ground, self._seconds, "parked", self._empty))[1])
        self._tell(f"{size} sessions, parked: status and list")
        self._note(await reads(ground, self._repeats))
        self._tell(f"{size} sessions, parked: wakes")
        self._note(await singly(ground, self._rounds, parked=True))
        if size >= CROWD:
            self._note(await crowd(ground, self._repeats, parked=True))

    async def _plain(self, ground: Ground) -> None:
        size = len(ground.herd.uuids)
        self._tell(f"{size} sessions, plain KEDA: giving them back to it")
        await ground.restart(PARKING="false")
        await ground.settled(parked=False)
        self._tell(f"{size} sessions, plain KEDA: cost")
        self._note((await cost(ground, self._seconds, "plain KEDA", self._empty))[1])
        self._tell(f"{size} sessions, plain KEDA: wakes")
        self._note(await singly(ground, self._rounds // 2, parked=False))
        if size >= CROWD:
            self._note(await crowd(ground, self._repeats, parked=False))
        await ground.restart()
        await ground.settled(parked=True)

    def _note(self, figures: list[Figure]) -> None:
        self.figures += figures
        save(self.figures, facts=self._facts, path=self._output)

    def _tell(self, what: str) -> None:
        print(f"{time.monotonic() - self._began:6.0f} s  {what}", flush=True)

    @property
    def _facts(self) -> dict[str, object]:
        return {"cores": os.cpu_count(), "poll": "5 s", "pods": "simulated"}

    def report(self, plots: Path) -> None:
        show(self.figures, facts=self._facts)
        drawn = draw([figure.plain() for figure in self.figures], plots)
        print(f"as JSON: {self._output}; as plots: {', '.join(map(str, drawn)) or 'none without plain KEDA'}")


if __name__ == "__main__":
    app()
