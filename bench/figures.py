"""Figures of one run: quantiles of repeated timings, as JSON and as a table."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured quantity; `seconds` are its single runs, `ratio` sets its median against another's."""

    name: str
    seconds: Sequence[float]
    note: str = ""
    ratio: float | None = None

    def quantile(self, q: float) -> float:
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, round(q * (len(ordered) - 1)))]

    def plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "runs": len(self.seconds),
            "p50": self.quantile(0.5),
            "p95": self.quantile(0.95),
            "p99": self.quantile(0.99),
            "max": max(self.seconds),
            "ratio": self.ratio,
            "note": self.note,
        }


def report(figures: Sequence[Figure], *, facts: dict[str, Any], path: Path) -> None:
    """Write the JSON file and print the table (milliseconds)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"facts": facts, "figures": [figure.plain() for figure in figures]}, indent=2) + "\n")
    table = Table(title=", ".join(f"{name}: {value}" for name, value in facts.items()))
    for column in ("figure", "runs", "p50 ms", "p95 ms", "p99 ms", "ratio", "note"):
        table.add_column(column, justify="left" if column in ("figure", "note") else "right")
    for figure in figures:
        cells = [f"{1000 * figure.quantile(q):.1f}" for q in (0.5, 0.95, 0.99)]
        ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
        table.add_row(figure.name, str(len(figure.seconds)), *cells, ratio, figure.note)
    Console(width=140).print(table)
    print(f"as JSON: {path}")
