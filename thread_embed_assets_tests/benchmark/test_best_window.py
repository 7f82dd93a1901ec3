from __future__ import annotations

import numpy as np
import pytest

from thread_embed_assets.benchmark.best_window import BestWindow
from thread_embed_assets.benchmark.embeddings import unit


def test_a_document_is_as_close_as_its_best_window() -> None:
    draw = np.random.default_rng(1)
    queries, windows = (unit(draw.normal(size=(n, 8)).astype(np.float32)) for n in (5, 9))
    counts = [1, 4, 1, 3]
    scorer = BestWindow(queries, windows, counts)
    assert scorer.shape == (5, 4)
    owner = np.repeat(range(4), counts)
    expected = [[max(q @ w for w, o in zip(windows, owner, strict=True) if o == d) for d in range(4)] for q in queries[2:5]]
    assert scorer.block(2, 5) == pytest.approx(np.array(expected), abs=1e-6)
