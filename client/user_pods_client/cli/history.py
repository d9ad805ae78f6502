"""Commands that tell what has happened to a session, and what happens."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Annotated

import typer

from user_pods_client.cli import arguments, output, timeline
from user_pods_client.cli.connection import connect, find
from user_pods_client.cli.output import Format
from user_pods_client.cli.progress import sentence
from user_pods_client.cli.text import clock, duration, printable
from user_pods_client.decoding import to_json
from user_pods_client.models import HistoryEntry


def history(
    context: typer.Context,
    who: arguments.Who = "",
    format_: output.Output = Format.TABLE,
    watch: output.Watch = False,
    utc: arguments.Utc = False,
) -> None:
    """List the last wakes, sleeps, failures, upgrades and revocations, newest first. `why` tells them in sentences."""
    with connect(context) as pods:
        uuid = find(pods, who).uuid

        def read() -> output.Drawing:
            found = pods.history(uuid).entries
            zone = arguments.zone(utc=utc)
            return lambda now: output.rendered(
                found, format_, table=lambda: _table(found, now, zone), names=lambda: [uuid]
            )

        output.watch(read, again=watch)


def why(
    context: typer.Context,
    who: arguments.Who = "",
    format_: output.Output = Format.TABLE,
    utc: arguments.Utc = False,
) -> None:
    """Tell in sentences why a session is asleep, awake or broken: last activity, lease, sleep."""
    with connect(context) as pods:
        status = find(pods, who)
        entries = pods.history(status.uuid).entries
    now, zone = datetime.now(UTC), arguments.zone(utc=utc)
    told = timeline.of(status, entries, now, zone)
    document = {
        "uuid": status.uuid,
        "headline": told.headline,
        "timeline": [{"at": to_json(each.at), "sentence": each.sentence} for each in told.moments],
        "outlook": [*told.outlook],
    }
    output.show(
        output.rendered(
            document,
            format_,
            table=lambda: "\n".join(printable(line) for line in told.lines(now, zone)),
            names=lambda: [status.uuid],
        )
    )


def events(
    context: typer.Context,
    who: arguments.Who = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with the next wakes, until Ctrl-C.")] = False,
    format_: Annotated[
        Format,
        typer.Option("--output", "-o", help="`json`: an object per line. `yaml`: a document each. `name`: the phases."),
    ] = Format.TABLE,
    utc: arguments.Utc = False,
) -> None:
    """Show the events of the current or the last wake as they come. Reconnects by itself."""
    with connect(context) as pods:
        for event in pods.events(find(pods, who).uuid, follow=follow):
            if format_ is Format.TABLE:
                typer.echo(f"{clock(event.at, datetime.now(UTC), arguments.zone(utc=utc))}   {sentence(event)}")
            elif format_ is Format.NAME:
                typer.echo(printable(event.phase))
            elif format_ is Format.YAML:  # a document per event can be read as it comes
                typer.echo("---\n" + output.rendered(event, format_, table=str, names=list))
            else:
                typer.echo(json.dumps(to_json(event)))


def _table(entries: Sequence[HistoryEntry], now: datetime, zone: tzinfo | None) -> str:
    return output.columns(
        ("TIME", "WHAT", "BY OR CAUSE", "TOOK OR AWAKE", "NOTE"),
        [_row(e, now, zone) for e in entries],
        none="Nothing has happened yet.",
    )


def _row(entry: HistoryEntry, now: datetime, zone: tzinfo | None) -> tuple[str, ...]:
    took = "" if entry.seconds is None else duration(entry.seconds)
    note = "a program was working" if entry.interrupted else entry.reason or ""
    if entry.kind == "upgrade" and entry.ready_at is not None:
        note = "it replaced the pod"
    by = f"{entry.cause} by {entry.by}" if entry.cause and entry.by else entry.by or entry.cause or ""
    return clock(entry.at, now, zone), entry.kind, by, took, note
