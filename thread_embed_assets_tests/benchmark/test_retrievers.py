from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thread_embed_assets.benchmark.embeddings import unit
from thread_embed_assets.benchmark.retrievers import Bm25, Dense, Scorer, ZScoreSum, best_first, search, z_scores
from thread_embed_assets_tests.benchmark.stored import WORDS

DOCUMENTS = [
    "the printer is out of toner",
    "who broke the build server",
    "lunch at noon, anyone?",
    "Printer drivers for the NEW printer",
]


class Fixed:
    floor = float("-inf")

    def __init__(self, scores: object) -> None:
        self.scores = np.asarray(scores, dtype=np.float32)
        self.shape = self.scores.shape

    def block(self, start: int, stop: int) -> np.ndarray:
        return self.scores[start:stop]


def ids(letter: str, count: int) -> list[str]:
    return [f"{letter}{i:04d}" for i in range(count)]


def random_texts(count: int, seed: int) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, 6)) for _ in range(count)]


def random_vectors(count: int, size: int, seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32))


def test_bm25_ranks_by_shared_words_whatever_their_case_and_leaves_out_the_rest() -> None:
    run = search(Bm25(["PRINTER toner"], DOCUMENTS), ["q"], ids("d", 4))
    assert list(run["q"]) == ["d0000", "d0003"]
    assert run["q"]["d0000"] > run["q"]["d0003"] > 0


def test_bm25_follows_the_formula_of_lucene() -> None:
    queries, documents = ["alpha beta"], ["alpha gamma", "beta beta gamma delta", "gamma"]
    scores = Bm25(queries, documents).block(0, 1)[0]
    average = (2 + 4 + 1) / 3
    idf = np.log(1 + (3 - 1 + 0.5) / (1 + 0.5))
    expected = [
        idf * 1 / (1 + 1.5 * (1 - 0.75 + 0.75 * 2 / average)),
        idf * 2 / (2 + 1.5 * (1 - 0.75 + 0.75 * 4 / average)),
        0.0,
    ]
    assert scores == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("query", ["", "the of", "nobody wrote this"])
def test_bm25_finds_nothing_for_queries_without_known_words(query: str) -> None:
    assert search(Bm25([query, "lunch"], DOCUMENTS), ["a", "b"], ids("d", 4))["a"] == {}
    assert search(Bm25([query], ["the of", ""]), ["a"], ids("d", 2)) == {"a": {}}


def test_dense_is_the_cosine_and_truncation_makes_unit_again() -> None:
    queries, documents = random_vectors(3, 16, 1), random_vectors(5, 16, 2)
    np.testing.assert_allclose(Dense(queries, documents).block(0, 3), queries @ documents.T, atol=1e-6)
    cut = Dense(queries, documents, truncate_dim=4).block(0, 3)
    np.testing.assert_allclose(cut, unit(queries[:, :4]) @ unit(documents[:, :4]).T, atol=1e-6)


def test_the_hybrid_adds_z_scores_per_query() -> None:
    first = Fixed([[1.0, 2.0, 3.0], [10.0, 0.0, 2.0]])
    second = Fixed([[300.0, 0.0, 0.0], [5.0, 5.0, 5.0]])
    total = ZScoreSum(first, second).block(0, 2)
    a = (np.array([1, 2, 3]) - 2) / np.sqrt(2 / 3)
    b = (np.array([300, 0, 0]) - 100) / np.sqrt((200**2 + 2 * 100**2) / 3)
    assert total[0] == pytest.approx(a + b, abs=1e-5)
    assert total[1] == pytest.approx((np.array([10, 0, 2]) - 4) / np.std([10, 0, 2]), abs=1e-5), (
        "a constant row decides nothing"
    )
    np.testing.assert_allclose(z_scores(first.scores * 1000 + 7), z_scores(first.scores), atol=1e-4)


def scorers() -> list[Scorer]:
    queries, documents = random_texts(50, 1), random_texts(130, 2)
    lexical, dense = Bm25(queries, documents), Dense(random_vectors(50, 8, 3), random_vectors(130, 8, 4))
    return [lexical, dense, ZScoreSum(lexical, dense)]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_small_blocks_give_what_one_block_gives(number: int) -> None:
    scorer = scorers()[number]
    whole = search(scorer, ids("q", 50), ids("d", 130), depth=20, block=50)
    for block in (1, 7, 49):
        found = search(scorer, ids("q", 50), ids("d", 130), depth=20, block=block)
        assert {q: list(d) for q, d in found.items()} == {q: list(d) for q, d in whole.items()}
    assert all(len(found) <= 20 for found in whole.values())
    assert all(list(found.values()) == sorted(found.values(), reverse=True) for found in whole.values())


def test_documents_with_the_same_text_tie_and_the_lower_id_is_first() -> None:
    vectors = np.repeat(random_vectors(1, 384, 1), 700, axis=0)
    run = search(Dense(random_vectors(3, 384, 2), vectors), ids("q", 3), ids("d", 700), depth=10)
    assert all(list(found) == ids("d", 10) for found in run.values())


def test_the_last_bit_of_a_product_does_not_break_a_tie() -> None:
    run = search(Fixed([[0.25, 0.25 + 3e-8, 0.3]]), ["q"], ids("d", 3))
    assert list(run["q"]) == ["d0002", "d0000", "d0001"]


@settings(max_examples=80, deadline=None)
@given(arrays(np.float32, st.integers(1, 40), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0])), st.integers(1, 45))
def test_the_best_are_those_of_a_full_sort(scores: np.ndarray, depth: int) -> None:
    full = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    assert best_first(scores, depth).tolist() == full[:depth]
    assert best_first(scores, depth, floor=0.0).tolist() == [i for i in full if scores[i] > 0][:depth]
