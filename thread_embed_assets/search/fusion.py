"""Words and meaning together, weighed by query so that neither spoils what the other knows.

A document's score is its similarity to the query, plus what it has of BM25 above the third best document, times a weight
that falls with the length of the query. Where somebody asks in other words than the thread's, BM25 finds some common words
in many documents: none stands out, and nearly nothing is added. Where a rare word is in the query and in one thread, that
thread stands out. A fixed sum of z-scores cannot tell these two from each other, since it makes every BM25 list as wide as
every other.

``STANDS_OUT``, ``LENGTH_POWER`` and ``WEIGHT`` were chosen on the dev tasks of four sources, and on their first 8 words,
since people who search are brief: the highest mean MRR@10, less the mean of what a task loses to the better of the two
(2026-11-22, ``python -m thread_embed_assets_tests.performance.search_fusion --grid``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from thread_embed_assets.benchmark.retrievers import Scorer, Scores

STANDS_OUT = 3
LENGTH_POWER = 0.25
WEIGHT = 0.04
_USUAL_WORDS = 13  # of a dev query


def fuse(
    bm25: Scores,
    dense: Scores,
    words: npt.NDArray[np.integer],
    stands_out: int = STANDS_OUT,
    length_power: float = LENGTH_POWER,
    weight: float = WEIGHT,
) -> Scores:
    """Scores [queries, documents] of both together.

    Args:
        bm25: scores [queries, documents], 0 where no word is shared.
        dense: cosine similarities, or means of them such as those of ``ByWindow`` [queries, documents].
        words: how many different words BM25 reads in each query [queries]; where it is 0, the dense score is all.
        stands_out: which best document of BM25 the others are compared with; 0 in an index of fewer.
        length_power, weight: what stands out is multiplied with ``weight * (13 / words) ** length_power``.
    """
    assert bm25.shape == dense.shape and words.shape == bm25.shape[:1]
    if bm25.shape[1] < stands_out:
        usual = np.zeros((len(bm25), 1), dtype=np.float32)
    else:
        usual = -np.partition(-bm25, stands_out - 1, axis=1)[:, stands_out - 1 : stands_out]
    share = weight * (_USUAL_WORDS / np.maximum(words, 1)[:, None]) ** length_power
    return np.asarray(dense + share * np.maximum(bm25 - usual, 0), dtype=np.float32)


class Fused:
    """:func:`fuse` as a scorer of the benchmark.

    Args:
        bm25, dense: of the same queries and documents.
        words: see :func:`fuse`.
    """

    floor = float("-inf")

    def __init__(self, bm25: Scorer, dense: Scorer, words: Sequence[int]) -> None:
        assert bm25.shape == dense.shape == (len(words), dense.shape[1])
        self.shape = dense.shape
        self._bm25, self._dense, self._words = bm25, dense, np.array(words, dtype=np.int64)

    def block(self, start: int, stop: int) -> Scores:
        return fuse(self._bm25.block(start, stop), self._dense.block(start, stop), self._words[start:stop])
