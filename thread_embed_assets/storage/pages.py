"""A page of text, tables and charts: Markdown in a folder with its pictures, or Markdown with the pictures inside."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from thread_embed_assets.storage.atomic import atomic_folder
from thread_embed_assets.storage.charts import Chart

REPORT = "report.md"
_MARKS = re.compile(r"[\\`*{}\[\]#|~$]|(?<!\w)_|_(?!\w)|^[-+]")
_NUMBER = re.compile(r"[<−+-]?\d")

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows of cells; numbers are written with thousands separated, None as an empty cell.

    Cells are plain text: what Markdown or HTML would read in them is made harmless. Line ends become ``⏎``, since the UI
    shows no HTML. Columns of nothing but numbers, whatever their unit, stand to the right.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def markdown(self) -> str:
        columns = list(zip(*self.rows, strict=True)) or [("",) for _ in self.columns]
        numeric = [any(map(_is_number, column)) and all(map(_is_number, filter(None, column))) for column in columns]
        lines = [[_cell(cell) for cell in row] for row in (self.columns, *self.rows)]
        lines.insert(1, ["---:" if right else "---" for right in numeric])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@dataclass(frozen=True)
class Listing:
    """Lines of plain text under a heading of their own, such as a conversation."""

    title: str
    lines: Sequence[str]

    def markdown(self) -> str:
        return "\n".join([f"**{_cell(self.title)}**", "", *(f"- {_cell(line)}" for line in self.lines)])


Part = str | Table | Listing | Chart


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it; text is Markdown."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Page:
    """A page; ``lead`` is the Markdown below its title."""

    title: str
    lead: str
    sections: Sequence[Section]

    def markdown(self, picture: Callable[[Chart], str]) -> str:
        """The page, with what ``picture`` makes of each chart as the address of its image."""
        parts = [f"# {_cell(self.title)}", self.lead]
        for section in self.sections:
            parts.append(f"## {_cell(section.title)}")
            for part in section.parts:
                if isinstance(part, Chart):
                    parts.append(f"![{_cell(part.alt)}]({picture(part)})")
                else:
                    parts.append(part if isinstance(part, str) else part.markdown())
        return "\n\n".join(part for part in parts if part) + "\n"


def write_page(page: Page, folder: Path, files: dict[str, str] | None = None) -> str:
    """Write ``report.md`` and its pictures, whole or not at all.

    Args:
        page: what to write.
        folder: replaced by the new one.
        files: other texts to write beside it, by file name.

    Returns:
        the page with its pictures inside, as data addresses.
    """
    charts = [part for section in page.sections for part in section.parts if isinstance(part, Chart)]
    pictures = {chart.name: chart.png() for chart in charts}
    with atomic_folder(folder) as part:
        for name, png in pictures.items():
            (part / f"{name}.png").write_bytes(png)
        for name, text in (files or {}).items():
            (part / name).write_text(text, encoding="utf-8")
        (part / REPORT).write_text(page.markdown(lambda chart: f"{chart.name}.png"), encoding="utf-8")
    return page.markdown(lambda chart: f"data:image/png;base64,{base64.b64encode(pictures[chart.name]).decode('ascii')}")


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, int | float) or bool(cell and _NUMBER.match(cell))


def _cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:,.3g}" if abs(cell) < 100 else f"{cell:,.0f}"
    return _MARKS.sub(r"\\\g<0>", html.escape(" ⏎ ".join(cell.splitlines()), quote=False))
