from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread

from thread_embed_assets.storage.charts import (
    Bars,
    Chart,
    HeatMap,
    Histogram,
    Intervals,
    Panel,
    Timeline,
    Waterfall,
    histogram,
    percent,
    stepped,
)
from thread_embed_assets.storage.distribution import Distribution, distribution_of

STEPS = {0: "0", 1: "1 s", 60: "1 min", 3_600: "1 h"}
NUMBERS = st.lists(st.integers(0, 999) | st.integers(1_000, 10**7), min_size=1, max_size=80)


def _of(numbers: list[int]) -> Distribution:
    found = distribution_of(numbers)
    assert found is not None
    return found


def _axes(panel: Panel) -> Any:
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    panel.draw(axes, panel.height)
    return axes


def _texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


@given(NUMBERS)
def test_a_histogram_shows_or_owns_up_to_every_number(numbers: list[int]) -> None:
    panel = histogram("sizes", "words", "messages", _of(numbers))
    shown = sum(panel.series["messages"])
    hidden = len(numbers) - shown
    assert len(panel.edges) == len(panel.series["messages"]) + 1 <= 42
    assert shown >= 0.99 * len(numbers)
    assert panel.note.startswith(f"{hidden:,} of ") if hidden else not panel.note
    assert len({round(high - low, 6) for low, high in pairwise(panel.edges)}) == 1


def test_a_bar_of_one_number_stands_over_it() -> None:
    panel = histogram("people", "people", "conversations", _of([2, 2, 3]))
    assert (list(panel.edges), panel.series["conversations"]) == ([1.5, 2.5, 3.5], [2, 1])


@given(NUMBERS)
def test_steps_hold_every_number_and_end_after_the_largest(numbers: list[int]) -> None:
    panel = stepped("gaps", "time", "messages", STEPS, {"messages": _of(numbers), "none": None})
    assert list(panel.series) == ["messages"]
    assert sum(panel.series["messages"]) == len(numbers)
    assert panel.series["messages"][-1] > 0
    assert len(panel.ticks) == len(panel.edges) == len(panel.series["messages"]) + 1
    assert panel.ticks[-1] == next((name for start, name in STEPS.items() if start > max(numbers)), "…")


def test_a_waterfall_ends_where_the_losses_leave_it() -> None:
    axes = _axes(Waterfall("kept", "messages", ("parsed", 1_000), {"bots": 300, "a sliver": 1}, "kept"))
    bars = [(patch.get_x(), patch.get_width()) for patch in axes.patches]
    assert bars == [(0, 1_000), (700, 300), (699, 1), (0, 699)]
    assert _texts(axes) == ["1,000", "−300 (30.0%)", "−1 (0.1%)", "699 (69.9%)"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["parsed", "bots", "a sliver", "kept"]


def test_intervals_stand_on_their_side_of_zero_and_what_was_not_run_says_so() -> None:
    rows = {"better": (0.2, 0.1, 0.3), "unsure": (0.1, -0.1, 0.3), "absent": None, "worse": (-0.2, -0.3, -0.1)}
    axes = _axes(Intervals("arms", "difference", rows))
    lines = {
        tuple(map(float, segment[:, 0])): c.get_colors()[0][:3] for c in axes.collections for segment in c.get_segments()
    }
    assert set(lines) == {(0.1, 0.3), (-0.1, 0.3), (-0.3, -0.1)}
    assert len({tuple(colour) for colour in lines.values()}) == 3, "above 0, around it and below it look different"
    assert [label.get_text() for label in axes.get_yticklabels()] == list(rows)
    assert _texts(axes) == ["not run"]


def test_the_median_is_marked_where_it_is() -> None:
    axes = _axes(histogram("sizes", "words", "messages", _of([1, 2, 40])))
    assert axes.lines[0].get_xdata()[0] == 2
    assert _texts(axes) == ["median 2"]


def test_bars_say_their_numbers() -> None:
    axes = _axes(Bars("rooms", "messages", {"first": 12_000, "second": 3}))
    assert _texts(axes) == ["12,000", "3"]
    assert [patch.get_width() for patch in axes.patches] == [12_000, 3]


def test_long_names_that_begin_alike_stay_apart() -> None:
    axes = _axes(Bars("rooms", "messages", {f"{'a' * 40}-{number}": 1 for number in (1, 2)}))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert [label[-3:] for label in labels] == ["a-1", "a-2"] and all(len(label) < 35 for label in labels)


def test_a_timeline_draws_its_intervals() -> None:
    axes = _axes(Timeline("by week", "messages", {date(2024, 1, 1): 5, date(2024, 1, 15): 7}, days=7))
    assert [patch.get_height() for patch in axes.patches] == [5, 7]
    assert axes.patches[1].get_x() - axes.patches[0].get_x() == 14 and axes.patches[0].get_width() == 7


def test_a_heat_map_begins_at_the_top() -> None:
    axes = _axes(HeatMap("week", "hour", "messages", ["Mon", "Tue"], ["00", ""], [[1, 2], [3, 4]]))
    assert axes.yaxis_inverted()
    assert axes.collections[0].get_array().tolist() == [[1, 2], [3, 4]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["00"]


HOSTILE = "$x_{ \\frac$\n a very long name 名前 \U0001f600 of something that never ends"
EMPTY: dict[str, Callable[[], Panel]] = {
    "bars of nothing": lambda: Bars("none", "messages", {}),
    "bars of noughts": lambda: Bars("none", "messages", {"a": 0}),
    "a histogram of noughts": lambda: Histogram("none", "words", "messages", [0, 1], {"messages": [0]}),
    "one number": lambda: histogram("one", "words", "messages", _of([0])),
    "one large number": lambda: histogram("one", "words", "messages", _of([2_000_000])),
    "a waterfall of nothing": lambda: Waterfall("none", "messages", ("parsed", 0), {}, "kept"),
    "a single day": lambda: Timeline("one", "messages", {date(2024, 2, 29): 1}, days=1),
    "names that look like formulas": lambda: Bars(HOSTILE, HOSTILE.replace("$", ""), {HOSTILE: 1.0}),
}


@pytest.mark.parametrize("name", EMPTY)
def test_what_is_nearly_empty_or_hostile_is_drawn_without_a_warning(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Chart("odd", "odd", [EMPTY[name]()]).png().startswith(b"\x89PNG")


def test_a_chart_has_the_width_of_a_page_and_is_the_same_each_time() -> None:
    narrow = histogram("sizes", "words", "messages", _of([1, 2, 2, 5]))
    wide = Timeline("days", "messages", {date(2024, 1, 1): 5}, days=1)
    chart = Chart("all", "all of them", [narrow, narrow, narrow, wide])
    png = chart.png()
    height, width, _ = imread(io.BytesIO(png)).shape
    assert 1_000 <= width <= 1_100
    assert height == pytest.approx(110 * (2 * narrow.height + wide.height), rel=0.05)
    assert chart.png() == png


def test_shares_that_are_there_never_become_nothing() -> None:
    assert [percent(part, 10_000) for part in (0, 1, 5, 4_321, 10_000)] == ["0.0%", "<0.1%", "0.1%", "43.2%", "100.0%"]
    assert percent(0, 0) == "0.0%"
