"""The table of docs/explanation/reliability.md, and the same as JSON with all findings."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faults.trial import Row
from stack import tables

BEGIN, END = "<!-- faults: written by `make faults` -->", "<!-- faults: end -->"
_HEAD = ("fault", "operations", "lost", "wrong", "bad answers", "healed after")


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    return tables.markdown(_HEAD, map(_cells, rows), numbers_from=1)


def write(document: Path, rows: Sequence[Row]) -> None:
    """Put the table between the document's markers. Raises ValueError where there are none."""
    tables.replace(document, BEGIN, END, table(rows))


def _cells(row: Row) -> tuple[object, ...]:
    healed = "never" if row.healed is None else f"{max(row.healed, 0):.1f} s"
    return row.fault, row.operations, len(row.lost), len(row.wrong), len(row.bad), healed


def save(path: Path, rows: Sequence[Row], settings: Mapping[str, str]) -> None:
    facts: dict[str, Any] = {"cores": os.cpu_count(), "pods": "simulated", "settings": dict(settings)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"facts": facts, "rows": [row.plain() for row in rows]}, indent=1) + "\n")
