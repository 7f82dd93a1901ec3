from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.calibration import Calibration
from thread_embed_assets.reranker.candidates import NEW_THREAD, Candidate
from thread_embed_assets.reranker.groups import of_candidates, read_groups, score_rows, single_group
from thread_embed_assets_tests.reranker.scored import groups_of, write

SCORES = np.array([0.1, 0.9, 0.5, 0.3, 0.3, 2.0, 2.0, 1.0])


def test_ranks_by_hand() -> None:
    """The right one is second of three; one of two equals; alone at the end of three of which two are equal and better."""
    hits, reciprocal = groups_of([3, 2, 3], [2, 0, 2]).ranks(SCORES)
    assert hits.tolist() == [0.0, 0.5, 0.0]
    assert reciprocal.tolist() == pytest.approx([1 / 2, 1 / 1.5, 1 / 3])
    assert groups_of([3, 2, 3], [1, 1, 0]).ranks(SCORES)[0].tolist() == [1.0, 0.5, 0.5]


def test_equal_scores_for_all_are_worth_a_guess() -> None:
    groups = groups_of([4] * 8, [n % 4 for n in range(8)])
    hits, reciprocal = groups.ranks(np.zeros(32))
    assert hits.mean() == 0.25
    assert reciprocal.mean() == pytest.approx(1 / 2.5)


def test_the_best_of_each_group_is_the_first_of_equals() -> None:
    assert groups_of([3, 2, 3], [0, 0, 0]).best(SCORES).tolist() == [1, 3, 5]


def test_groups_can_be_taken_out() -> None:
    groups = groups_of([3, 2, 3], [2, 1, 0], ["a", "b", "c"])
    some, scores = groups.take(np.array([True, False, True]), SCORES)
    assert some.starts.tolist() == [0, 3, 6]
    assert scores.tolist() == [0.1, 0.9, 0.5, 2.0, 2.0, 1.0]
    assert (some.labels.nonzero()[0].tolist(), some.new.nonzero()[0].tolist()) == ([2, 3], [2, 5])
    assert some.clusters == ["a", "c"]
    assert groups.of_new.tolist() == [True, True, False]


def test_candidates_of_one_message_are_decided_on_without_knowing_the_right_one() -> None:
    group = single_group([False, False, True])
    decided = Calibration(1.0, 3.0).decide(group, np.array([1.0, 2.0, 0.5]))
    assert (len(group), decided.new.tolist(), decided.of_new.tolist()) == (1, [True], [False])
    assert decided.sure.tolist() == pytest.approx([np.exp(3.5) / (np.exp(1.0) + np.exp(2.0) + np.exp(3.5))])


def test_groups_and_scores_of_a_table_are_in_one_order(tmp_path: Path) -> None:
    planted = [("m2", ["t9", "t1", NEW_THREAD], 1), ("m1", ["t4", NEW_THREAD], 1)]
    handle = write(tmp_path / "e.duckdb", planted)
    groups = read_groups(handle, "split = 'test'")
    scores = score_rows(handle, "split = 'test'", lambda rows: rows["entity_overlap"].to_numpy())
    assert groups.starts.tolist() == [0, 2, 5]
    assert scores.tolist() == pytest.approx([0.1, 0.0, 0.2, 0.1, 0.0]), "by message, then by candidate"
    assert groups.labels.tolist() == [True, False, False, True, False]
    assert groups.new.tolist() == [True, False, True, False, False]
    assert groups.clusters == ["made/kitchen/2024-05-02", "made/kitchen/2024-05-01"]


def test_messages_of_a_simulated_user_are_one_cluster(tmp_path: Path) -> None:
    handle = write(tmp_path / "e.duckdb", [(f"m{n}", ["t", NEW_THREAD], 0) for n in range(3)], profile="profile_7")
    assert set(read_groups(handle, "true").clusters) == {"made/profile_7"}


def test_what_is_no_group_is_refused(tmp_path: Path) -> None:
    handle = write(tmp_path / "e.duckdb", [("m1", ["t", NEW_THREAD], 5), ("m2", ["t", NEW_THREAD], 0)])
    with pytest.raises(InputError, match="not exactly one candidate"):
        read_groups(handle, "true")
    with pytest.raises(InputError, match="no examples with split = 'dev'"):
        read_groups(handle, "split = 'dev'")
    assert len(read_groups(handle, "group_id = 'm2'")) == 1


def test_no_text_is_read_for_groups_and_no_label_is_shown_to_a_scorer(tmp_path: Path) -> None:
    handle = write(tmp_path / "e.duckdb", [("m1", ["t", NEW_THREAD], 0)])

    def scorer(rows: pa.RecordBatch) -> np.ndarray:
        assert {"message", "thread"} <= set(rows.schema.names)
        assert "label" not in rows.schema.names
        return np.zeros(rows.num_rows)

    score_rows(handle, "true", scorer)


def test_a_scorer_of_rows_scores_candidates() -> None:
    candidates = [
        Candidate("t", "a thread", np.arange(5, dtype=np.float32)),
        Candidate(NEW_THREAD, "", np.ones(5, np.float32)),
    ]

    def scorer(rows: pa.RecordBatch) -> np.ndarray:
        assert rows["message"].to_pylist() == ["hello", "hello"]
        return rows["recency_score"].to_numpy() + [len(text) for text in rows["thread"].to_pylist()]

    assert of_candidates(scorer)("hello", candidates).tolist() == [3.0 + 8, 1.0]
