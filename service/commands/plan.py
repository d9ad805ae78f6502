"""`plan`: what a number of sessions needs."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from service.commands import needs


def plan(
    context: typer.Context,
    sessions: Annotated[int | None, typer.Option(min=1, help="Sessions in all. Required.")] = None,
    awake: Annotated[int | None, typer.Option(min=0, help="Of these awake at the same time. Required.")] = None,
    wakes_per_minute: Annotated[float | None, typer.Option(min=0, help="Wakes of sleepers. Required.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compute what a number of sessions requires of KEDA, Redis, the API server and the service."""
    # Typer's own error for a required option names one at a time, and no example.
    if sessions is None or awake is None or wakes_per_minute is None:
        # The name `python` would be another interpreter outside of a virtual environment.
        command = re.sub("^python ", sys.executable.removeprefix(f"{Path.cwd()}/") + " ", context.command_path)
        example = f"{command} --sessions 10000 --awake 500 --wakes-per-minute 300"
        typer.echo(f"Give --sessions, --awake and --wakes-per-minute, for example:\n\n  {example}", err=True)
        raise typer.Exit(2)
    load = needs.Load(sessions=sessions, awake=awake, wakes_per_minute=wakes_per_minute)
    typer.echo(json.dumps(needs.document(load), indent=2) if as_json else needs.table(load))
