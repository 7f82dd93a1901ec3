"""Where a benchmark is won: queries by thread length, time gap, shared words and how hard BM25 finds them."""

from __future__ import annotations

import numpy as np

from thread_embed_assets.benchmark.result_tables import Bins
from thread_embed_assets.benchmark.statistics import Floats
from thread_embed_assets.benchmark.tasks import Task

_LENGTHS = {"up to 5 messages": 5, "6 to 10": 10, "11 to 20": 20, "21 to 50": 50, "over 50": np.inf}
_GAPS = {
    "within a minute": 60.0,
    "1 to 5 minutes": 300.0,
    "5 to 60 minutes": 3_600.0,
    "1 to 24 hours": 86_400.0,
    "over a day": np.inf,
}
_DIFFICULTIES = ("BM25 finds it first", "BM25: rank 2 to 10", "beyond BM25's first ten")
_DECILES = 10


def breakdowns(task: Task, bm25: Floats) -> list[Bins]:
    """The ways to break a task down.

    Args:
        task: with its queries' features.
        bm25: [queries, 1], BM25's reciprocal rank within the first ten.
    """
    length, gap, overlap = (task.features(name) for name in ("thread_messages", "gap_seconds", "word_overlap"))
    cuts = [_up_to("thread_length", length, _LENGTHS)]
    if np.isfinite(gap).any():
        cuts.append(_up_to("time_gap", gap, _GAPS))
    cuts.append(_deciles("word_overlap", overlap))
    rank = bm25[:, 0]
    places = np.where(rank == 1, 0, np.where(rank > 0, 1, 2))
    return [*cuts, Bins("difficulty", _DIFFICULTIES, places)]


def _up_to(dimension: str, values: Floats, bounds: dict[str, float]) -> Bins:
    places = np.searchsorted(list(bounds.values()), values, side="left")
    return Bins(dimension, list(bounds), np.where(np.isnan(values), -1, places))


def _deciles(dimension: str, values: Floats) -> Bins:
    """Ten bins of about as many queries; equal values share a bin, so there may be fewer."""
    edges = np.quantile(values, np.arange(1, _DECILES) / _DECILES, method="inverted_cdf")
    found, places = np.unique(np.searchsorted(np.unique(edges), values, side="left"), return_inverse=True)
    inside = [values[places == place] for place in range(len(found))]
    labels = [f"{some.min():.2f} to {some.max():.2f}" for some in inside]
    return Bins(dimension, labels, places)
