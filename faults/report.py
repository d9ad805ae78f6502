"""The table of docs/explanation/reliability.md, and the same as JSON with all findings."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faults.trial import Row

BEGIN, END = "<!-- faults: written by `make faults` -->", "<!-- faults: end -->"
_HEAD = ("fault", "operations", "lost", "wrong", "bad answers", "healed after")


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [f"| {' | '.join(_HEAD)} |", "| --- | ---: | ---: | ---: | ---: | ---: |"]
    for row in rows:
        healed = "never" if row.healed is None else f"{max(row.healed, 0):.1f} s"
        cells = (row.fault, row.operations, len(row.lost), len(row.wrong), len(row.bad), healed)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def write(document: Path, rows: Sequence[Row]) -> None:
    """Put the table between the document's markers. Raises ValueError where there are none."""
    text = document.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no place for the table: the lines `{BEGIN}` and `{END}`")
    document.write_text(f"{before}{BEGIN}\n\n{table(rows)}\n\n{END}{after}")


def save(path: Path, rows: Sequence[Row], settings: Mapping[str, str]) -> None:
    facts: dict[str, Any] = {"cores": os.cpu_count(), "pods": "simulated", "settings": dict(settings)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"facts": facts, "rows": [row.plain() for row in rows]}, indent=1) + "\n")
