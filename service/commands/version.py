"""`version`."""

import typer

from service import __version__


def version() -> None:
    """Print the version."""
    typer.echo(__version__)
