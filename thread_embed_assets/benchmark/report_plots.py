"""The plots of the leaderboard's content, and the order and names of what stands on their axes and in the tables beside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.benchmark.plots import Dot, Line, Panel, dot_plot, line_plot
from thread_embed_assets.benchmark.report_content import Row, is_main, task_order
from thread_embed_assets.storage.atomic import atomic_folder

DIMENSIONS = {
    "thread_length": "messages in the thread",
    "time_gap": "time between query and document",
    "word_overlap": "share of the query's words that stand in the document",
    "difficulty": "rank that BM25 gives the document",
}

_Points = dict[Any, tuple[float, float, float]]


def write_plots(sources: Sequence[Row], folder: Path) -> list[Path]:
    """Dots for each task, breakdowns of each task, and the Matryoshka curve; the folder is replaced."""
    names = []
    with atomic_folder(folder) as part:
        for entry in sources:
            for task in entry["tasks"]:
                if dots(entry, task["task"]):
                    names.append(plot_name(entry, task["task"]))
                    title = f"{entry['source']}: {task['task']} ({sizes(task)}, {task['tier']})"
                    dot_plot(part / names[-1], title, HEADLINE, dots(entry, task["task"]))
                panels = breakdown_panels(entry, task["task"])
                if panels:
                    names.append(plot_name(entry, task["task"], "breakdown"))
                    line_plot(part / names[-1], f"{entry['source']}: parts of {task['task']}", HEADLINE, panels)
            panels = _matryoshka_panels(entry)
            if panels:
                names.append(plot_name(entry, "matryoshka"))
                title = f"{entry['source']}: components of the vector that are used"
                line_plot(part / names[-1], title, HEADLINE, panels, columns=min(3, len(panels)))
    return [folder / name for name in names]


def plot_name(entry: Row, *what: str) -> str:
    """The file of a source's plot of ``what``: a task, a task and ``breakdown``, or ``matryoshka``."""
    return "_".join([entry["source"], *what]) + ".png"


def sizes(task: Row) -> str:
    """How much a task searches for, and in how much."""
    return f"{task['n']:,} queries, {task['documents']:,} documents"


def dots(entry: Row, task: str) -> list[Dot]:
    """A dot per contender that ran; where there is none, there is no plot."""
    rows = [(row, row["scores"][task][HEADLINE]) for row in entry["rows"] if task in row["scores"]]
    return [Dot(row["contender"], row["role"], score["mean"], score["low"], score["high"]) for row, score in rows]


def breakdown_panels(entry: Row, task: str) -> list[Panel]:
    """A panel per dimension that the task is broken down by; where there is none, there is no plot."""
    panels = []
    for dimension in dimensions_of(entry["breakdowns"]):
        rows = [r for r in entry["breakdowns"] if r["task"] == task and r["dimension"] == dimension and is_main(r)]
        bins = bins_of(rows)
        if bins:
            ticks = {name: f"n {n:,}" for name, n in bins.items()}
            lines = [
                Line(name, role, [points.get(name_of_bin) for name_of_bin in bins])
                for (name, role), points in _points(rows, "bin", (HEADLINE, f"{HEADLINE}_low", f"{HEADLINE}_high")).items()
            ]
            panels.append(Panel(DIMENSIONS.get(dimension, dimension), ticks, lines))
    return panels


def dimensions_of(rows: Sequence[Row]) -> list[str]:
    """The dimensions of breakdowns: those of ``DIMENSIONS`` in its order, then others as they come."""
    found = dict.fromkeys(row["dimension"] for row in rows)
    return [name for name in DIMENSIONS if name in found] + [name for name in found if name not in DIMENSIONS]


def bins_of(rows: Iterable[Row]) -> dict[str, int]:
    """Bins in their order, each with its number of queries."""
    return {row["bin"]: row["n"] for row in sorted(rows, key=lambda row: row["position"])}


def dims_of(rows: Sequence[Row]) -> list[int | None]:
    """Numbers of components, ascending; None, which is all of them, is last."""
    return sorted({row["dim"] for row in rows}, key=lambda dim: float("inf") if dim is None else dim)


def dim_name(dim: int | None) -> str:
    """A number of components as it is written."""
    return "all" if dim is None else str(dim)


def _points(rows: Iterable[Row], key: str, bounds: tuple[str, str, str]) -> dict[tuple[str, str], _Points]:
    found: dict[tuple[str, str], _Points] = {}
    mean, low, high = bounds
    for row in rows:
        found.setdefault((row["contender"], row["role"]), {})[row[key]] = (row[mean], row[low], row[high])
    return found


def _matryoshka_panels(entry: Row) -> list[Panel]:
    panels = []
    for task in task_order(row["task"] for row in entry["matryoshka"]):
        rows = [row for row in entry["matryoshka"] if row["task"] == task]
        dims = dims_of(rows)
        found = _points(rows, "dim", ("mean", "low", "high"))
        lines = [Line(name, role, [points.get(dim) for dim in dims]) for (name, role), points in found.items()]
        panels.append(Panel(f"{task} (n {rows[0]['n']:,})", {dim_name(dim): "" for dim in dims}, lines))
    return panels
