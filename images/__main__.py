"""Images by hand: ``python -m images --help``."""

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from devcluster.errors import DevclusterError
from images import recipes
from images.recipes import Name

app = typer.Typer(
    help="Images of workspaces and of the service, as archives that a node can import.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """Images of workspaces and of the service, as archives that a node can import."""


@app.command()
def build(
    name: Name,
    output: Annotated[Path | None, typer.Option(help="Where to copy the archive in addition to the cache.")] = None,
) -> None:
    """Build an image, if it is not in the cache, and print its name and its archive."""
    image = recipes.build(name)
    archive = image.archive
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)
        try:
            os.link(image.archive, output)
        except OSError:  # another file system
            shutil.copyfile(image.archive, output)
        archive = output
    print(image.reference, archive)


if __name__ == "__main__":
    try:
        app()
    except DevclusterError as error:
        typer.echo(f"images: {error}", err=True)
        raise SystemExit(1) from None
