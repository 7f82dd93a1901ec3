from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thread_embed_assets.pairs import exploration
from thread_embed_assets.pairs.exploration import EXAMPLES, PairFigures, explore_pairs
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets_tests.pairs.made import NEGATIVE, pair, write_negatives, write_pairs


def _explore(folder: Path, pairs: list[dict[str, Any]], negatives: list[dict[str, Any]]) -> PairFigures:
    handle = write_pairs(folder / "pairs.duckdb", pairs)
    return explore_pairs(Strategy.THREAD, handle, write_negatives(folder / "hard_negatives.duckdb", negatives))


def _negative(number: int, **fields: Any) -> dict[str, Any]:
    return {**NEGATIVE, "pair_id": f"c{number}#thread0", "conversation_id": f"c{number}", **fields}


@pytest.fixture
def figures(tmp_path: Path) -> PairFigures:
    pairs = [
        pair(1, anchor="one two three", positive="three four", gap_seconds=60.0, channel="attic"),
        pair(2, anchor="Same words", positive="same\nwords", gap_seconds=-90.0),
        pair(3, anchor="a b c d", positive="e", gap_seconds=None, negative="not this", split="dev"),
        pair(4, conversation_id="c1", anchor="x", positive="y"),
    ]
    negatives = [
        _negative(1, negative="best"),
        _negative(1, negative="second best", rank=2),
        _negative(1, kind="same_channel", negative="from the attic"),
        _negative(2, negative="other"),
        _negative(4, strategy="response", negative="of another strategy"),
    ]
    return _explore(tmp_path, pairs, negatives)


def test_pairs_are_counted(figures: PairFigures) -> None:
    assert (figures.strategy, figures.pairs, figures.sampled) == (Strategy.THREAD, 4, 4)
    assert figures.splits == {"train": 3, "dev": 1}
    assert (figures.conversations, figures.channels, figures.with_negative) == (3, 2, 1)
    assert figures.largest_channels == {"room0": 3, "attic": 1}
    assert figures.with_mined == {"bm25": 2, "same_channel": 1}


def test_lengths_overlap_and_times_are_spread(figures: PairFigures) -> None:
    anchor, positive, shared, gaps = (
        figures.anchor_words,
        figures.positive_words,
        figures.overlap_percent,
        figures.gap_seconds,
    )
    assert anchor is not None and positive is not None and shared is not None and gaps is not None
    assert (anchor.values, anchor.counts) == ((1, 2, 3, 4), (1, 1, 1, 1))
    assert (positive.values, positive.counts) == ((1, 2), (2, 2))
    assert (shared.values, shared.counts) == ((0, 25, 100), (2, 1, 1))
    assert (gaps.values, gaps.counts) == ((60, 90), (2, 1)), "whichever comes first"


def test_examples_are_train_pairs_with_the_best_negative_of_each_kind(figures: PairFigures) -> None:
    found = {example.anchor: example for example in figures.examples}
    assert set(found) == {"one two three", "Same words", "x"}
    assert found["one two three"].negatives == {"bm25": "best", "same_channel": "from the attic"}
    assert (found["one two three"].overlap, found["one two three"].gap_seconds) == (25, 60.0)
    assert found["Same words"].gap_seconds == -90.0


def test_a_pair_shows_the_negative_of_its_own(tmp_path: Path) -> None:
    [example] = _explore(tmp_path, [pair(1, negative="its own")], [_negative(1)]).examples
    assert example.negatives == {"bm25": "something else", "own": "its own"}


def test_a_strategy_without_pairs_has_no_figures(tmp_path: Path) -> None:
    figures = _explore(tmp_path, [], [])
    assert (figures.pairs, figures.sampled, figures.splits, figures.examples) == (0, 0, {}, ())
    assert figures.anchor_words is figures.overlap_percent is figures.gap_seconds is None


def test_examples_and_samples_are_drawn_from_everywhere_and_alike_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exploration, "_SAMPLE", exploration._SAMPLE.replace(str(exploration.SAMPLE), "100"))
    pairs = [pair(n, anchor=f"{'word ' * (n // 100 + 1)}{n}", positive="positive") for n in range(1_000)]
    figures = _explore(tmp_path, pairs, [])
    assert figures.sampled == 100
    assert figures.anchor_words is not None
    assert len(figures.anchor_words.values) == 10, "every hundred of the table is in the sample"
    numbers = [int(example.anchor.split()[-1]) for example in figures.examples]
    assert len(set(numbers)) == EXAMPLES and max(numbers) > 200
    assert _explore(tmp_path, pairs[::-1], []).examples == figures.examples
