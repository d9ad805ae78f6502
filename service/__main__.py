"""The command line: `python -m service`."""

from service import early  # noqa: F401  # first of all: imports take a while

# isort: split
import sys
from typing import Annotated

import typer

from service import __version__
from service.commands import key
from service.commands.generate import generate
from service.commands.serve import serve
from service.edge.ports import PortUnusable
from service.settings import SettingsError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """One pod per user that sleeps when idle and wakes when its user returns."""


for command in (serve, generate):
    app.command()(command)
app.add_typer(key.app, name="key")


def main() -> None:
    try:
        app()
    except SettingsError as error:
        sys.stderr.write(f"user-pods: the settings cannot be used\n{error}\n")
        raise SystemExit(2) from None
    except PortUnusable as error:
        sys.stderr.write(f"user-pods: cannot listen\n{error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
