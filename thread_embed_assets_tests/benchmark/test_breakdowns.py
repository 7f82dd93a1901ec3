from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from thread_embed_assets.benchmark.breakdowns import breakdowns
from thread_embed_assets.benchmark.tasks import Task


class Stub(Task):
    def features(self, column: str) -> np.ndarray:
        return {
            "thread_messages": np.array([3.0, 5, 6, 60, 11, 21]),
            "gap_seconds": np.array([1.0, 60, 61, np.nan, 90_000, 7_200]),
            "word_overlap": np.array([0.0, 0.0, 0.0, 0.5, 0.9, 1.0]),
        }[column]


TASK = Stub(Path("nowhere"), "thread", "test", "gold", [f"q{n}" for n in range(6)], ["c"] * 6, ["d"], {}, {})


def test_each_query_falls_into_the_bin_that_its_label_names() -> None:
    bm25 = np.array([[1.0], [0.5], [0.1], [0.0], [1.0], [0.0]])
    cuts = {cut.dimension: cut for cut in breakdowns(TASK, bm25)}

    def labels(dimension: str) -> list[str | None]:
        cut = cuts[dimension]
        return [cut.labels[place] if place >= 0 else None for place in cut.places]

    assert labels("thread_length") == [
        "up to 5 messages",
        "up to 5 messages",
        "6 to 10",
        "over 50",
        "11 to 20",
        "21 to 50",
    ]
    assert labels("time_gap") == [
        "within a minute",
        "within a minute",
        "1 to 5 minutes",
        None,
        "over a day",
        "1 to 24 hours",
    ]
    assert [cuts["difficulty"].places[n] for n in range(6)] == [0, 1, 1, 2, 0, 2]
    assert labels("word_overlap")[:3] == ["0.00 to 0.00"] * 3, "equal values share a bin"
    assert len(cuts["word_overlap"].labels) == 4


@pytest.mark.parametrize("count", [1, 9, 200])
def test_deciles_are_of_like_size_and_leave_nobody_out(count: int) -> None:
    values = np.random.default_rng(count).random(count)

    class Random(Stub):
        def features(self, column: str) -> np.ndarray:
            return values

    task = Random(Path("nowhere"), "thread", "test", "gold", [f"q{n}" for n in range(count)], ["c"] * count, ["d"], {}, {})
    (cut,) = (c for c in breakdowns(task, np.zeros((count, 1))) if c.dimension == "word_overlap")
    sizes = np.bincount(cut.places, minlength=len(cut.labels))
    assert sizes.sum() == count
    if count == 200:
        assert sizes.tolist() == [20] * 10
