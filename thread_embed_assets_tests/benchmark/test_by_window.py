"""Documents read by window: how they are cut, and that the best window counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.benchmark import by_window
from thread_embed_assets.benchmark.by_window import ByWindow, windows
from thread_embed_assets.benchmark.retrievers import Dense

LINES = st.lists(st.text(alphabet="ab \n", max_size=40), max_size=12)


def test_windows_hold_whole_lines_and_begin_with_a_short_line_of_the_one_before() -> None:
    lines = ["the build broke", "again?", "yes, on the release branch since nine", "who merged last"]
    assert windows("\n".join(lines), 40) == ["the build broke\nagain?", lines[2], lines[3]]
    assert windows("\n".join(lines), 50) == ["the build broke\nagain?", f"again?\n{lines[2]}", lines[3]]
    assert windows("") == [""]
    assert windows("short\ntext") == ["short\ntext"]


def test_a_line_beyond_the_limit_is_cut_at_spaces() -> None:
    assert windows("one two three four", 9) == ["one two", "three", "four"]
    assert windows("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]


@given(lines=LINES, characters=st.integers(3, 60))
def test_windows_cover_the_text_in_order_within_the_limit(lines: list[str], characters: int) -> None:
    text = "\n".join(lines)
    found = windows(text, characters)
    assert max(map(len, found)) <= characters
    at = 0
    for word in text.split():
        if len(word) <= characters:
            at = next(place for place, window in enumerate(found) if place >= at and word in window)
    said = text.split()
    assert all(any(piece in word for word in said) for window in found for piece in window.split())


def units(rows: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


@pytest.mark.parametrize("concentration", [5.0, 40.0, np.inf])
def test_windows_count_by_how_well_they_fit(concentration: float, monkeypatch: pytest.MonkeyPatch) -> None:
    queries, parts, counts = units(5, 0), units(12, 1), [1, 4, 2, 5]
    each = Dense(queries, parts).block(1, 4).astype(np.float64)
    of_documents = [each[:, a:b] for a, b in ((0, 1), (1, 5), (5, 7), (7, 12))]
    expected = np.stack(
        [
            one.max(axis=1) if concentration == np.inf else np.log(np.exp(concentration * one).mean(axis=1)) / concentration
            for one in of_documents
        ],
        axis=1,
    )
    scorer = ByWindow(queries, parts, counts, concentration=concentration)
    assert scorer.shape == (5, 4)
    np.testing.assert_allclose(scorer.block(1, 4), expected, atol=1e-6)
    monkeypatch.setattr(by_window, "_WINDOWS_AT_ONCE", 5)
    np.testing.assert_allclose(scorer.block(1, 4), expected, atol=1e-6)
    shorter = Dense(queries, parts, truncate_dim=3).block(0, 5)
    cut = ByWindow(queries, parts, counts, truncate_dim=3, concentration=concentration)
    np.testing.assert_allclose(cut.block(0, 5)[:, 0], shorter[:, 0], atol=1e-6)
    documents, share = units(4, 2), by_window.WHOLE_SHARE
    for dim, alone in ((None, expected), (3, cut.block(1, 4))):
        of_whole = Dense(queries, documents, dim).block(1, 4)
        both = ByWindow(queries, parts, counts, documents, dim, concentration).block(1, 4)
        np.testing.assert_allclose(both, (alone + share * of_whole) / (1 + share), atol=1e-6)


def test_of_two_documents_with_the_same_best_window_the_shorter_one_wins() -> None:
    windows_of = np.eye(4, dtype=np.float32)[[0, 0, 1, 2, 3]]
    [[short, long]] = ByWindow(np.eye(4, dtype=np.float32)[:1], windows_of, [1, 4]).block(0, 1)
    assert short == pytest.approx(1) and 0.9 < long < short


def test_documents_of_one_window_score_as_whole_ones() -> None:
    vectors = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(ByWindow(vectors, vectors, [1, 1, 1]).block(0, 3), Dense(vectors, vectors).block(0, 3))
