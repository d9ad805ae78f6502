"""`make faults`: ``python -m faults --help``."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from devcluster.cluster import Cluster
from faults import report
from faults.catalogue import FAULTS
from faults.system import SETTINGS, System
from faults.trial import Fault, Row, trial
from stack.stack import ROOT

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
DOCUMENT = ROOT / "docs" / "explanation" / "reliability.md"


@app.command()
def main(
    only: Annotated[
        list[str] | None, typer.Option(help="Run only faults whose name contains this; may be given several times.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the faults and exit.")] = False,
    state: Annotated[Path, typer.Option(help="Folder of the trials' own cluster.")] = Path(".cluster-faults"),
    output: Annotated[Path, typer.Option(help="Path of the JSON output.")] = Path("faults/results/faults.json"),
    document: Annotated[
        Path, typer.Option(help="Document whose table is rewritten after a run of all faults.")
    ] = DOCUMENT,
) -> None:
    """Let one part after another fail under load, and report what was lost, wrong or badly answered.

    Exits with 1 when anything was lost or wrong, or did not heal.
    """
    chosen = [fault for fault in FAULTS if not only or any(part in fault.name for part in only)]
    if show:
        typer.echo("\n".join(fault.name for fault in chosen))
        return
    if not chosen:
        raise typer.BadParameter(f"no fault has such a name; there are: {', '.join(f.name for f in FAULTS)}")
    cluster = Cluster(state)
    cluster.down(purge=True)
    rows: list[Row] = []
    try:
        cluster.up()
        asyncio.run(run(cluster, chosen, rows, output))
    finally:
        cluster.down(purge=True)
    typer.echo(report.table(rows))
    if not only:
        report.write(document, rows)
    for row in rows:
        for kind, findings in (("lost", row.lost), ("wrong", row.wrong), ("bad answer", row.bad)):
            for finding in findings:
                typer.echo(f"{kind}, {row.fault}: {finding}", err=True)
    if not all(row.holds for row in rows):
        raise typer.Exit(1)


async def run(cluster: Cluster, chosen: list[Fault], rows: list[Row], output: Path) -> None:
    """Append a row per fault, and keep what there is so far as JSON."""
    began = time.monotonic()
    ledgers = []
    async with System.started(cluster) as system:
        for fault in chosen:

            def tell(what: str, name: str = fault.name) -> None:
                typer.echo(f"{time.monotonic() - began:6.0f} s  {name}: {what}")

            row = await trial(system, fault, tell)
            tell(f"lost {len(row.lost)}, wrong {len(row.wrong)}, bad answers {len(row.bad)}")
            rows.append(row)
            ledgers.append(system.ledger)
            report.save(output, rows, SETTINGS)
        for row, ledger in zip(rows, ledgers, strict=True):
            # What was intact at the end of its own trial must not be lost in a later one.
            known = set(ledger.lost) | set(ledger.wrong)
            ledger.audit(await system.snapshot(ledger))
            row.lost += [f"{finding} (in a later trial)" for finding in ledger.lost if finding not in known]
            row.wrong += [f"{finding} (in a later trial)" for finding in ledger.wrong if finding not in known]
        report.save(output, rows, SETTINGS)


if __name__ == "__main__":
    app()
