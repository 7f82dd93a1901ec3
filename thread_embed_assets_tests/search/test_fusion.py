from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thread_embed_assets.benchmark.retrievers import Bm25, Dense, best_first
from thread_embed_assets.search.fusion import LENGTH_POWER, STANDS_OUT, WEIGHT, Fused, fuse

DENSE = np.linspace(0.6, 0.3, 30, dtype=np.float32)[None]
FIVE = np.array([5])


def places(scores: np.ndarray) -> list[int]:
    return best_first(scores, scores.size).tolist()


def test_a_rare_word_in_one_document_lifts_it_to_the_top() -> None:
    bm25 = np.zeros((1, 30), dtype=np.float32)
    bm25[0, 20] = 9.0
    assert places(fuse(bm25, DENSE, FIVE)[0])[0] == 20


def test_words_that_stand_everywhere_change_nothing() -> None:
    bm25 = np.full((1, 30), 4.0, dtype=np.float32)
    bm25[0, 15:] = 0
    assert places(fuse(bm25, DENSE, FIVE)[0]) == list(range(30))
    bm25[0, 12:15], bm25[0, :3] = 6.0, 0
    assert places(fuse(bm25, DENSE, np.array([40]))[0])[0] == 0, "a little more than others have is little among 40 words"


def test_the_longer_the_query_the_less_one_word_says() -> None:
    bm25 = np.zeros((2, 30), dtype=np.float32)
    bm25[:, 29] = 6.0
    short, long = fuse(bm25, np.repeat(DENSE, 2, axis=0), np.array([1, 60]))
    assert places(short)[0] == 29
    assert places(long)[0] == 0


@pytest.mark.parametrize("documents", [1, STANDS_OUT - 1])
def test_in_a_small_index_every_match_counts(documents: int) -> None:
    bm25 = np.arange(1, documents + 1, dtype=np.float32)[None]
    fused = fuse(bm25, np.zeros_like(bm25), np.array([1]))
    assert fused[0].tolist() == pytest.approx((WEIGHT * 13**LENGTH_POWER * bm25[0]).tolist())


def test_a_query_without_words_is_ranked_by_meaning_alone() -> None:
    assert np.array_equal(fuse(np.zeros_like(DENSE), DENSE, np.array([0])), DENSE)


def test_no_documents_are_no_trouble() -> None:
    nothing = np.zeros((1, 0), dtype=np.float32)
    assert fuse(nothing, nothing, np.array([3])).shape == (1, 0)


rows = st.lists(st.tuples(st.floats(0, 50, width=32), st.floats(-1, 1, width=32)), min_size=1, max_size=40)


@given(rows=rows, words=st.integers(0, 100))
def test_it_never_ranks_against_both_sides(rows: list[tuple[float, float]], words: int) -> None:
    bm25, dense = (np.array([column], dtype=np.float32) for column in zip(*rows, strict=True))
    fused = fuse(bm25, dense, np.array([words]))[0]
    assert np.isfinite(fused).all()
    for one in range(len(rows)):
        worse = (bm25[0] <= bm25[0, one]) & (dense[0] <= dense[0, one])
        assert (fused[worse] <= fused[one]).all()


def test_as_a_scorer_it_gives_the_same() -> None:
    documents = ["red apples", "green pears", "blue plums and red wine"]
    bm25 = Bm25(["red wine", "pears"], documents)
    vectors = np.eye(3, dtype=np.float32)
    dense = Dense(vectors[:2], vectors)
    fused = Fused(bm25, dense, [2, 1])
    assert fused.shape == (2, 3)
    assert np.array_equal(fused.block(1, 2), fuse(bm25.block(1, 2), dense.block(1, 2), np.array([1])))
