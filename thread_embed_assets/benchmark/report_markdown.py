"""A report as Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from thread_embed_assets.benchmark.html_report import Block, Bullets, Cell, Folded, Part, Picture, Report


def markdown_report(report: Report) -> str:
    """The report as one Markdown text, whose texts are escaped; pictures are named by ``address``."""
    parts = [f"# {_plain(report.title)}", *map(_part, report.top)]
    for block in report.blocks:
        parts += _markdown_block(block, 2)
    return "\n\n".join(parts) + "\n"


def address(plot: Path) -> str:
    """Where the Markdown finds a picture: its name and folder's name, for the text stands beside that folder."""
    return f"{plot.parent.name}/{plot.name}"


def _markdown_block(block: Block, level: int) -> Iterator[str]:
    yield f"{'#' * level} {_plain(block.title)}"
    yield from map(_part, block.parts)
    for inner in block.blocks:
        yield from _markdown_block(inner, level + 1)


def _part(part: Part) -> str:
    if isinstance(part, str):
        return _plain(part)
    if isinstance(part, Bullets):
        return "\n".join(f"- {_plain(line)}" for line in part.lines)
    if isinstance(part, Picture):
        return f"![{_plain(part.alt)}]({address(part.path)})"
    if isinstance(part, Folded):
        return "\n\n".join([f"**{_plain(part.title)}**", *map(_part, part.parts)])
    heads = [_plain(f"{c.group} {c.name}".strip() + (f" ({c.small})" if c.small else "")) for c in part.columns]
    right = [any(row[n].value is not None for row in part.rows) for n in range(len(heads))]
    rows = [heads, ["---:" if r else "---" for r in right], *([_markdown_cell(cell) for cell in row] for row in part.rows)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return f"{_plain(part.caption)}\n\n{table}" if part.caption else table


def _markdown_cell(cell: Cell) -> str:
    text = _plain(cell.text)
    return f"**{text}** {cell.small}".rstrip() if cell.best else f"{text} {cell.small}".rstrip()


def _plain(text: str) -> str:
    """Text in which Markdown and HTML read nothing but the text."""
    return re.sub(r"[\\`*\[\]|~$]|(?<!\w)_|_(?!\w)", r"\\\g<0>", html.escape(" ".join(text.splitlines()), quote=False))
