"""Plots of the leaderboard."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thread_embed_assets.storage.atomic import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {  # Okabe and Ito's palette, told apart by colour-blind readers too
    "baseline": "#666666",
    "base": "#0072B2",
    "base_hybrid": "#56B4E9",
    "reference": "#009E73",
    "control": "#000000",
    "champion": "#8C6D31",
    "tuned": "#D55E00",
    "tuned_transfer": "#CC79A7",
    "tuned_hybrid": "#E69F00",
}
ROLE_NAMES = {
    "baseline": "baseline",
    "base": "base model",
    "base_hybrid": "base + BM25",
    "reference": "other model",
    "control": "control",
    "champion": "promoted before",
    "tuned": "tuned",
    "tuned_transfer": "tuned without this platform",
    "tuned_hybrid": "tuned + BM25",
}
_MARKERS = {"baseline": "s", "base": "o", "tuned": "D", "tuned_transfer": "^"}  # lines differ by more than colour
_GRID = "#dddddd"
_WIDTH, _DPI = 7.2, 150  # inches; dots per inch
_SMALL = 8.0
_COLOURS_KEPT = 128
_PANEL_HEIGHT = 2.1
_AROUND = 0.9  # inches for title and legend
_LINE = 96  # characters of ticks' names side by side
_DODGE = 0.012  # of the width, so that intervals at the same tick do not cover each other


@dataclass(frozen=True)
class Dot:
    """One contender's mean and its interval."""

    name: str
    role: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One contender's means and intervals, one for each tick; None where it has no value."""

    name: str
    role: str
    points: Sequence[tuple[float, float, float] | None]


@dataclass(frozen=True)
class Panel:
    """Lines over the same ticks, from left to right; a tick's name has a note below it, or an empty one."""

    title: str
    ticks: Mapping[str, str]
    lines: Sequence[Line]


def dot_plot(path: Path, title: str, axis: str, dots: Sequence[Dot]) -> None:
    """Write a PNG with a row per contender: its mean as a dot, its 95 % interval as a line; the best mean on top.

    Args:
        path: the PNG to write.
        title: above the plot.
        axis: name of the metric.
        dots: at least one.
    """
    ordered = sorted(dots, key=lambda dot: (dot.mean, dot.name))
    figure = _figure(title, _AROUND + 0.5 + 0.34 * len(ordered))
    axes = figure.add_subplot()
    for row, dot in enumerate(ordered):
        colour = COLOURS[dot.role]
        axes.hlines(row, dot.low, dot.high, color=colour, linewidth=2)
        axes.plot([dot.mean], [row], "o", color=colour, markersize=6)
        place = {"xytext": (0, 5), "textcoords": "offset points", "ha": "center", "fontsize": _SMALL}
        axes.annotate(f"{dot.mean:.3f}", (dot.mean, row), **place)  # type: ignore[arg-type]
    axes.set_yticks(range(len(ordered)), [dot.name for dot in ordered], parse_math=False)
    axes.set_ylim(-0.6, len(ordered) - 0.2)
    axes.set_xlabel(f"{axis}, mean and 95 % interval", fontsize=9)
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.set_axisbelow(True)
    roles = [role for role in COLOURS if any(dot.role == role for dot in dots)]
    _legend(figure, ((ROLE_NAMES[role], COLOURS[role], "o") for role in roles))
    _save(figure, path)


def line_plot(path: Path, title: str, axis: str, panels: Sequence[Panel], columns: int = 1) -> None:
    """Write a PNG with a panel for each of ``panels``: means joined by a line, 95 % intervals as bars.

    Args:
        path: the PNG to write.
        title: above all panels.
        axis: name of the metric; its scale begins at the lowest interval, not at 0.
        panels: at least one; the same name and role mean the same contender in all of them.
        columns: panels side by side.
    """
    rows = -(-len(panels) // columns)
    figure = _figure(title, _AROUND + _PANEL_HEIGHT * rows)
    for number, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, number + 1)
        _draw(axes, panel, columns)
        axes.set_title(panel.title, loc="left", fontsize=9)
        if number % columns == 0:
            axes.set_ylabel(axis, fontsize=_SMALL)
    lines = {(line.name, line.role): None for panel in panels for line in panel.lines}
    _legend(figure, ((name, COLOURS[role], _MARKERS.get(role, "o")) for name, role in lines))
    _save(figure, path)


def _draw(axes: Axes, panel: Panel, columns: int) -> None:
    number_of_ticks = len(panel.ticks)
    dodge = _DODGE * columns * number_of_ticks
    for number, line in enumerate(panel.lines):
        shift = dodge * (number - (len(panel.lines) - 1) / 2)
        known = [(tick + shift, *point) for tick, point in enumerate(line.points) if point is not None]
        places, means, lows, highs = ([point[i] for point in known] for i in range(4))
        colour, marker = COLOURS[line.role], _MARKERS.get(line.role, "o")
        axes.plot(places, means, marker=marker, color=colour, linewidth=1.4, markersize=4.5)
        axes.vlines(places, lows, highs, color=colour, linewidth=1.4)
    width = max(5, _LINE // (columns * number_of_ticks))
    ticks = [textwrap.fill(tick, width) + (f"\n{note}" if note else "") for tick, note in panel.ticks.items()]
    axes.set_xticks(range(number_of_ticks), ticks, parse_math=False)
    axes.set_xlim(-0.5, number_of_ticks - 0.5)
    axes.tick_params(labelsize=_SMALL)
    axes.grid(axis="y", color=_GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _figure(title: str, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, parse_math=False)
    return figure


def _legend(figure: Figure, entries: Iterable[tuple[str, str, str]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, marker=marker, markersize=5, label=name) for name, colour, marker in entries]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=_SMALL)


def _save(figure: Figure, path: Path) -> None:
    """Few colours make a third of the file, and dozens of these stand in one HTML file."""
    from PIL import Image

    drawn = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script that the font lacks
        figure.savefig(drawn, format="png")
    picture = Image.open(drawn).convert("RGB").quantize(_COLOURS_KEPT, dither=Image.Dither.NONE)
    with atomic_file(path) as part:
        picture.save(part, format="png", optimize=True)
