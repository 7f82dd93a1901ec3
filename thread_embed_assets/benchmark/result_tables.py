"""The tables that an evaluation leaves behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from thread_embed_assets.benchmark.contenders import Contender
from thread_embed_assets.benchmark.metrics import HEADLINE, METRICS
from thread_embed_assets.benchmark.statistics import Floats, bootstrap, paired_p
from thread_embed_assets.benchmark.tasks import Task
from thread_embed_assets.benchmark.views import View
from thread_embed_assets.storage.columns import Column, described
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import TableWriter
from thread_embed_assets.training.checkpoint import identity_of

RUN, NOT_RUN = "RUN", "NOT RUN"
Index = Literal["corpus", "near"]

_PLACE: list[Column] = [
    ("source", pa.string(), "the catalogue's name of the source"),
    ("task", pa.string(), "thread, thread_strict, response, reply or summary"),
    ("split", pa.string(), "dev, where ways of reading are chosen, or test"),
]
_CONTENDER: list[Column] = [
    *_PLACE,
    ("contender", pa.string(), "what ranks the documents"),
    ("role", pa.string(), "what it is compared as: baseline, base, reference, control, tuned, ..."),
    ("format", pa.string(), "how it reads the texts: format, whole or by window, fitted or not"),
]
_READING: list[Column] = [
    ("view", pa.string(), "masked; or with names, names alone, typing errors, other words"),
    ("index", pa.string(), "corpus: the task's whole index; near: the slice of each query"),
]
_BOUNDS: list[Column] = [
    column
    for metric in METRICS
    for column in (
        (metric, pa.float64(), "mean over the queries"),
        (f"{metric}_low", pa.float64(), "lower end of the 95 % interval"),
        (f"{metric}_high", pa.float64(), "upper end of it"),
    )
]
_RESAMPLED: Column = ("resampled", pa.string(), "cluster, or query where there are too few clusters")

SCHEMAS = {
    "per_query": described(
        [
            *_CONTENDER,
            *_READING,
            ("query_id", pa.string(), "the query of the task"),
            ("cluster", pa.string(), "channel and day: what is resampled"),
            *((metric, pa.float64(), "of this query") for metric in METRICS),
        ]
    ),
    "summary": described(
        [
            *_CONTENDER,
            *_READING,
            ("dim", pa.int32(), "components used of each vector; null: all"),
            ("chosen", pa.bool_(), "the format taken on test; dev rows show all that were tried"),
            ("tier", pa.string(), "gold: annotated or explicit threads; silver: predicted ones"),
            ("n", pa.int32(), "queries"),
            ("documents", pa.int32(), "of the index; of a slice the most that a query has"),
            ("clusters", pa.int32(), "channels and days that the queries are of"),
            _RESAMPLED,
            *_BOUNDS,
            ("status", pa.string(), f"{RUN} or {NOT_RUN}"),
            ("reason", pa.string(), f"why it is {NOT_RUN}"),
        ]
    ),
    "comparisons": described(
        [
            *_PLACE,
            ("index", pa.string(), "corpus or near"),
            ("metric", pa.string(), "what is compared"),
            ("contender_a", pa.string(), "the one that should be better"),
            ("contender_b", pa.string(), "the one it is compared with"),
            ("n", pa.int32(), "queries, paired"),
            ("difference", pa.float64(), "a minus b"),
            ("low", pa.float64(), "lower end of its 95 % interval"),
            ("high", pa.float64(), "upper end of it"),
            ("p", pa.float64(), "of this comparison alone; the leaderboard corrects over all of its comparisons"),
            _RESAMPLED,
        ]
    ),
    "breakdowns": described(
        [
            ("source", pa.string(), "the catalogue's name of the source"),
            ("task", pa.string(), "on test"),
            ("contender", pa.string(), "what ranks the documents"),
            ("role", pa.string(), "what it is compared as"),
            ("dimension", pa.string(), "thread_length, time_gap, word_overlap or difficulty"),
            ("bin", pa.string(), "the part of it that the queries are in"),
            ("position", pa.int32(), "of the bin, from 0"),
            ("n", pa.int32(), "queries"),
            (HEADLINE, pa.float64(), "mean over the queries"),
            (f"{HEADLINE}_low", pa.float64(), "lower end of the 95 % interval"),
            (f"{HEADLINE}_high", pa.float64(), "upper end of it"),
        ]
    ),
    "models": described(  # names of contenders stay the same when a model is trained anew
        [
            ("source", pa.string(), "the catalogue's name of the source"),
            ("contender", pa.string(), "what was scored"),
            ("role", pa.string(), "what it is compared as"),
            (
                "identity",
                pa.string(),
                "which model it was, by mix, stage and fingerprint; empty without a model",
            ),
        ]
    ),
    "costs": described(
        [
            *_CONTENDER,
            ("encoder", pa.string(), "fingerprint that names its part of the embedding cache; empty without a model"),
            ("seconds", pa.float64(), "embedding, indexing and search together"),
            ("texts_embedded", pa.int64(), "texts that were not in the embedding cache"),
        ]
    ),
}


@dataclass(frozen=True)
class Scored:
    """One contender's result in one reading of a task.

    Attributes:
        reading: how the contender read the texts (:class:`.readings.Reading`, written out); a sum names those of its parts.
        index: ``corpus`` is the task's whole index, ``near`` the slice of each query.
        dim: components used of each vector; None for all.
        query_ids: those that were scored; a slice or a view may leave some out.
        values: [queries, metrics] in the order of ``query_ids`` and ``METRICS``.
        seconds: embedding, indexing and search together.
        texts_embedded: texts that were not in the embedding cache.
        encoder: fingerprint of the encoder of a dense contender.
    """

    contender: Contender
    task: Task
    reading: str
    query_ids: Sequence[str]
    values: Floats
    view: View = "masked"
    index: Index = "corpus"
    dim: int | None = None
    seconds: float = 0.0
    texts_embedded: int = 0
    encoder: str = ""

    @property
    def clusters(self) -> list[str]:
        of_query = dict(zip(self.task.query_ids, self.task.clusters, strict=True))
        return [of_query[query] for query in self.query_ids]

    @property
    def documents(self) -> int:
        if self.index == "corpus":
            return len(self.task.document_ids)
        return max(len(self.task.near[query]) for query in self.query_ids)

    @property
    def headline(self) -> Floats:
        """[queries, 1]: the headline metric alone."""
        place = list(METRICS).index(HEADLINE)
        return self.values[:, place : place + 1]


def add_scored(writer: TableWriter, source: str, scored: Scored, chosen: bool) -> None:
    """Its queries (of full vectors only), its means with intervals, and what it cost."""
    contender, task, clusters = scored.contender, scored.task, scored.clusters
    head = (source, task.name, task.split, contender.name, contender.role, scored.reading)
    reading = (scored.view, scored.index)
    if scored.dim is None:
        queries = zip(scored.query_ids, clusters, scored.values.tolist(), strict=True)
        writer.add_all("per_query", ((*head, *reading, query, cluster, *values) for query, cluster, values in queries))
    intervals = bootstrap(scored.values, clusters, seed("interval", source, task.name, task.split))
    bounds = [number for i in intervals for number in (i.mean, i.low, i.high)]
    sizes = (task.tier, len(scored.query_ids), scored.documents, intervals[0].clusters, intervals[0].by)
    writer.add("summary", (*head, *reading, scored.dim, chosen, *sizes, *bounds, RUN, ""))
    if scored.index == "corpus" and scored.view == "masked" and scored.dim is None:
        writer.add("costs", (*head, scored.encoder, scored.seconds, scored.texts_embedded))


TRAINED = frozenset({"tuned", "tuned_transfer", "champion"})  # roles of models that were trained here


def add_models(writer: TableWriter, source: str, contenders: Iterable[Contender]) -> None:
    """Which model each trained contender is (:func:`.checkpoint.identity_of`)."""
    for contender in contenders:
        if contender.role in TRAINED and contender.model is not None:
            writer.add("models", (source, contender.name, contender.role, identity_of(Path(contender.model.location))))


def add_not_run(writer: TableWriter, source: str, contender: Contender, tasks: Sequence[Task], reason: str) -> None:
    for task in tasks:
        head = (source, task.name, task.split, contender.name, contender.role, None, "masked", "corpus", None)
        sizes = (task.tier, 0, len(task.document_ids), None, None)
        writer.add("summary", (*head, False, *sizes, *[None] * len(_BOUNDS), NOT_RUN, reason))


def add_comparisons(writer: TableWriter, source: str, scored: Sequence[Scored]) -> None:
    """Paired differences of the headline metric, between those of :func:`opponents`, in the masked view."""
    for a, b in opponents(scored):
        differences = a.headline - b.headline
        draw = seed("comparison", source, a.task.name, a.task.split)
        (interval,) = bootstrap(differences, a.clusters, draw)
        (p,) = paired_p(differences, a.clusters, draw)
        place = (source, a.task.name, a.task.split, a.index, HEADLINE, a.contender.name, b.contender.name, len(differences))
        writer.add("comparisons", (*place, interval.mean, interval.low, interval.high, p, interval.by))


# A tuned model against all that it must beat, its sum with BM25 against the base's, and what a platform's own data is worth.
_AGAINST = {
    "tuned": ("bm25", "base", "base_hybrid", "reference", "control", "champion", "tuned_transfer"),
    "tuned_transfer": ("base",),
    "tuned_hybrid": ("base_hybrid",),
}


def opponents(scored: Sequence[Scored]) -> Iterator[tuple[Scored, Scored]]:
    """Pairs (a, b) of the same reading of a task, of which a minus b is tested."""
    comparable = [s for s in scored if s.view == "masked" and s.dim is None]
    for a in comparable:
        for kind in _AGAINST.get(standing(a.contender), ()):
            for b in comparable:
                if standing(b.contender) == kind and b.task is a.task and b.index == a.index:
                    yield a, b


def standing(contender: Contender) -> str:
    """The role in which a contender is compared: BM25 apart from the other baselines, sums only those of z-scores."""
    if contender.kind == "bm25":
        return "bm25"
    if contender.kind == "hybrid" and contender.fusion != "z_score":
        return "other_hybrid"
    if contender.kind == "hybrid" and contender.role == "reference":
        return "reference_hybrid"
    return contender.role


@dataclass(frozen=True)
class Bins:
    """How the queries of a task fall apart along one dimension.

    Attributes:
        labels: of the bins, in order.
        places: [queries], the bin of each; -1 where the query is in none.
    """

    dimension: str
    labels: Sequence[str]
    places: np.typing.NDArray[np.intp]


_BROKEN_DOWN = frozenset({"bm25", "base", "base_hybrid", "tuned"})
_BREAKDOWN_RESAMPLES = 2_000


def add_breakdowns(writer: TableWriter, source: str, scored: Sequence[Scored], bins: Sequence[Bins]) -> None:
    """Means with intervals of the headline metric in each bin; ``scored`` are of one task, over its whole index."""
    for one in scored:
        if standing(one.contender) not in _BROKEN_DOWN:
            continue
        for cut in bins:
            for position, label in enumerate(cut.labels):
                inside = np.flatnonzero(cut.places == position)
                if not len(inside):
                    continue
                clusters = [one.clusters[i] for i in inside]
                draw = seed("breakdown", source, one.task.name, cut.dimension, label)
                (interval,) = bootstrap(one.headline[inside], clusters, draw, _BREAKDOWN_RESAMPLES)
                head = (source, one.task.name, one.contender.name, one.contender.role, cut.dimension, label, position)
                writer.add("breakdowns", (*head, len(inside), interval.mean, interval.low, interval.high))
