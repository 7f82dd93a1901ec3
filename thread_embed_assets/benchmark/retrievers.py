"""Exact search over one index: BM25, dense vectors, recency, shared speakers, and untuned sums of two of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from thread_embed_assets.benchmark.embeddings import Vectors, unit
from thread_embed_assets.benchmark.metrics import Run

DEPTH = 100
BLOCK = 256
_DECIMALS = 6  # equal texts must tie, whatever the last bit of a matrix product says

Scores = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]


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
        words = tokens(documents)
        self._index: Any = None
        self._queries: list[list[int]] = [[] for _ in queries]
        if any(words):
            self._index = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
            self._index.index(words, show_progress=False)
            self._queries = [self._index.get_tokens_ids(query) for query in tokens(queries)]

    def block(self, start: int, stop: int) -> Scores:
        scores = np.zeros((stop - start, self.shape[1]), dtype=np.float32)
        for row, words in enumerate(self._queries[start:stop]):
            if words:
                scores[row] = self._index.get_scores_from_ids(words)
        return scores


def tokens(texts: Sequence[str]) -> list[list[str]]:
    """The words of each text that :class:`Bm25` counts."""
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
        self._queries = cut_to(queries, truncate_dim)
        self._documents = cut_to(documents, truncate_dim)

    def block(self, start: int, stop: int) -> Scores:
        scores: Scores = self._queries[start:stop] @ self._documents.T
        return scores


def cut_to(vectors: Vectors, size: int | None) -> Vectors:
    """The first ``size`` components of each vector, made unit again; None takes all."""
    if size is None:
        return vectors
    return unit(vectors[:, :size])


class Recency:
    """Documents by how lately before the query they were active, whatever they say.

    A document's activity is its last message before the query; of a document that goes on after the query it is the query's
    own time. Documents that start after it, or whose times are not known, have none and tie at the end; all tie for a query
    whose time is not known. A score is a place in the order of all activities, so ties are exact.

    Args:
        asked: time of each query, in seconds; NaN where it is not known.
        started, ended: first and last message of each document, in seconds; NaN where they are not known.
    """

    floor = float("-inf")

    def __init__(self, asked: Times, started: Times, ended: Times) -> None:
        assert len(started) == len(ended)
        self.shape = (len(asked), len(started))
        self._asked = np.asarray(asked, dtype=np.float64)
        self._started = np.asarray(started, dtype=np.float64)
        last = np.where(np.isnan(ended), self._started, ended)
        self._activities = np.unique(last[~np.isnan(last)])
        self._places = np.searchsorted(self._activities, last)

    def block(self, start: int, stop: int) -> Scores:
        asked = self._asked[start:stop, None]
        before = self._started <= asked  # NaN is before nothing
        place = np.minimum(self._places, np.searchsorted(self._activities, asked)) + 1
        return np.where(before, place, 0).astype(np.float32)


class SpeakerOverlap:
    """The share of a query's people who take part in the document; one that shares nobody is not a result."""

    floor = 0.0

    def __init__(self, query_people: Sequence[Collection[str]], document_people: Sequence[Collection[str]]) -> None:
        self.shape = (len(query_people), len(document_people))
        everybody = sorted({person for people in (*query_people, *document_people) for person in people})
        columns = {person: column for column, person in enumerate(everybody)}
        self._queries = _membership(query_people, columns)
        self._people = _membership(document_people, columns).T.tocsr()
        self._sizes = np.maximum([len(set(people)) for people in query_people], 1).astype(np.float32)

    def block(self, start: int, stop: int) -> Scores:
        shared = (self._queries[start:stop] @ self._people).toarray()
        return np.asarray(shared / self._sizes[start:stop, None], dtype=np.float32)


def _membership(texts: Sequence[Collection[str]], columns: Mapping[str, int]) -> csr_array[np.float32]:
    """One row a text, one column a person; 1 where the person takes part."""
    rows = [sorted({columns[person] for person in people}) for people in texts]
    places = [column for row in rows for column in row]
    starts = np.cumsum([0, *map(len, rows)])
    return csr_array((np.ones(len(places), dtype=np.float32), places, starts), shape=(len(rows), len(columns)))


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


class ReciprocalRankSum:
    """Reciprocal rank fusion: the sum of 1 / (k + rank) over two scorers' rankings of the whole index.

    Ties in a ranking are broken as :func:`search` breaks them, and what is not a result of a scorer gets nothing from it.
    The sums are a thousand times those of the formula, so that :func:`search` can round them.

    Cormack, Clarke and Buettcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods",
    SIGIR 2009, where k is 60.
    """

    floor = 0.0

    def __init__(self, first: Scorer, second: Scorer, k: int = 60) -> None:
        assert first.shape == second.shape
        self.shape = first.shape
        self._parts = (first, second)
        self._share = 1000.0 / (k + 1 + np.arange(first.shape[1]))

    def block(self, start: int, stop: int) -> Scores:
        total = np.zeros((stop - start, self.shape[1]))
        for part in self._parts:
            for row, scores in zip(total, np.round(part.block(start, stop), _DECIMALS), strict=True):
                ranked = best_first(scores, len(scores), part.floor)
                row[ranked] += self._share[: len(ranked)]
        return total.astype(np.float32)


def search(
    scorer: Scorer,
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    depth: int = DEPTH,
    block: int = BLOCK,
    candidates: Mapping[str, Sequence[str]] | None = None,
) -> Run:
    """The ``depth`` best documents of each query, best first; ties go to the lower document id.

    Args:
        scorer: of shape (len(query_ids), len(document_ids)).
        query_ids: in the scorer's order.
        document_ids: in the scorer's order, ascending.
        depth: number of documents kept.
        block: queries scored at once; memory is ``block`` times the number of documents.
        candidates: query id to the documents that alone are ranked for it. A query without an entry is left out. Scores are
            those of the whole index: a sum of two scorers normalises over it, whatever is ranked.
    """
    assert scorer.shape == (len(query_ids), len(document_ids))
    assert all(a < b for a, b in pairwise(document_ids)), "document ids must ascend"
    places = None
    if candidates is not None:
        place_of = {document: place for place, document in enumerate(document_ids)}
        places = {q: np.array(sorted({place_of[d] for d in found}), dtype=np.intp) for q, found in candidates.items()}
    return dict(_search(scorer, query_ids, document_ids, depth, block, places))


def _search(
    scorer: Scorer,
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    depth: int,
    block: int,
    places: Mapping[str, npt.NDArray[np.intp]] | None,
) -> Iterator[tuple[str, dict[str, float]]]:
    for start in range(0, len(query_ids), block):
        stop = min(start + block, len(query_ids))
        queries = query_ids[start:stop]
        if places is not None and not any(query in places for query in queries):
            continue
        scored = scorer.block(start, stop)
        for query, row in zip(queries, scored, strict=True):
            if places is None:
                scores = np.round(row, _DECIMALS)
                best = best_first(scores, depth, scorer.floor)
                yield query, {document_ids[i]: float(scores[i]) for i in best}
            elif query in places:
                allowed = places[query]
                scores = np.round(row[allowed], _DECIMALS)
                best = best_first(scores, depth, scorer.floor)
                yield query, {document_ids[allowed[i]]: float(scores[i]) for i in best}


def best_first(scores: Scores, depth: int, floor: float = float("-inf")) -> npt.NDArray[np.intp]:
    """Places of the ``depth`` highest scores above ``floor``, best first, the lower place first among equals."""
    places = np.flatnonzero(scores > floor)
    if len(places) > depth:
        least = np.partition(scores[places], len(places) - depth)[len(places) - depth]
        places = places[scores[places] >= least]
    return places[np.argsort(-scores[places], kind="stable")][:depth]
