"""Images by hand: ``python -m images --help``."""

import os
import shutil
from collections.abc import Iterator
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
    names: Annotated[list[Name] | None, typer.Argument(help="Default: each one that this machine can build.")] = None,
    output: Annotated[
        Path | None, typer.Option(help="Where to copy the archive of one image in addition to the cache.")
    ] = None,
) -> None:
    """Build images that are not in the cache, and print the name and the archive of each."""
    if output is not None and len(names or ()) != 1:
        raise typer.BadParameter("name one image to copy", param_hint="--output")
    for name in names or _buildable():
        image = recipes.build(name)
        print(image.reference, image.archive if output is None else _copied(image.archive, output))


def _buildable() -> Iterator[Name]:
    for name in Name:
        if lacks := recipes.missing(name):
            typer.echo(f"the image {name} is left out; missing: {', '.join(lacks)}", err=True)
        else:
            yield name


def _copied(archive: Path, output: Path) -> Path:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    try:
        os.link(archive, output)
    except OSError:  # another file system
        shutil.copyfile(archive, output)
    return output


if __name__ == "__main__":
    try:
        app()
    except DevclusterError as error:
        typer.echo(f"images: {error}", err=True)
        raise SystemExit(1) from None
