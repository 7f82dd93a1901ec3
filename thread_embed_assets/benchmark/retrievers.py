"""Exact search over one index: BM25, dense vectors, and their untuned sum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from thread_embed_assets.benchmark.embeddings import Vectors, unit
from thread_embed_assets.benchmark.metrics import Run

DEPTH = 100
BLOCK = 256
_DECIMALS = 6  # equal texts must tie, whatever the last bit of a matrix product says

Scores = npt.NDArray[np.float32]


class Scorer(Protocol):
    """Scores queries against every document of an index.

    Attributes:
        shape: (queries, documents).
        floor: a document is a result only with a score above it.
    """

    shape: tuple[int, int]
    floor: float

    def block(self, start: int, stop: int) -> Scores:
        """Scores [stop - start, documents] of the queries from ``start`` up to ``stop``."""
        ...


class Bm25:
    """BM25 (Lucene's variant, k1 1.5, b 0.75) on lower-cased words without English stop words, no stemming.

    A document that shares no word with the query is not a result.
    """

    floor = 0.0

    def __init__(self, queries: Sequence[str], documents: Sequence[str]) -> None:
        import bm25s

        self.shape = (len(queries), len(documents))
        words = _words(documents)
        self._index: Any = None
        self._queries: list[list[int]] = [[] for _ in queries]
        if any(words):
            self._index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
            self._index.index(words, show_progress=False)
            self._queries = [self._index.get_tokens_ids(query) for query in _words(queries)]

    def block(self, start: int, stop: int) -> Scores:
        scores = np.zeros((stop - start, self.shape[1]), dtype=np.float32)
        for row, words in enumerate(self._queries[start:stop]):
            if words:
                scores[row] = self._index.get_scores_from_ids(words)
        return scores


def _words(texts: Sequence[str]) -> list[list[str]]:
    import bm25s

    found: list[list[str]] = bm25s.tokenize(
        list(texts), lower=True, stopwords="en", stemmer=None, return_ids=False, show_progress=False
    )
    return found


class Dense:
    """Cosine similarity of unit vectors, cut to their first ``truncate_dim`` components and made unit again."""

    floor = float("-inf")

    def __init__(self, queries: Vectors, documents: Vectors, truncate_dim: int | None = None) -> None:
        self.shape = (len(queries), len(documents))
        self._queries = _cut(queries, truncate_dim)
        self._documents = _cut(documents, truncate_dim)

    def block(self, start: int, stop: int) -> Scores:
        scores: Scores = self._queries[start:stop] @ self._documents.T
        return scores


def _cut(vectors: Vectors, size: int | None) -> Vectors:
    if size is None:
        return vectors
    return unit(vectors[:, :size])


class ZScoreSum:
    """The sum of two scorers' z-scores, taken per query over the whole index; nothing is tuned."""

    floor = float("-inf")

    def __init__(self, first: Scorer, second: Scorer) -> None:
        assert first.shape == second.shape
        self.shape = first.shape
        self._parts = (first, second)

    def block(self, start: int, stop: int) -> Scores:
        first, second = (z_scores(part.block(start, stop)) for part in self._parts)
        total: Scores = np.add(first, second)
        return total


def z_scores(scores: Scores) -> Scores:
    """Each row minus its mean, over its standard deviation; a constant row becomes zeros."""
    centred = scores - scores.mean(axis=1, keepdims=True, dtype=np.float64)
    spread = scores.std(axis=1, keepdims=True, dtype=np.float64)
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 1e-9)
    return np.asarray(scaled, dtype=np.float32)


def search(
    scorer: Scorer, query_ids: Sequence[str], document_ids: Sequence[str], depth: int = DEPTH, block: int = BLOCK
) -> Run:
    """The ``depth`` best documents of each query, best first; ties go to the lower document id.

    Args:
        scorer: of shape (len(query_ids), len(document_ids)).
        query_ids: in the scorer's order.
        document_ids: in the scorer's order, ascending.
        depth: number of documents kept.
        block: queries scored at once; memory is ``block`` times the number of documents.
    """
    assert scorer.shape == (len(query_ids), len(document_ids))
    assert all(a < b for a, b in pairwise(document_ids)), "document ids must ascend"
    return dict(_search(scorer, query_ids, document_ids, depth, block))


def _search(
    scorer: Scorer, query_ids: Sequence[str], document_ids: Sequence[str], depth: int, block: int
) -> Iterator[tuple[str, dict[str, float]]]:
    for start in range(0, len(query_ids), block):
        stop = min(start + block, len(query_ids))
        for query, scores in zip(query_ids[start:stop], np.round(scorer.block(start, stop), _DECIMALS), strict=True):
            best = best_first(scores, depth, scorer.floor)
            yield query, {document_ids[i]: float(scores[i]) for i in best}


def best_first(scores: Scores, depth: int, floor: float = float("-inf")) -> npt.NDArray[np.intp]:
    """Places of the ``depth`` highest scores above ``floor``, best first, the lower place first among equals."""
    places = np.flatnonzero(scores > floor)
    if len(places) > depth:
        least = np.partition(scores[places], len(places) - depth)[len(places) - depth]
        places = places[scores[places] >= least]
    return places[np.argsort(-scores[places], kind="stable")][:depth]
