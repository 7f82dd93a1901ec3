"""The cells of the leaderboard's tables: how a score, a difference, a p-value or a count is written and drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from thread_embed_assets.benchmark.html_report import Cell
from thread_embed_assets.benchmark.plots import COLOURS
from thread_embed_assets.benchmark.report_content import Row
from thread_embed_assets.benchmark.result_tables import NOT_RUN

NOTHING, DID_NOT_RUN = Cell(""), Cell(NOT_RUN, dim=True)


def name_cell(name: str, role: str) -> Cell:
    """A contender's name, with the colour of its role."""
    return Cell(name, colour=COLOURS[role])


def score_cell(row: Row, index: str, task: str, metric: str, words: bool = True) -> Cell:
    """A score with its interval, drawn and, with ``words``, written; NOT RUN or nothing where there is none."""
    score = row[index].get(task, {}).get(metric)
    if score is None:
        return NOTHING if task not in row["not_run"] else DID_NOT_RUN
    small = f"[{score['low']:.3f}, {score['high']:.3f}]" if words else ""
    return Cell(f"{score['mean']:.3f}", score["mean"], False, (score["low"], score["high"]), small, COLOURS[row["role"]])


def bounds_cell(row: Row, metric: str | None = None) -> Cell:
    """A row's mean with its interval, drawn and written: the columns of ``metric``, or ``mean``, ``low`` and ``high``."""
    keys = (metric, f"{metric}_low", f"{metric}_high") if metric else ("mean", "low", "high")
    mean, low, high = (row[key] for key in keys)
    return Cell(f"{mean:.3f}", mean, False, (low, high), f"[{low:.3f}, {high:.3f}]", COLOURS[row["role"]])


def with_best(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    """The highest values in bold: all that are equal as they are written."""
    highest = max((cell.value for cell in cells.values() if cell.value is not None), default=None)
    best = None if highest is None else f"{highest:.3f}"
    return {name: replace(cell, best=cell.value is not None and cell.text == best) for name, cell in cells.items()}


def number_cell(value: float | None, places: int = 3) -> Cell:
    """A number with ``places`` decimals, thousands apart; nothing for None."""
    return NOTHING if value is None else Cell(f"{value:,.{places}f}", value)


def count_cell(value: int | None) -> Cell:
    """A whole number, thousands apart; nothing for None."""
    return NOTHING if value is None else Cell(f"{value:,}", value)


def difference_cell(row: Mapping[str, float] | None, best: bool = False) -> Cell:
    """A difference with its sign and its interval, drawn and written, in bold if ``best``; nothing for None."""
    if row is None:
        return NOTHING
    small = f"[{row['low']:+.3f}, {row['high']:+.3f}]"
    return Cell(f"{row['difference']:+.3f}", row["difference"], best, (row["low"], row["high"]), small)


def p_cell(value: float | None, best: bool = False) -> Cell:
    """A p-value, in bold if ``best``; nothing for None."""
    if value is None:
        return NOTHING
    return Cell("< 0.0001" if value < 0.0001 else f"{value:.4f}", value, best)
