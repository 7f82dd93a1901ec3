from __future__ import annotations

import numpy as np
import pytest

from thread_embed_assets.training.dev import macro_mean, mrr_at_10


def test_reciprocal_ranks_by_hand() -> None:
    similarities = np.array([[0.9, 0.1, 0.0], [0.8, 0.5, 0.1], [0.9, 0.7, 0.2]], dtype=np.float32)
    assert mrr_at_10(similarities, ["a", "b", "c"]) == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_other_pairs_of_the_same_conversation_are_no_wrong_answers() -> None:
    similarities = np.array([[0.5, 0.9, 0.1], [0.1, 0.9, 0.2], [0.1, 0.2, 0.9]], dtype=np.float32)
    assert mrr_at_10(similarities, ["a", "a", "b"]) == 1.0
    assert mrr_at_10(similarities, ["a", "c", "b"]) == pytest.approx((1 / 2 + 1 + 1) / 3)


def test_a_model_that_maps_everything_to_one_point_gets_the_last_rank() -> None:
    ids = [str(n) for n in range(20)]
    assert mrr_at_10(np.ones((20, 20), dtype=np.float32), ids) == 0.0
    assert mrr_at_10(np.ones((4, 4), dtype=np.float32), ids[:4]) == 0.25


def test_every_source_counts_the_same_whatever_strategies_it_has() -> None:
    by_set = {"thread-irc": 0.2, "response-irc": 0.4, "summary-irc": 0.6, "thread-topical_chat": 0.8}
    assert macro_mean(by_set) == pytest.approx((0.4 + 0.8) / 2)
