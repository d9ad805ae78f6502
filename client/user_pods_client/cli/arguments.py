"""Arguments and options that several commands have."""

import sys
from datetime import UTC, tzinfo
from typing import Annotated

import typer

from user_pods_client.cli import text
from user_pods_client.cli.exits import BadArgument, Declined, NoReply

Who = Annotated[
    str,
    typer.Argument(metavar="WHO", help="The session's id or its user's id. Not needed with a key for one user."),
]
Named = Annotated[str, typer.Argument(metavar="WHO", help="The session's id or its user's id.")]


def seconds(value: str) -> int:
    """Of a duration as somebody types it. Raises BadParameter."""
    try:
        return text.seconds(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Timeout = Annotated[int, typer.Option(parser=seconds, metavar="DURATION", help="How long to wait at most.")]
Since = Annotated[
    int | None, typer.Option(parser=seconds, metavar="DURATION", help="Only of the last 30m, 2h or 1d, for example.")
]
Utc = Annotated[bool, typer.Option("--utc", help="Show times in UTC instead of this machine's time zone.")]


def confirm(question: str) -> None:
    """Ask on standard error. Raises Declined for any answer but yes, NoReply for none, BadArgument for no text.

    Ctrl-C is one anywhere else, too.
    """
    try:
        yes = typer.confirm(text.printable(question), err=True)
    except UnicodeDecodeError:
        raise BadArgument("the answer on standard input is not text; --yes answers without a question") from None
    except typer.Abort:
        if sys.stdin.isatty():
            raise KeyboardInterrupt from None
        typer.echo(err=True)
        raise NoReply("no answer came on standard input, so nothing was done") from None
    if not yes:
        raise Declined("nothing was done")


def zone(*, utc: bool) -> tzinfo | None:
    return UTC if utc else None
