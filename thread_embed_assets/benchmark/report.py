"""The leaderboard: JSON for programs, Markdown, one HTML file and plots for people, a small table for the terminal."""

from __future__ import annotations

import base64
import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thread_embed_assets.benchmark.html_report import html_report
from thread_embed_assets.benchmark.metrics import HEADLINE
from thread_embed_assets.benchmark.report_cells import score_cell
from thread_embed_assets.benchmark.report_content import leaderboard_content
from thread_embed_assets.benchmark.report_markdown import address, markdown_report
from thread_embed_assets.benchmark.report_plots import write_plots
from thread_embed_assets.benchmark.report_sections import leaderboard_report, why_not_run
from thread_embed_assets.errors import InputError
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.storage.atomic import write_text
from thread_embed_assets.storage.layout import Layout

TERMINAL_COLUMNS = 180
_NAME_IN_TERMINAL = 40


@dataclass(frozen=True)
class Leaderboard:
    """What was written.

    Attributes:
        content: as in ``leaderboard.json``: per source its tasks, rows and comparisons, then what compares sources.
        plots: PNG files, per source one for each task, its breakdowns and the Matryoshka curve.
    """

    json_path: Path
    markdown_path: Path
    html_path: Path
    plots: tuple[Path, ...]
    content: Mapping[str, Any]

    @property
    def markdown(self) -> str:
        return self.markdown_path.read_text(encoding="utf-8")

    def markdown_with_pictures(self) -> str:
        """The Markdown with its plots inside, as data addresses."""
        text = self.markdown
        for path in self.plots:
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            text = text.replace(f"({address(path)})", f"(data:image/png;base64,{data})")
        return text


def write_leaderboard(results: Sequence[Path], layout: Layout, platforms: Mapping[str, str] | None = None) -> Leaderboard:
    """Write ``leaderboard.json``, ``leaderboard.md``, ``leaderboard.html`` and the plots below ``layout.benchmark``.

    Args:
        results: files written by ``evaluate.evaluate_source``, one per source.
        layout: where to write; its embedding cache and tasks, where they are there, tell what embedding costs.
        platforms: source to platform; by default the catalogue's.

    Raises:
        InputError: a results file is missing or damaged.
    """
    if platforms is None:
        platforms = {name: source.platform for name, source in load_catalog().items()}
    content = leaderboard_content(results, layout, platforms)
    folder = _plot_folder(layout)
    board = Leaderboard(*_paths(layout), tuple(write_plots(content["sources"], folder)), content)
    report = leaderboard_report(content, folder)
    write_text(board.json_path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    write_text(board.markdown_path, markdown_report(report))
    write_text(board.html_path, html_report(report))
    return board


def read_leaderboard(layout: Layout) -> Leaderboard:
    """The leaderboard as it was last written.

    Raises:
        InputError: there is none.
    """
    paths = _paths(layout)
    if not paths[0].exists():
        raise InputError(paths[0], "there is no leaderboard yet", "Materialise the leaderboard")
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    return Leaderboard(*paths, tuple(sorted(_plot_folder(layout).glob("*.png"))), content)


def terminal_table(leaderboard: Leaderboard) -> str:
    """The headline metric per source, one line per contender, columns aligned with spaces."""
    blocks = []
    for entry in leaderboard.content["sources"]:
        table = [[entry["source"], *(f"{task['task']} (n={task['n']})" for task in entry["tasks"])]]
        for row in entry["rows"]:
            cells = [score_cell(row, "scores", task["task"], HEADLINE) for task in entry["tasks"]]
            name = textwrap.shorten(row["contender"], _NAME_IN_TERMINAL, placeholder="…")
            table.append([name, *(f"{cell.text} {cell.small}".rstrip() for cell in cells)])
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
        reasons = [textwrap.fill(line, TERMINAL_COLUMNS, subsequent_indent="  ") for line in why_not_run([entry])]
        blocks.append("\n".join([lines[0], "-" * len(lines[0]), *lines[1:], *reasons]))
    return f"{HEADLINE} [95 % interval]\n\n" + "\n\n".join(blocks)


def _paths(layout: Layout) -> tuple[Path, Path, Path]:
    json_path, markdown_path, html_path = (layout.benchmark / f"leaderboard.{kind}" for kind in ("json", "md", "html"))
    return json_path, markdown_path, html_path


def _plot_folder(layout: Layout) -> Path:
    return layout.benchmark / "plots"
