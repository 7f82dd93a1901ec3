from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from thread_embed_assets.pairs.exploration import PairExample, PairFigures
from thread_embed_assets.pairs.exploration_page import EXAMPLE_CHARACTERS, pairs_page
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.storage.charts import Bars, Chart, Histogram, Panel
from thread_embed_assets.storage.distribution import distribution_of
from thread_embed_assets.storage.pages import Page, Table, write_page

EXAMPLE = PairExample("a|room", "the anchor", "its positive\nin two lines", 25, -90.0, {"bm25": "b" * 999, "own": "its own"})
FIGURES = PairFigures(
    strategy=Strategy.THREAD,
    pairs=40,
    splits={"train": 30, "dev": 10},
    conversations=12,
    with_negative=4,
    with_mined={"bm25": 15},
    channels=2,
    largest_channels={"a|room": 30, "another": 10},
    gap_seconds=distribution_of([60, 3_600]),
    sampled=40,
    anchor_words=distribution_of([3, 20]),
    positive_words=distribution_of([30, 70]),
    overlap_percent=distribution_of([0, 8, 25]),
    counts={"train_pairs": 30, "dropped_one_contains_the_other": 2},
    examples=(EXAMPLE, replace(EXAMPLE, gap_seconds=None)),
)
EMPTY = PairFigures(Strategy.TEMPORAL, 0, {}, 0, 0, {}, 0, {}, None, 0, None, None, None, {"conversations": 5}, ())


def _panels(page: Page, name: str) -> list[Panel]:
    parts = [part for section in page.sections for part in section.parts]
    return [panel for part in parts if isinstance(part, Chart) and part.name == name for panel in part.panels]


def test_strategies_are_set_side_by_side() -> None:
    [overview] = pairs_page("made", [FIGURES, EMPTY]).sections[0].parts
    assert isinstance(overview, Table)
    assert list(map(list, overview.rows)) == [
        ["thread", 40, 30, 10, 12, 2, "75.0%", 8, "10.0%", "0.0%", "50.0%"],
        ["temporal", 0, 0, 0, 0, 0, "0.0%", None, "0.0%", "0.0%", "0.0%"],
    ]


def test_each_strategy_has_its_plots() -> None:
    panels = _panels(pairs_page("made", [FIGURES]), "thread_pairs")
    assert [type(panel) for panel in panels] == [Histogram, Histogram, Histogram, Bars]
    lengths = panels[0]
    assert isinstance(lengths, Histogram) and list(lengths.series) == ["anchor", "positive"]
    timeless = replace(FIGURES, gap_seconds=None, channels=1)
    assert [type(panel) for panel in _panels(pairs_page("made", [timeless]), "thread_pairs")] == [Histogram, Histogram]


@pytest.mark.parametrize("strategies", [[FIGURES], [EMPTY], [FIGURES, EMPTY, replace(FIGURES, strategy=Strategy.RESPONSE)]])
def test_the_page_is_written_whatever_is_missing(strategies: list[PairFigures], tmp_path: Path) -> None:
    inline = write_page(pairs_page("made", strategies), tmp_path / "page")
    assert ("There are no pairs of this strategy." in inline) == (EMPTY in strategies)
    assert len(inline) < 1_000_000
    pictures = {path.name for path in (tmp_path / "page").glob("*.png")}
    assert pictures == {f"{figures.strategy}_pairs.png" for figures in strategies if figures.pairs}


def test_a_pair_stands_with_its_negatives() -> None:
    text = pairs_page("made", [FIGURES]).markdown(lambda chart: chart.name)
    assert (
        "| from | a\\|room; the positive begins 1.5 min before the anchor's end; "
        "25% of the words of anchor and positive are in both |"
    ) in text
    assert "| from | a\\|room; 25% of the words of anchor and positive are in both |" in text
    assert "| positive | its positive ⏎ in two lines |" in text
    assert f"| BM25 negative | {'b' * (EXAMPLE_CHARACTERS - 1)}… |" in text
    assert "| own negative | its own |" in text
    assert "n = 40 of 40 pairs" in text


def test_only_dev_pairs_are_not_shown() -> None:
    text = pairs_page("made", [replace(FIGURES, examples=())]).markdown(lambda chart: chart.name)
    assert "There are no pairs to train on." in text
