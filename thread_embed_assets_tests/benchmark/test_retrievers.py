from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from thread_embed_assets.benchmark.embeddings import unit
from thread_embed_assets.benchmark.retrievers import (
    Bm25,
    Dense,
    Recency,
    ReciprocalRankSum,
    Scorer,
    SpeakerOverlap,
    ZScoreSum,
    best_first,
    search,
    z_scores,
)
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
    draw = np.random.default_rng(5)
    asked, started = draw.uniform(0, 1000, 50), draw.uniform(0, 1000, 130)
    people = [list(draw.choice(WORDS[:12], 3)) for _ in range(180)]
    return [
        lexical,
        dense,
        ZScoreSum(lexical, dense),
        ReciprocalRankSum(lexical, dense),
        Recency(asked, started, started + 50),
        SpeakerOverlap(people[:50], people[50:]),
    ]


@pytest.mark.parametrize("number", range(6))
def test_small_blocks_give_what_one_block_gives(number: int) -> None:
    scorer = scorers()[number]
    whole = search(scorer, ids("q", 50), ids("d", 130), depth=20, block=50)
    for block in (1, 7, 49):
        found = search(scorer, ids("q", 50), ids("d", 130), depth=20, block=block)
        assert {q: list(d) for q, d in found.items()} == {q: list(d) for q, d in whole.items()}
    assert all(len(found) <= 20 for found in whole.values())
    assert all(list(found.values()) == sorted(found.values(), reverse=True) for found in whole.values())


def test_recency_ranks_by_the_last_activity_before_the_query() -> None:
    started = [0.0, 50.0, 90.0, 101.0, 0.0, np.nan, 40.0, 0.0]
    ended = [10.0, 60.0, 150.0, 160.0, 60.0, np.nan, 100.0, np.nan]
    run = search(Recency(np.array([100.0]), np.array(started), np.array(ended)), ["q"], ids("d", 8))
    assert list(run["q"]) == [f"d{i:04d}" for i in (2, 6, 1, 4, 0, 7, 3, 5)], "2 and 6 tie, so do 1 and 4, and 3 and 5"
    scores = [run["q"][f"d{i:04d}"] for i in range(8)]
    assert scores[2] == scores[6] > scores[1] == scores[4] > scores[0] > scores[7] > scores[3] == scores[5]


def test_recency_agrees_with_its_definition_and_ties_where_no_time_is_known() -> None:
    draw = np.random.default_rng(1)
    asked, started = draw.integers(0, 40, 30).astype(float), draw.integers(0, 40, 60).astype(float)
    ended = started + draw.integers(0, 20, 60)
    asked[3], started[7], ended[7], ended[9] = np.nan, np.nan, np.nan, np.nan
    found = Recency(asked, started, ended).block(0, 30)
    for query, time in enumerate(asked):
        until = np.where(np.isnan(ended), started, ended)
        active = np.where(started <= time, np.minimum(until, time), -np.inf)
        assert (np.sign(found[query][:, None] - found[query]) == np.sign(_minus(active[:, None], active))).all()
    assert set(found[3]) == {0.0}
    unknown = np.full(5, np.nan)
    assert set(Recency(unknown, unknown, unknown).block(0, 5).ravel()) == {0.0}


def _minus(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where(a == b, 0.0, np.where(a > b, 1.0, -1.0))


def test_times_a_second_apart_do_not_tie_after_years() -> None:
    late = 1.6e9 + np.arange(3)
    run = search(Recency(np.array([1.7e9]), late, late), ["q"], ids("d", 3))
    assert list(run["q"]) == ["d0002", "d0001", "d0000"]


def test_speaker_overlap_is_the_share_of_the_people_of_the_query() -> None:
    documents = [["ann", "bo"], ["bo", "bo", "cy"], [], ["dee", "eve"], ["ann", "bo", "cy"]]
    run = search(SpeakerOverlap([["ann", "bo", "bo"], [], ["zoe"]], documents), ids("q", 3), ids("d", 5))
    assert run == {"q0000": {"d0000": 1.0, "d0004": 1.0, "d0001": 0.5}, "q0001": {}, "q0002": {}}
    assert search(SpeakerOverlap([[]], [[], []]), ["q"], ids("d", 2)) == {"q": {}}


def test_reciprocal_ranks_follow_the_formula() -> None:
    first = Fixed([[0.1, 0.5, 0.5 + 1e-8, 0.9]])
    second = Fixed([[0.0, 3.0, 1.0, 2.0]])
    second.floor = 0.0
    total = ReciprocalRankSum(first, second, k=60).block(0, 1)[0]
    expected = [1 / 64, 1 / 62 + 1 / 61, 1 / 63 + 1 / 63, 1 / 61 + 1 / 62]
    assert total / 1000 == pytest.approx(expected, rel=1e-6)
    assert total[1] == total[3]


def test_deep_reciprocal_ranks_still_differ() -> None:
    scorer = Fixed(-np.arange(4000.0)[None])
    total = np.round(ReciprocalRankSum(scorer, scorer).block(0, 1)[0], 6)
    assert (np.diff(total) < 0).all()


def test_candidates_are_ranked_alone_with_the_scores_of_the_whole_index() -> None:
    queries, documents = ids("q", 50), ids("d", 130)
    draw = np.random.default_rng(7)
    chosen = {q: [documents[i] for i in draw.choice(130, 12)] for q in queries[10:40:3]}
    for scorer in scorers():
        whole = search(scorer, queries, documents, depth=130)
        near = search(scorer, queries, documents, depth=10, block=7, candidates=chosen)
        assert list(near) == list(chosen)
        for query, found in near.items():
            allowed = [d for d in whole[query] if d in chosen[query]][:10]
            assert list(found) == allowed
            assert list(found.values()) == pytest.approx([whole[query][d] for d in allowed], abs=1e-5)


def test_a_candidate_that_is_not_in_the_index_is_an_error() -> None:
    with pytest.raises(KeyError, match="d9999"):
        search(Fixed([[1.0, 2.0]]), ["q"], ids("d", 2), candidates={"q": ["d0000", "d9999"]})


def test_blocks_of_queries_without_candidates_are_not_scored() -> None:
    class Counted(Fixed):
        blocks = 0

        def block(self, start: int, stop: int) -> np.ndarray:
            self.blocks += 1
            return super().block(start, stop)

    scorer = Counted(np.zeros((9, 4)))
    run = search(scorer, ids("q", 9), ids("d", 4), block=3, candidates={"q0004": ["d0003", "d0001"]})
    assert run == {"q0004": {"d0001": 0.0, "d0003": 0.0}}
    assert scorer.blocks == 1


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
