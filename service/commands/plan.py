"""`plan`: what a number of sessions needs."""

import json
from typing import Annotated

import typer

from service.commands import needs


def plan(
    sessions: Annotated[int, typer.Option(min=1, help="Sessions in all.")],
    awake: Annotated[int, typer.Option(min=0, help="Of these awake at the same time.")],
    wakes_per_minute: Annotated[float, typer.Option(min=0, help="Wakes of sleepers.")],
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell what so many sessions need of KEDA, Redis, the API server and the service, and why."""
    load = needs.Load(sessions=sessions, awake=awake, wakes_per_minute=wakes_per_minute)
    typer.echo(json.dumps(needs.document(load), indent=2) if as_json else needs.table(load))
