"""The tables that an evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from thread_embed_assets.benchmark.contenders import Contender
from thread_embed_assets.benchmark.metrics import METRICS
from thread_embed_assets.benchmark.statistics import Floats, bootstrap, holm, paired_p
from thread_embed_assets.benchmark.tasks import Task
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import TableWriter

RUN, NOT_RUN = "RUN", "NOT RUN"

_PLACE = [("source", pa.string()), ("task", pa.string()), ("split", pa.string())]
_CONTENDER = [*_PLACE, ("contender", pa.string()), ("role", pa.string()), ("format", pa.string())]
_BOUNDS = [(column, pa.float64()) for metric in METRICS for column in (metric, f"{metric}_low", f"{metric}_high")]

SCHEMAS = {
    "per_query": pa.schema(
        [*_CONTENDER, ("query_id", pa.string()), ("cluster", pa.string()), *((metric, pa.float64()) for metric in METRICS)]
    ),
    "summary": pa.schema(
        [
            *_CONTENDER,
            ("chosen", pa.bool_()),  # the format taken on test; dev rows show all that were tried
            ("tier", pa.string()),
            ("n", pa.int32()),
            ("documents", pa.int32()),
            ("clusters", pa.int32()),
            ("resampled", pa.string()),  # cluster, or query where there are too few clusters
            *_BOUNDS,
            ("status", pa.string()),
            ("reason", pa.string()),
        ]
    ),
    "comparisons": pa.schema(
        [
            *_PLACE,
            ("metric", pa.string()),
            ("contender_a", pa.string()),
            ("contender_b", pa.string()),
            ("n", pa.int32()),
            ("difference", pa.float64()),  # a minus b
            ("low", pa.float64()),
            ("high", pa.float64()),
            ("p", pa.float64()),
            ("p_holm", pa.float64()),  # over all comparisons of this source and metric
            ("resampled", pa.string()),
        ]
    ),
    "costs": pa.schema([*_CONTENDER, ("seconds", pa.float64()), ("texts_embedded", pa.int64())]),
}


@dataclass(frozen=True)
class ScoredTask:
    """One contender's result on one task.

    Attributes:
        values: [queries, metrics] in the order of ``task.query_ids`` and ``METRICS``.
        seconds: embedding, indexing and search together.
        texts_embedded: texts that were not in the embedding cache.
    """

    contender: Contender
    task: Task
    text_format: str
    values: Floats
    seconds: float
    texts_embedded: int


def add_scored(writer: TableWriter, source: str, scored: ScoredTask, chosen: bool) -> None:
    contender, task = scored.contender, scored.task
    head = (source, task.name, task.split, contender.name, contender.role, scored.text_format)
    queries = zip(task.query_ids, task.clusters, scored.values.tolist(), strict=True)
    writer.add_all("per_query", ((*head, query, cluster, *values) for query, cluster, values in queries))
    intervals = bootstrap(scored.values, task.clusters, seed("interval", source, task.name, task.split))
    bounds = [number for i in intervals for number in (i.mean, i.low, i.high)]
    sizes = (task.tier, len(task.query_ids), len(task.document_ids), intervals[0].clusters, intervals[0].by)
    writer.add("summary", (*head, chosen, *sizes, *bounds, RUN, ""))
    writer.add("costs", (*head, scored.seconds, scored.texts_embedded))


def add_not_run(writer: TableWriter, source: str, contender: Contender, tasks: Sequence[Task], reason: str) -> None:
    for task in tasks:
        head = (source, task.name, task.split, contender.name, contender.role, None)
        sizes = (task.tier, 0, len(task.document_ids), None, None)
        writer.add("summary", (*head, False, *sizes, *[None] * len(_BOUNDS), NOT_RUN, reason))


def add_comparisons(writer: TableWriter, source: str, scored: Sequence[ScoredTask]) -> None:
    """Each tuned model against the base model, BM25 and their sum; its own sum with BM25 against that of the base."""
    rows = []
    for a, b in _opponents(scored):
        differences = a.values - b.values
        draw = seed("comparison", source, a.task.name, a.task.split)
        intervals = bootstrap(differences, a.task.clusters, draw)
        p_values = paired_p(differences, a.task.clusters, draw)
        for metric, interval, p in zip(METRICS, intervals, p_values, strict=True):
            rows.append((a, b, metric, interval, p))
    for metric in METRICS:
        family = [row for row in rows if row[2] == metric]
        adjusted = holm([row[4] for row in family])
        for (a, b, _, interval, p), p_holm in zip(family, adjusted, strict=True):
            place = (source, a.task.name, a.task.split, metric, a.contender.name, b.contender.name, len(a.values))
            writer.add("comparisons", (*place, interval.mean, interval.low, interval.high, p, p_holm, interval.by))


def _opponents(scored: Sequence[ScoredTask]) -> Iterator[tuple[ScoredTask, ScoredTask]]:
    against = {"tuned": ("base", "baseline", "base_hybrid"), "tuned_hybrid": ("base_hybrid",)}
    for a in scored:
        for role in against.get(a.contender.role, ()):
            for b in scored:
                if b.contender.role == role and b.task is a.task:
                    yield a, b
