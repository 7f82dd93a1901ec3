"""A small retrieval measure on held-out pairs: what stops training, and chooses between its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thread_embed_assets.training.data import DevSet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_CUTOFF = 10


def dev_mrr(model: SentenceTransformer, sets: Sequence[DevSet], batch_size: int = 64) -> dict[str, Any]:
    """MRR@10 of finding each anchor's positive among the positives of its set.

    A guide to whether training goes the right way, not a benchmark: the candidates are the sampled pairs only.

    Returns:
        ``{"mrr@10": mean over sources of the mean over each one's strategies, "pairs": n, "sets": {name: mrr@10}}``; empty
        without dev pairs.
    """
    if not sets:
        return {}
    by_set: dict[str, float] = {}
    for one in sets:
        texts = [*one.anchors, *one.positives]
        embedded = model.encode(texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)
        anchors, positives = np.split(np.asarray(embedded, dtype=np.float32), 2)
        by_set[one.name] = round(mrr_at_10(anchors @ positives.T, one.conversations), 4)
    return {"mrr@10": round(macro_mean(by_set), 4), "pairs": sum(map(_size, sets)), "sets": by_set}


def macro_mean(by_set: Mapping[str, float]) -> float:
    """Of values by ``<strategy>-<source>``: over the strategies of a source, then over sources, each counting the same."""
    by_source: dict[str, list[float]] = {}
    for name, value in by_set.items():
        by_source.setdefault(name.partition("-")[2], []).append(value)
    return float(np.mean([np.mean(values) for values in by_source.values()]))


def mrr_at_10(similarities: npt.NDArray[np.float32], conversations: Sequence[str]) -> float:
    """Mean of 1/rank of the diagonal within its row, 0 beyond rank 10.

    Args:
        similarities: [n, n]; row i is anchor i against every positive.
        conversations: n ids; other pairs of an anchor's own conversation are no wrong answers and are left out.

    A tie counts against the anchor, so a model that maps all texts to one point gets no credit.
    """
    own = np.diag(similarities)[:, None]
    ids = np.unique(np.asarray(conversations), return_inverse=True)[1]
    rivals = ids[:, None] != ids[None, :]
    ranks = 1 + ((similarities >= own) & rivals).sum(axis=1)
    return float(np.where(ranks <= _CUTOFF, 1.0 / ranks, 0.0).mean())


def _size(one: DevSet) -> int:
    return len(one.anchors)
