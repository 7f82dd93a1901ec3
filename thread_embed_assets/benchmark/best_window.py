"""A long document as several vectors: one per window of messages, of which the best counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.benchmark.retrievers import Scores


class BestWindow:
    """Cosine similarity of a query and the best of each document's windows (MaxP of Dai and Callan, arXiv 1905.09217).

    Args:
        queries: unit vectors [queries, dim].
        windows: unit vectors [windows, dim], document by document.
        counts: windows of each document [documents], at least one each; they sum up to the number of windows.
    """

    floor = float("-inf")

    def __init__(self, queries: Vectors, windows: Vectors, counts: Sequence[int]) -> None:
        assert min(counts) > 0 and sum(counts) == len(windows)
        self.shape = (len(queries), len(counts))
        self._queries, self._windows = queries, windows
        self._starts = np.cumsum([0, *counts[:-1]])

    def block(self, start: int, stop: int) -> Scores:
        scores = self._queries[start:stop] @ self._windows.T
        return np.asarray(np.maximum.reduceat(scores, self._starts, axis=1), dtype=np.float32)
