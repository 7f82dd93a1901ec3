"""A report as one HTML file that needs nothing else: tables that sort, pictures inside, light and dark, for print too."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_BAR_WIDTH, _BAR_HEIGHT = 64, 8  # pixels of a drawn interval


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: as it is read.
        value: what it sorts by; None sorts by the text if no cell of the column has a value, else after all values.
        best: shown in bold.
        interval: low and high, drawn below the text around ``value``.
        small: after the text, dimmed.
        colour: of the interval, or of a square before the text.
        dim: less than a result, such as why there is none.
    """

    text: str
    value: float | None = None
    best: bool = False
    interval: tuple[float, float] | None = None
    small: str = ""
    colour: str = ""
    dim: bool = False


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
        name: what it holds.
        small: a second line, such as the number of queries.
        group: neighbours of one group share a heading above them.
    """

    name: str
    small: str = ""
    group: str = ""


@dataclass(frozen=True)
class Grid:
    """A table; the first column names its rows. ``caption`` stands above it."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Bullets:
    """A list of lines of plain text."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """A PNG file and what it shows, for those who cannot see it."""

    path: Path
    alt: str


@dataclass(frozen=True)
class Folded:
    """Parts that are shown when asked for, and in print."""

    title: str
    parts: Sequence[str | Grid | Bullets | Picture]


Part = str | Grid | Bullets | Picture | Folded


@dataclass(frozen=True)
class Block:
    """A heading with what stands below it, and blocks of their own headings; text is plain."""

    title: str
    parts: Sequence[Part] = ()
    blocks: Sequence[Block] = ()


@dataclass(frozen=True)
class Report:
    """Everything on the page; ``top`` stands before the first heading."""

    title: str
    top: Sequence[Part]
    blocks: Sequence[Block]


def html_report(report: Report) -> str:
    """The report as one HTML text, all of whose texts are escaped; pictures are read from their files."""
    titles = [block.title for block in report.blocks]
    links = " ".join(f'<a href="#{_anchor(title)}">{escape(title)}</a>' for title in titles)
    body = [f"<h1>{escape(report.title)}</h1>", *map(_part, report.top)]
    for block in report.blocks:
        body += _block(block, level=2, above="")
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Nothing can be loaded, whatever a name or a text in the report says.
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
            "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">",
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(report.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>",
            f'<nav aria-label="Parts of the report"><a href="#top">Top</a> {links}</nav>',
            '<main id="top">',
            *body,
            f"</main>\n<script>{_SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def _block(block: Block, level: int, above: str) -> Iterator[str]:
    anchor = _anchor(f"{above} {block.title}")
    yield f'<section aria-labelledby="{anchor}">\n<h{level} id="{anchor}">{escape(block.title)}</h{level}>'
    if block.blocks:
        below = ((_anchor(f"{above} {block.title} {b.title}"), b.title) for b in block.blocks)
        yield '<p class="below">' + " ".join(f'<a href="#{to}">{escape(title)}</a>' for to, title in below) + "</p>"
    yield from map(_part, block.parts)
    for inner in block.blocks:
        yield from _block(inner, level + 1, f"{above} {block.title}")
    yield "</section>"


def _anchor(title: str) -> str:
    return re.sub(r"[^\w.-]+", "-", title.strip())


def _part(part: Part) -> str:
    if isinstance(part, str):
        return f"<p>{escape(part)}</p>"
    if isinstance(part, Bullets):
        return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in part.lines) + "</ul>"
    if isinstance(part, Picture):
        data = base64.b64encode(part.path.read_bytes()).decode("ascii")
        return f'<div class="wide" tabindex="0"><img src="data:image/png;base64,{data}" alt="{escape(part.alt)}"></div>'
    if isinstance(part, Folded):
        return f"<details><summary>{escape(part.title)}</summary>{''.join(map(_part, part.parts))}</details>"
    return _grid(part)


def _grid(grid: Grid) -> str:
    bounds = [bound for row in grid.rows for cell in row if cell.interval for bound in cell.interval]
    bar = _bar_between(min(bounds), max(bounds)) if bounds else None
    caption = f"<figcaption>{escape(grid.caption)}</figcaption>" if grid.caption else ""
    numeric = [any(row[n].value is not None for row in grid.rows) for n in range(len(grid.columns))]
    head = _head(grid.columns, numeric)
    rows = "\n".join("<tr>" + "".join(_cells(row, numeric, bar)) + "</tr>" for row in grid.rows)
    return (
        f'<figure>{caption}<div class="wide" tabindex="0" role="group" aria-label="{escape(grid.caption or "Table")}">\n'
        f"<table>\n<thead>{head}</thead>\n<tbody>\n{rows}\n</tbody>\n</table></div></figure>"
    )


def _head(columns: Sequence[Column], numeric: Sequence[bool]) -> str:
    heads = []
    for column, right in zip(columns, numeric, strict=True):
        small = f"<small>{escape(column.small)}</small>" if column.small else ""
        button = f'<button type="button"><span>{escape(column.name)}</span>{small}</button>'
        heads.append(f'<th scope="col"{" class=number" if right else ""}>{button}</th>')
    groups = "".join(
        f'<th colspan="{size}" scope="colgroup">{escape(name)}</th>' if name else f'<td colspan="{size}"></td>'
        for name, size in _groups(columns)
    )
    above = f"<tr>{groups}</tr>" if any(column.group for column in columns) else ""
    return f'{above}<tr class="names">{"".join(heads)}</tr>'


def _groups(columns: Iterable[Column]) -> Iterator[tuple[str, int]]:
    name, size = "", 0
    for column in columns:
        if size and column.group != name:
            yield name, size
            size = 0
        name, size = column.group, size + 1
    yield name, size


def _cells(row: Sequence[Cell], numeric: Sequence[bool], bar: Callable[[Cell], str] | None) -> Iterator[str]:
    for number, (cell, right) in enumerate(zip(row, numeric, strict=True)):
        text = escape(cell.text)
        text = f"<b>{text}</b>" if cell.best else f"<small>{text}</small>" if cell.dim else text
        small = f" <small>{escape(cell.small)}</small>" if cell.small else ""
        drawn = bar(cell) if bar and cell.interval else ""
        marks = (" class=number" if right else "") + ("" if cell.value is None else f' data-value="{cell.value!r}"')
        if number == 0:
            square = f'<i class="role" style="background:{escape(cell.colour)}"></i>' if cell.colour else ""
            yield f'<th scope="row"{marks}>{square}{text}{small}</th>'
        else:
            yield f"<td{marks}>{text}{small}{drawn}</td>"


def _bar_between(left: float, right: float) -> Callable[[Cell], str]:
    """Draws intervals on one scale, so that they can be compared down a column and across columns."""
    width = (right - left) or 1.0

    def place(value: float) -> str:
        return f"{3 + (value - left) / width * (_BAR_WIDTH - 6):.1f}"

    def draw(cell: Cell) -> str:
        assert cell.interval is not None
        low, high = (place(bound) for bound in cell.interval)
        dot = "" if cell.value is None else f'<circle cx="{place(cell.value)}" cy="4" r="2.6"/>'
        return (
            f'<svg width="{_BAR_WIDTH}" height="{_BAR_HEIGHT}" aria-hidden="true" style="color:{escape(cell.colour)}">'
            f'<line x1="{low}" x2="{high}" y1="4" y2="4"/>{dot}</svg>'
        )

    return draw


_STYLE = """
:root { --ink: #1b1f24; --dim: #57606a; --page: #ffffff; --line: #d5dae0; --head: #f3f5f7; --link: #0a58a8; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e8ec; --dim: #a0a9b3; --page: #15181c; --line: #363c43; --head: #21262c; --link: #7ab8f5; }
  img { filter: invert(0.91) hue-rotate(180deg); }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 3.2rem; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; }
main { max-width: 1800px; margin: 0 auto; padding: 0 1.2rem 4rem; }
nav { position: sticky; top: 0; z-index: 3; background: var(--page); border-bottom: 1px solid var(--line);
  padding: .6rem 1.2rem; white-space: nowrap; overflow-x: auto; }
nav a, .below a { margin-right: 1rem; }
.below { line-height: 1.9; }
a { color: var(--link); }
h1 { font-size: 1.7rem; margin: 1.2rem 0 .6rem; }
h2 { font-size: 1.35rem; margin: 2.6rem 0 .6rem; border-top: 2px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1.08rem; margin: 1.8rem 0 .4rem; }
p, ul { max-width: 62rem; margin: .5rem 0; }
.wide { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-size: .86rem; font-variant-numeric: tabular-nums; }
figure { margin: .8rem 0; }
figcaption { color: var(--dim); font-size: .9rem; padding-bottom: .35rem; max-width: 62rem; }
th, td { padding: .28rem .45rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  white-space: nowrap; }
tbody th { font-weight: normal; }
td.number, th.number { text-align: right; }
thead th, thead td { background: var(--head); vertical-align: bottom; }
thead th[colspan] { text-align: center; border-left: 1px solid var(--line); }
th:first-child, thead td:first-child { position: sticky; left: 0; z-index: 2; background: var(--page);
  border-right: 1px solid var(--line); }
thead th:first-child, thead td:first-child { background: var(--head); }
tbody tr:hover > * { background: var(--head); }
th button { all: unset; cursor: pointer; font-weight: 600; white-space: nowrap; }
th button:focus-visible, .wide:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
th button span::after { content: "\\2195"; color: var(--dim); font-weight: normal; padding-left: .25rem; }
th[aria-sort=ascending] button span::after { content: "\\2191"; color: var(--ink); }
th[aria-sort=descending] button span::after { content: "\\2193"; color: var(--ink); }
small { color: var(--dim); font-size: .78rem; font-weight: normal; }
button small { display: block; }
svg { display: block; margin: .1rem 0 0 auto; }
svg line { stroke: currentColor; stroke-width: 2; }
svg circle { fill: currentColor; }
.role { display: inline-block; width: .65rem; height: .65rem; border-radius: 2px; margin-right: .45rem; }
img { display: block; width: 720px; height: auto; margin: .8rem 0; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--link); }
@media (max-width: 600px) {
  main, nav { padding-left: .7rem; padding-right: .7rem; }
  img { width: 600px; }
  tbody th:first-child { min-width: 9rem; max-width: 9.5rem; font-size: .78rem; white-space: normal;
    overflow-wrap: anywhere; }
}
@media print {
  @page { size: A4 landscape; margin: 10mm; }
  :root { --ink: #000; --dim: #444; --page: #fff; --line: #bbb; --head: #eee; --link: #000; }
  body { font-size: 9px; }
  nav, .below, th button span::after { display: none; }
  main { max-width: none; padding: 0; }
  .wide { overflow: visible; }
  th, td { padding: .12rem .28rem; }
  th:first-child, thead td:first-child { position: static; }
  svg { width: 40px; }
  tr, img { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; }
  img { width: 150mm; filter: none; }
}
"""

# A click sorts downwards first where the column holds numbers; rows without a value stay at the end either way.
_SCRIPT = """
"use strict";
const key = (row, column) => {
  const cell = row.cells[column];
  return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
};
document.querySelectorAll("tr.names button").forEach((button) => button.addEventListener("click", () => {
  const head = button.closest("th");
  const body = button.closest("table").tBodies[0];
  const rows = [...body.rows];
  const column = head.cellIndex;
  const numbers = rows.some((row) => key(row, column) !== null);
  const before = head.getAttribute("aria-sort");
  const down = before === null ? numbers : before === "ascending";
  head.parentNode.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const sign = down ? -1 : 1;
  rows.sort((a, b) => {
    if (!numbers) return sign * a.cells[column].textContent.localeCompare(b.cells[column].textContent);
    const [x, y] = [key(a, column), key(b, column)];
    return x === null || y === null ? (x === null) - (y === null) : sign * (x - y);
  });
  body.append(...rows);
}));
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((part) => { part.open = true; }));
"""
