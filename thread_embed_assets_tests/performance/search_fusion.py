"""How well search fuses words and meaning: BM25, dense, their z-sum and rank sum, and the fusion of search; prints JSON.

    python -m thread_embed_assets_tests.performance.search_fusion                    # dev, where it was chosen
    python -m thread_embed_assets_tests.performance.search_fusion --split test

MRR@10 of every task of every source whose ``benchmark_tasks`` are below ``THREAD_EMBED_ROOT``, texts as the model was
trained to read them and documents by window, as search reads them; threads and summaries once more with the first 8 words
of each query (``cut``). ``lost`` is the worst difference of a cell to the better of BM25 and dense. With ``--grid`` each
setting of the fusion tried on dev, best first. Vectors come from the embedding cache, and what is not there is embedded.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from thread_embed_assets.benchmark.by_window import ByWindow, windows
from thread_embed_assets.benchmark.contenders import text_format_of
from thread_embed_assets.benchmark.embeddings import PRECISION_VARIABLE, EmbeddingCache, Encoder, ModelEncoder
from thread_embed_assets.benchmark.retrievers import Bm25, ReciprocalRankSum, Scorer, Scores, ZScoreSum, search, tokens
from thread_embed_assets.benchmark.statistics import bootstrap
from thread_embed_assets.benchmark.tasks import SPLITS, Task, load_tasks
from thread_embed_assets.release.weights import find_released, unpack
from thread_embed_assets.search.fusion import LENGTH_POWER, STANDS_OUT, WEIGHT, Fused, fuse
from thread_embed_assets.sources.catalog import load_catalog
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.training.base_models import local_folder, model_fingerprint

GRID = list(product((2, 3, 5, 10, 20), (0.0, 0.25, 0.5, 0.75, 1.0), (0.01, 0.015, 0.02, 0.03, 0.04, 0.06)))
BRIEF = 8  # words: people who search write fewer than people who talk
_CUT = ("thread", "summary")
_DEPTH = 10  # MRR@10
_SEED = 7


@dataclass(frozen=True)
class Cell:
    """A task of a source, and what each side says of its queries; scores are [queries, documents].

    Attributes:
        cut: only the first ``BRIEF`` words of the queries were read.
    """

    source: str
    task: Task
    cut: bool
    words: npt.NDArray[np.int64]
    bm25: Scores
    dense: Scores

    def mrr(self, scorer: Scorer) -> npt.NDArray[np.float64]:
        """Of each query; for :func:`grid` ir_measures would take an hour."""
        run = search(scorer, self.task.query_ids, self.task.document_ids, depth=_DEPTH)
        return np.array([_reciprocal(run[query], self.task.relevant.get(query, {})) for query in self.task.query_ids])


@dataclass(frozen=True)
class Given:
    """Scores that are there already, as a scorer."""

    scores: Scores
    floor: float = float("-inf")

    @property
    def shape(self) -> tuple[int, int]:
        return self.scores.shape[0], self.scores.shape[1]

    def block(self, start: int, stop: int) -> Scores:
        return self.scores[start:stop]


def cells(layout: Layout, sources: Sequence[str], split: str, encoder: Encoder, text_format: str) -> Iterator[Cell]:
    """Each task, and threads and summaries once more with short queries."""
    cache = EmbeddingCache(layout.embedding_cache)
    for source in sources:
        if not layout.tasks(source).exists():
            continue
        for task in load_tasks(layout.tasks(source), [split]):
            texts = task.document_texts(text_format)
            parts = [windows(text) for text in texts]
            vectors = cache.embed(encoder, [part for document in parts for part in document], "document")
            whole = cache.embed(encoder, texts, "document")
            for cut in (False, True) if task.name in _CUT else (False,):
                asked = [_first_words(text) if cut else text for text in task.query_texts(text_format)]
                dense = ByWindow(cache.embed(encoder, asked, "query"), vectors, list(map(len, parts)), whole)
                words = np.array([len(set(found)) for found in tokens(asked)], dtype=np.int64)
                count = len(asked)
                yield Cell(source, task, cut, words, Bm25(asked, texts).block(0, count), dense.block(0, count))


def _first_words(text: str) -> str:
    return " ".join(text.split()[:BRIEF])


def _reciprocal(found: Iterable[str], relevant: Container[str]) -> float:
    return next((1 / rank for rank, document in enumerate(found, start=1) if document in relevant), 0.0)


def scored(cell: Cell) -> dict[str, Any]:
    """Each way's mean over the queries, and the interval of search's own over the better of BM25 and dense."""
    bm25, dense = Given(cell.bm25, Bm25.floor), Given(cell.dense)
    ways: dict[str, Scorer] = {
        "bm25": bm25,
        "dense": dense,
        "z_sum": ZScoreSum(bm25, dense),
        "rank_sum": ReciprocalRankSum(bm25, dense),
        "search": Fused(bm25, dense, cell.words.tolist()),
    }
    values = {name: cell.mrr(scorer) for name, scorer in ways.items()}
    means = {name: round(float(value.mean()), 4) for name, value in values.items()}
    better = max(("bm25", "dense"), key=lambda name: means[name])
    [interval] = bootstrap((values["search"] - values[better])[:, None], cell.task.clusters, _SEED)
    gain = {"over": better, "mean": interval.mean, "low": interval.low, "high": interval.high}
    head = {"source": cell.source, "task": cell.task.name, "cut": cell.cut, "queries": len(cell.words)}
    return {**head, **means, "search_gains": gain}


def grid(kept: Sequence[Cell]) -> list[dict[str, Any]]:
    """Every setting of the fusion: the mean over the cells, less the mean of what they lose to the better side."""
    better = np.array([max(c.mrr(Given(c.bm25, Bm25.floor)).mean(), c.mrr(Given(c.dense)).mean()) for c in kept])
    found = []
    for stands_out, power, weight in GRID:
        means = np.array([c.mrr(Given(fuse(c.bm25, c.dense, c.words, stands_out, power, weight))).mean() for c in kept])
        change = means - better
        found.append(
            {
                "stands_out": stands_out,
                "length_power": power,
                "weight": weight,
                "mean": round(float(means.mean()), 4),
                "lost": round(float(min(0.0, change.min())), 4),
                "judged_by": round(float(means.mean() + np.minimum(change, 0).mean()), 4),
            }
        )
    return sorted(found, key=lambda row: -float(row["judged_by"]))


def report(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ways = ("bm25", "dense", "z_sum", "rank_sum", "search")
    lost = {way: min(row[way] - max(row["bm25"], row["dense"]) for row in rows) for way in ways[2:]}
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "precision": os.environ.get(PRECISION_VARIABLE) or "fp32",
        "fusion": {"stands_out": STANDS_OUT, "length_power": LENGTH_POWER, "weight": WEIGHT},
        "mean": {way: round(float(np.mean([row[way] for row in rows])), 4) for way in ways},
        "lost": {way: round(float(min(0.0, change)), 4) for way, change in lost.items()},
        "cells": list(rows),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--split", choices=SPLITS, default="dev")
    parser.add_argument("--model", default="minilm-open", help="a released model's name, a folder or an id")
    parser.add_argument("--sources", help="names, comma-separated (default: all that have tasks)")
    parser.add_argument("--grid", action="store_true", help="the settings tried on dev, in place of the table")
    given = parser.parse_args(arguments)
    layout = Layout.from_environment()
    released = find_released(given.model, layout)
    folder = unpack(released, layout) if released else local_folder(given.model)
    encoder = ModelEncoder(folder, released.fingerprint if released else model_fingerprint(folder))
    sources = given.sources.split(",") if given.sources else list(load_catalog())
    kept = cells(layout, sources, "dev" if given.grid else given.split, encoder, text_format_of(folder))
    found = grid(list(kept)) if given.grid else {"split": given.split, **report([scored(cell) for cell in kept])}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
