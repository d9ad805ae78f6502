"""SVG plots of a run, legible on dark and light pages: no background, grey letters, two strong colours."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

_GREY = "#808080"
_COLOURS = {"parked": "#2f9e77", "plain KEDA": "#e07b39", "bare": _GREY}
_STYLE: Any = {
    "svg.hashsalt": "user-pods",  # the same figures give the same file
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _GREY),
}

Figures = Sequence[dict[str, Any]]
"""Figures as in the JSON of a run."""


def draw(figures: Figures, folder: Path) -> list[Path]:
    """Write plots for the largest number of sessions that was also measured with plain KEDA; returns their paths."""
    sizes = [figure["sessions"] for figure in figures if figure["name"].startswith("plain KEDA")]
    if not sizes:
        return []
    size = max(sizes)
    found = {figure["name"]: figure for figure in figures if figure["sessions"] == size}
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(_STYLE):
        return [
            _saved(_wakes, found, folder / "scale-wake.svg"),
            _saved(_cost, found, folder / "scale-cost.svg"),
        ]


def _saved(plot: Any, found: dict[str, Any], path: Path) -> Path:
    canvas, axes = plt.subplots(figsize=(7, 3.2))
    plot(axes, found)
    canvas.tight_layout()
    canvas.savefig(path, transparent=True, metadata={"Date": None})
    plt.close(canvas)
    return path


def _wakes(axes: Axes, found: dict[str, Any]) -> None:
    """The share of wakes that are ready after a given time."""
    lines = {
        "parked": "parked: wake to ready",
        "plain KEDA": "plain KEDA: wake to ready",
        "bare": "parked: bare scale beside, to ready",
    }
    for label, name in lines.items():
        values = sorted(found[name]["values"])
        shares = [(number + 1) / len(values) * 100 for number in range(len(values))]
        text = "bare scale, the floor" if label == "bare" else label
        axes.step(values, shares, where="post", color=_COLOURS[label], label=text, linewidth=2)
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10], ["0.1", "0.2", "0.5", "1", "2", "5", "10"])
    axes.set_xlabel("seconds from the wake to a ready pod")
    axes.set_ylabel("% of wakes")
    axes.legend(frameon=False, loc=(0.4, 0.6))


def _cost(axes: Axes, found: dict[str, Any]) -> None:
    """CPU of every part while all sleep."""
    parts = ["keda", "kube-apiserver", "kube-controller-manager", "etcd", "redis", "service"]
    for shift, label in ((-0.2, "plain KEDA"), (0.2, "parked")):
        values = [found[f"{label}: CPU of {part}"]["p50"] for part in parts]
        places = [number + shift for number in range(len(parts))]
        bars = axes.barh(places, values, height=0.36, color=_COLOURS[label], label=label)
        axes.bar_label(bars, fmt="%.1f", padding=3, color=_GREY)
    axes.set_yticks(range(len(parts)), parts)
    axes.invert_yaxis()
    axes.set_xlabel("% of a core while every session sleeps")
    axes.legend(frameon=False)
