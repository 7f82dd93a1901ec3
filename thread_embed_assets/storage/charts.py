"""Charts in one style: panels are data, drawn together as one PNG.

Colours are Okabe and Ito's, which colour-blind readers tell apart; figures are as wide as a page of the UI.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, ClassVar

from thread_embed_assets.storage.distribution import Distribution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
_WIDTH, _DPI = 9.6, 110  # inches; dots per inch
_SMALL = 8.0
_LONGEST_LABEL = 30
_MOST_BINS = 40
_ROW = 0.24  # inches for a bar and its gap, so that bars are alike in all panels
_AROUND_ROWS = 0.9
_SHOWN_SHARE = 0.99


@dataclass(frozen=True)
class Histogram:
    """How numbers are spread.

    Attributes:
        axis: what the numbers are, with their unit.
        counted: what the bars count.
        edges: where bins begin, ascending, and at the end where the last one ends.
        series: name to counts, one fewer than edges; a second series is drawn as a line over the first.
        ticks: names of the edges, for bins of unequal width, which are then drawn equally wide.
        median: marked by a line; only where ``ticks`` is empty.
        note: what the histogram leaves out, beside the axis.
        top: the highest bar, to draw several alike.
    """

    title: str
    axis: str
    counted: str
    edges: Sequence[float]
    series: Mapping[str, Sequence[float]]
    ticks: Sequence[str] = ()
    median: float | None = None
    note: str = ""
    top: float | None = None
    wide: ClassVar[bool] = False

    @property
    def height(self) -> float:
        return 2.5

    def draw(self, axes: Axes, height: float) -> None:
        from matplotlib.ticker import MaxNLocator

        edges = range(len(self.edges)) if self.ticks else self.edges
        axes.set_xlim(edges[0], edges[-1])
        for number, (name, counts) in enumerate(self.series.items()):
            if number == 0:
                axes.stairs(counts, edges, fill=True, color=BLUE, alpha=0.85, label=name)
            else:
                axes.stairs(counts, edges, color=ORANGE, linewidth=1.8, label=name)
        if self.ticks:
            axes.set_xticks(edges, self.ticks, rotation=40, ha="right", rotation_mode="anchor")
        else:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        top = self.top or max((count for counts in self.series.values() for count in counts), default=0)
        axes.set_ylim(0, 1.15 * top or 1)  # room for the median's name
        if self.median is not None:
            axes.axvline(self.median, color=GREY, linewidth=1.2, linestyle="--")
            right = self.median > (edges[0] + edges[-1]) / 2
            axes.annotate(
                f"median {self.median:,.0f}",
                (self.median, 0.96),
                xytext=(-4 if right else 4, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right" if right else "left",
                va="top",
                fontsize=_SMALL,
                color=GREY,
            )
        if len(self.series) > 1:
            axes.legend(fontsize=_SMALL, frameon=False)
        axes.set_xlabel(f"{self.axis} ({self.note})" if self.note else self.axis)
        _count_upwards(axes, self.counted)


@dataclass(frozen=True)
class Bars:
    """A number for each of a few names, as horizontal bars in the order given.

    Attributes:
        axis: what the numbers are.
        bars: name to number.
        written: how each number stands beside its bar; by default with thousands separated.
    """

    title: str
    axis: str
    bars: Mapping[str, float]
    written: Mapping[str, str] | None = None
    wide: ClassVar[bool] = False

    @property
    def height(self) -> float:
        return _AROUND_ROWS + _ROW * len(self.bars)

    def draw(self, axes: Axes, height: float) -> None:
        written = self.written or {name: f"{value:,.0f}" for name, value in self.bars.items()}
        drawn = axes.barh(range(len(self.bars)), list(self.bars.values()), color=BLUE, height=0.7)
        axes.bar_label(drawn, [written[name] for name in self.bars], padding=3, fontsize=_SMALL, color=GREY)
        axes.set_xlim(0, 1.25 * max(self.bars.values(), default=0) or 1)  # room for the last number
        _name_rows(axes, list(self.bars), height)
        axes.set_xlabel(self.axis)


@dataclass(frozen=True)
class Waterfall:
    """From a whole, step by step, to what is left.

    Attributes:
        start: name and size of the whole.
        losses: name to size of what each step takes away.
        end: name of what is left.
    """

    title: str
    axis: str
    start: tuple[str, int]
    losses: Mapping[str, int]
    end: str
    wide: ClassVar[bool] = True

    @property
    def height(self) -> float:
        return _AROUND_ROWS + _ROW * (len(self.losses) + 2)

    def draw(self, axes: Axes, height: float) -> None:
        name, whole = self.start
        left = whole
        rows = [(name, 0, whole, GREY, f"{whole:,}")]
        for loss, size in self.losses.items():
            left -= size
            rows.append((loss, left, size, ORANGE, f"−{size:,} ({percent(size, whole)})"))
        rows.append((self.end, 0, left, GREEN, f"{left:,} ({percent(left, whole)})"))
        for row, (_, begin, size, colour, text) in enumerate(rows):
            drawn = axes.barh(row, size, left=begin, color=colour, height=0.7)
            inside = begin + size > 0.8 * whole and begin > 0.25 * whole
            if inside:  # beyond the right edge there is no room for the text
                axes.text(begin - 0.005 * whole, row, text, ha="right", va="center", fontsize=_SMALL, color=GREY)
            else:
                axes.bar_label(drawn, [text], padding=3, fontsize=_SMALL, color=GREY)
        axes.set_xlim(0, 1.15 * whole or 1)
        _name_rows(axes, [row[0] for row in rows], height)
        axes.set_xlabel(self.axis)


@dataclass(frozen=True)
class Intervals:
    """Differences and how sure they are, a row each, beside a line at 0.

    Attributes:
        axis: what the differences are of.
        rows: name to difference, lower and upper end of its interval, from the top; None where there is none to show.
    """

    title: str
    axis: str
    rows: Mapping[str, tuple[float, float, float] | None]
    wide: ClassVar[bool] = True

    @property
    def height(self) -> float:
        return _AROUND_ROWS + _ROW * len(self.rows)

    def draw(self, axes: Axes, height: float) -> None:
        from matplotlib.ticker import MaxNLocator

        _name_rows(axes, list(self.rows), height)
        axes.axvline(0, color=GREY, linewidth=1.2, linestyle="--")
        for row, found in enumerate(self.rows.values()):
            if found is None:
                axes.annotate("not run", (0, row), xytext=(4, 0), textcoords="offset points", va="center", color=GREY)
                continue
            mean, low, high = found
            colour = GREEN if low > 0 else ORANGE if high < 0 else BLUE
            axes.hlines(row, low, high, color=colour, linewidth=1.8)
            axes.plot([mean], [row], "o", color=colour, markersize=4.5)
        axes.xaxis.set_major_formatter("{x:+.2f}")
        axes.xaxis.set_major_locator(MaxNLocator(7))
        axes.set_xlabel(self.axis)


@dataclass(frozen=True)
class Timeline:
    """Counts over time.

    Attributes:
        counts: first day of each interval to its count; intervals without any may be missing.
        days: length of an interval, to draw it.
    """

    title: str
    counted: str
    counts: Mapping[date, int]
    days: int
    wide: ClassVar[bool] = True

    @property
    def height(self) -> float:
        return 2.3

    def draw(self, axes: Axes, height: float) -> None:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator()  # type: ignore[no-untyped-call]
        axes.bar(list(self.counts), list(self.counts.values()), width=self.days, align="edge", color=BLUE)  # type: ignore[arg-type]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        _count_upwards(axes, self.counted)


@dataclass(frozen=True)
class HeatMap:
    """A number for each pair of a row and a column.

    Attributes:
        axis: what the columns are.
        counted: what the colours count.
        rows: their names, from the top.
        columns: their names, each written where it is not empty.
        values: row by row.
    """

    title: str
    axis: str
    counted: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Sequence[Sequence[float]]
    wide: ClassVar[bool] = True

    @property
    def height(self) -> float:
        return 2.5

    def draw(self, axes: Axes, height: float) -> None:
        mesh = axes.pcolormesh(self.values, cmap="Blues", vmin=0, edgecolors="white", linewidth=0.5)
        named = [number for number, name in enumerate(self.columns) if name]
        axes.set_xticks([number + 0.5 for number in named], [self.columns[number] for number in named])
        axes.set_yticks([number + 0.5 for number in range(len(self.rows))], list(self.rows))
        axes.invert_yaxis()
        axes.tick_params(length=0)
        axes.set_xlabel(self.axis)
        axes.spines[:].set_visible(False)
        assert axes.figure is not None
        bar = axes.figure.colorbar(mesh, ax=axes, label=self.counted, pad=0.01, format=_thousands)
        bar.ax.tick_params(labelsize=_SMALL)
        bar.outline.set_visible(False)


Panel = Histogram | Bars | Waterfall | Intervals | Timeline | HeatMap


@dataclass(frozen=True)
class Chart:
    """Panels that are drawn as one picture.

    Attributes:
        name: of the file, without its ending.
        alt: what the picture shows, for those who cannot see it.
        panels: two in a row, or more, but for wide ones.
    """

    name: str
    alt: str
    panels: Sequence[Panel]
    columns: int = 2

    def png(self) -> bytes:
        """The picture, about 1,050 pixels wide."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        rows = list(_rows(self.panels, self.columns))
        heights = [max(panel.height for panel in row) for row in rows]
        layout = ConstrainedLayoutEngine(hspace=0.04, wspace=0.04)
        figure = Figure(figsize=(_WIDTH, sum(heights) + 0.1), dpi=_DPI, layout=layout)
        FigureCanvasAgg(figure)
        grid = figure.add_gridspec(len(rows), self.columns, height_ratios=heights)
        for number, row in enumerate(rows):
            for place, panel in enumerate(row):
                axes = figure.add_subplot(grid[number, :] if len(row) == 1 else grid[number, place])
                axes.set_title(_plain(panel.title), loc="left", fontsize=10)
                axes.tick_params(labelsize=_SMALL)
                axes.spines[["top", "right"]].set_visible(False)
                axes.set_axisbelow(True)
                panel.draw(axes, heights[number])
                axes.xaxis.label.set_fontsize(9)
                axes.yaxis.label.set_fontsize(9)
        written = io.BytesIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a name in a script that the font lacks
            figure.savefig(written, format="png", metadata={"Software": None})
        return written.getvalue()


def histogram(title: str, axis: str, counted: str, spread: Distribution) -> Histogram:
    """A histogram of equal bins, as wide as is needed to show 99 % of the numbers in at most 40."""
    end = spread.quantile(_SHOWN_SHARE)
    begin = spread.values[0]
    width = _nice(max(1, end - begin + 1) / _MOST_BINS)
    begin = begin // width * width if width >= 10 else begin
    edges = [begin + width * number for number in range(math.ceil((end + 1 - begin) / width) + 1)]
    counts = spread.histogram(edges)
    note = f"{counts[-1]:,} of {edges[-1]:,} or more not shown" if counts[-1] else ""
    drawn = [edge - 0.5 for edge in edges] if width == 1 else edges  # a bar of one number stands over its number
    return Histogram(title, axis, counted, drawn, {counted: counts[:-1]}, median=spread.quantile(0.5), note=note)


def stepped(
    title: str,
    axis: str,
    counted: str,
    steps: Mapping[float, str],
    spreads: Mapping[str, Distribution | None],
    note: str = "",
) -> Histogram:
    """A histogram of given bins, for numbers of many magnitudes, up to the largest there is.

    Args:
        title: above the panel.
        axis: what the numbers are.
        counted: what the bars count.
        steps: where bins begin, ascending, and the name of each edge; the last is open.
        spreads: name to numbers, one or two.
        note: stands beside the axis.
    """
    given = {name: spread for name, spread in spreads.items() if spread is not None}
    largest = max((spread.largest for spread in given.values()), default=0.0)
    starts = [start for start in steps if start <= largest] or list(steps)[:1]
    series = {name: spread.histogram(starts) for name, spread in given.items()}
    ends = [(start, name) for start, name in steps.items() if start > largest][:1] or [(math.inf, "…")]
    ticks = [*(steps[start] for start in starts), ends[0][1]]
    return Histogram(title, axis, counted, [*starts, ends[0][0]], series, ticks=ticks, note=note)


def percent(part: float, whole: float) -> str:
    """The share with one digit; a part that is there never becomes nothing."""
    share = part / whole if whole else 0.0
    return "<0.1%" if 0 < share < 0.0005 else f"{share:.1%}"


def _nice(width: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, 50 ... that is not below ``width``."""
    unit = int(10 ** max(0, math.ceil(math.log10(width)) - 1))
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= width)


def _rows(panels: Sequence[Panel], columns: int) -> Iterator[list[Panel]]:
    row: list[Panel] = []
    for panel in panels:
        if panel.wide or len(row) == columns:
            if row:
                yield row
            row = []
        row.append(panel)
        if panel.wide:
            yield row
            row = []
    if row:
        yield row


def _count_upwards(axes: Axes, counted: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylabel(counted)
    axes.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_formatter(_thousands)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)


def _name_rows(axes: Axes, names: Sequence[str], height: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim((height - _AROUND_ROWS) / _ROW - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(_thousands)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.spines["left"].set_visible(False)


def _thousands(value: float, _: float | None = None) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2g}"


def _short(name: str) -> str:
    """The name, or its two ends: names that begin alike are common among channels."""
    half = _LONGEST_LABEL // 2
    return _plain(name if len(name) <= _LONGEST_LABEL else f"{name[:half]}…{name[-half:]}")


def _plain(text: str) -> str:
    """Without what matplotlib would read as a formula, and on one line."""
    return " ".join(text.split()).replace("$", r"\$")
