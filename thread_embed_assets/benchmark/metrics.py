"""Ranking metrics per query, computed by ir_measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Run = dict[str, dict[str, float]]

METRICS = {"MRR@10": "RR@10", "Recall@1": "R@1", "Recall@5": "R@5", "Recall@10": "R@10", "NDCG@10": "nDCG@10"}
HEADLINE = "MRR@10"


def per_query(
    run: Mapping[str, Mapping[str, float]],
    relevant: Mapping[str, Mapping[str, int]],
    query_ids: Sequence[str],
) -> dict[str, npt.NDArray[np.float64]]:
    """Each metric [len(query_ids)] in the order of ``query_ids``; a query without results scores 0.

    A document's rank is its place in ``run``, which lists documents best first: the measures' providers break ties of
    scores each in its own way, so they are given ranks in place of scores. Recall is the share of the relevant
    documents found, not whether any was.
    """
    import ir_measures

    ranked = {
        query: {document: -float(rank) for rank, document in enumerate(documents, start=1)}
        for query, documents in run.items()
        if documents
    }
    names = {ir_measures.parse_measure(measure): name for name, measure in METRICS.items()}
    values = {name: np.zeros(len(query_ids)) for name in METRICS}
    places = {query: place for place, query in enumerate(query_ids)}
    judged = {query: dict(grades) for query, grades in relevant.items() if query in places}
    for found in ir_measures.iter_calc(list(names), judged, ranked):
        values[names[found.measure]][places[found.query_id]] = found.value
    return values
