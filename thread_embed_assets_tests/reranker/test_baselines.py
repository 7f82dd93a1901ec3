from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.baselines import features_only, text_only
from thread_embed_assets.reranker.groups import Groups, RowScorer, read_groups, score_rows
from thread_embed_assets.reranker.synthetic.generate import write_examples
from thread_embed_assets.storage.tables import TableHandle

TEST = "split = 'test'"


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> TableHandle:
    return write_examples(tmp_path_factory.mktemp("examples") / "quick.duckdb", "quick")


def _hits(examples: TableHandle, scorer: RowScorer, tier: str) -> float:
    """Of messages that continue a thread."""
    groups: Groups = read_groups(examples, TEST)
    hits, _ = groups.ranks(score_rows(examples, TEST, scorer))
    return float(hits[(np.array(groups.tiers) == tier) & ~groups.of_new].mean())


def test_features_and_words_solve_most_easy_messages_and_few_others(quick: TableHandle) -> None:
    for scorer in (features_only(quick), text_only(quick)):
        assert _hits(quick, scorer, "easy") > 0.4
        assert _hits(quick, scorer, "medium") < 0.5
        assert _hits(quick, scorer, "hard") < 0.5


def test_scores_are_of_the_inputs_that_a_baseline_may_read(quick: TableHandle) -> None:
    batch = next(quick.scan(where=TEST))
    backwards = batch["message"].take(pa.array(np.arange(batch.num_rows)[::-1].copy()))
    other = batch.set_column(batch.schema.get_field_index("message"), "message", backwards)
    features, text = features_only(quick), text_only(quick)
    assert np.array_equal(features(batch), features(other))
    assert not np.array_equal(text(batch), text(other))
    still = batch.set_column(batch.schema.get_field_index("recency_score"), "recency_score", batch["keyword_matches"])
    assert np.array_equal(text(batch), text(still))
    assert not np.array_equal(features(batch), features(still))


def test_without_examples_to_fit_on_it_says_so(quick: TableHandle) -> None:
    for baseline in (features_only, text_only):
        with pytest.raises(InputError):
            baseline(quick, "split = 'none'")
    with pytest.raises(InputError):
        features_only(quick, "label = 1")


def test_rows_are_in_the_order_of_groups(quick: TableHandle, tmp_path: Path) -> None:
    groups = read_groups(quick, TEST)
    assert len(score_rows(quick, TEST, features_only(quick))) == len(groups.labels)
