"""Plots of the leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thread_embed_assets.storage.atomic import atomic_file

COLOURS = {  # Okabe and Ito's palette, told apart by colour-blind readers too
    "baseline": "#666666",
    "base": "#0072B2",
    "base_hybrid": "#56B4E9",
    "tuned": "#D55E00",
    "tuned_hybrid": "#E69F00",
    "reference": "#009E73",
}


@dataclass(frozen=True)
class Dot:
    """One contender's mean and its interval."""

    name: str
    role: str
    mean: float
    low: float
    high: float


def dot_plot(path: Path, title: str, axis: str, dots: Sequence[Dot]) -> None:
    """Write a PNG with a row per contender: its mean as a dot, its 95 % interval as a line; the best mean on top.

    Args:
        path: the PNG to write.
        title: above the plot.
        axis: name of the metric.
        dots: at least one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    ordered = sorted(dots, key=lambda dot: (dot.mean, dot.name))
    figure = Figure(figsize=(7.2, 1.3 + 0.38 * len(ordered)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for row, dot in enumerate(ordered):
        colour = COLOURS[dot.role]
        axes.hlines(row, dot.low, dot.high, color=colour, linewidth=2)
        axes.plot([dot.mean], [row], "o", color=colour, markersize=7)
        axes.annotate(f"{dot.mean:.3f}", (dot.mean, row), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=7)
    axes.set_yticks(range(len(ordered)), [dot.name for dot in ordered])
    axes.set_ylim(-0.6, len(ordered) - 0.3)
    axes.set_xlabel(f"{axis}, mean and 95 % interval")
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    with atomic_file(path) as part:
        figure.savefig(part, format="png", metadata={"Software": None})
