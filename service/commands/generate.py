"""`generate`: the files that are made from the code."""

import json
from pathlib import Path
from typing import Annotated

import typer

from service import settings
from service.adapters.prometheus.reference import reference
from service.web import openapi


def generate(
    root: Annotated[Path, typer.Option(help="The checkout to write into.")] = Path(),
    check: Annotated[bool, typer.Option("--check", help="Only compare; exit with 1 if any is stale.")] = False,
) -> None:
    """Rewrite what is made from the code: the OpenAPI document; settings and metrics in docs/reference."""
    stale = {root / path: text for path, text in contents().items() if not _holds(root / path, text)}
    for path, text in stale.items():
        if check:
            typer.echo(f"{path} is stale; run `make generated`", err=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if check and stale:
        raise typer.Exit(1)


def contents() -> dict[str, str]:
    """What each of these files should hold, by its path below the checkout."""
    return {
        "service/web/static/openapi.json": json.dumps(openapi.document(), indent=2) + "\n",
        "docs/reference/configuration.md": settings.reference(),
        "docs/reference/metrics.md": reference(),
    }


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text
