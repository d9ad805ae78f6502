"""Figures of one run: repeated values of one kind, as JSON and as a table."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One measured quantity. `ratio` sets its median against that of `beside`, measured in the same run."""

    name: str
    sessions: int
    """The number of sessions at that time."""
    unit: str
    values: Sequence[float]
    ratio: float | None = None
    beside: str = ""

    @classmethod
    def against(cls, other: "Figure", name: str, values: Sequence[float]) -> "Figure":
        """A figure of the same kind as `other`, with the ratio of medians."""
        ratio = quantile(values, 0.5) / quantile(other.values, 0.5)
        return cls(name, other.sessions, other.unit, values, ratio, other.name)

    def plain(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "sessions": self.sessions,
            "unit": self.unit,
            "runs": len(self.values),
            "p50": quantile(self.values, 0.5),
            "p95": quantile(self.values, 0.95),
            "p99": quantile(self.values, 0.99),
            "max": max(self.values),
            "ratio": self.ratio,
            "beside": self.beside,
            "values": [float(f"{value:.4g}") for value in self.values[:1000]],
        }


def quantile(values: Sequence[float], q: float) -> float:
    ordered = sorted(values)
    return ordered[round(q * (len(ordered) - 1))]


def save(figures: Sequence[Figure], *, facts: Mapping[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    plain = {"facts": dict(facts), "figures": [figure.plain() for figure in figures]}
    path.write_text(json.dumps(plain, indent=1) + "\n")


def show(figures: Sequence[Figure], *, facts: Mapping[str, Any]) -> None:
    """Print the table."""
    table = Table(title=", ".join(f"{name}: {value}" for name, value in facts.items()))
    for column in ("figure", "sessions", "unit", "runs", "p50", "p95", "p99", "max", "ratio", "to"):
        table.add_column(column, justify="left" if column in ("figure", "unit", "to") else "right")
    for figure in figures:
        cells = [_short(quantile(figure.values, q)) for q in (0.5, 0.95, 0.99, 1)]
        if len(figure.values) == 1:
            cells[1:] = ["", "", ""]
        ratio = f"{figure.ratio:.2f}" if figure.ratio is not None else ""
        row = (figure.name, str(figure.sessions), figure.unit, str(len(figure.values)), *cells, ratio, figure.beside)
        table.add_row(*row)
    Console(width=150).print(table)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
