"""Scores the contenders on a source's tasks: runs, metrics with intervals, paired comparisons."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thread_embed_assets.benchmark.contenders import Contender, Model
from thread_embed_assets.benchmark.embeddings import EmbeddingCache, Encoder, ModelEncoder
from thread_embed_assets.benchmark.metrics import HEADLINE, METRICS, Run, per_query
from thread_embed_assets.benchmark.result_tables import SCHEMAS, ScoredTask, add_comparisons, add_not_run, add_scored
from thread_embed_assets.benchmark.retrievers import Bm25, Dense, Scorer, ZScoreSum, search
from thread_embed_assets.benchmark.tasks import SPLITS, Task, load_tasks
from thread_embed_assets.chat.formats import DEFAULT_FORMAT
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import atomic_folder
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables

logger = logging.getLogger(__name__)

EncoderOf = Callable[[Model], Encoder]


def model_encoder(model: Model) -> Encoder:
    return ModelEncoder(model.location, model.fingerprint)


def evaluate_source(
    tasks_path: Path,
    source: str,
    contenders: Sequence[Contender],
    layout: Layout,
    encoder_of: EncoderOf = model_encoder,
) -> dict[str, TableHandle]:
    """Score every contender on every task, each in the text format that suits it best on this source's dev tasks.

    Writes ``layout.results(source)`` with the tables of ``result_tables.SCHEMAS`` and, below ``layout.runs(source)``,
    one TREC run file per contender and test task. Timings are in the table ``costs`` alone, so the others depend only on
    the tasks and the models.

    Args:
        tasks_path: file written by ``tasks.build_tasks``.
        source: name of the source.
        contenders: a hybrid after the two it is made of.
        layout: where results, runs and the embedding cache lie.
        encoder_of: makes a model's encoder.

    Returns:
        The result tables by name.

    Raises:
        InputError: there are no test queries, or two contenders share a name.
    """
    tasks = load_tasks(tasks_path)
    if not any(task.split == "test" for task in tasks):
        raise InputError(tasks_path, "the file holds no test queries", "Materialise benchmark_tasks, and look at its counts")
    if len({c.name for c in contenders}) < len(contenders):
        raise InputError("contenders", "two of them share a name", "Give each model its own name")
    bench = _Bench(source, tasks, EmbeddingCache(layout.embedding_cache), encoder_of)
    with write_tables(layout.results(source), SCHEMAS) as writer, atomic_folder(layout.runs(source)) as runs:
        for split in SPLITS:
            scored = bench.score_split(split, contenders, runs)
            for one in scored:
                chosen = bench.formats[one.contender.name] == one.text_format
                add_scored(writer, source, one, chosen)
            if split == "test":
                add_comparisons(writer, source, scored)
                for contender in contenders:
                    reason = bench.not_run.get(contender.name)
                    if reason:
                        add_not_run(writer, source, contender, [t for t in tasks if t.split == split], reason)
    return {name: open_table(layout.results(source), name) for name in SCHEMAS}


@dataclass
class _Bench:
    """The state of one evaluation: which format each contender was found to be best in, and which cannot run."""

    source: str
    tasks: list[Task]
    cache: EmbeddingCache
    encoder_of: EncoderOf
    formats: dict[str, str] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    _encoders: dict[str, Encoder] = field(default_factory=dict)

    def score_split(self, split: str, contenders: Sequence[Contender], runs: Path) -> list[ScoredTask]:
        """Score the split's tasks: every format on dev, which fixes the choice, and the chosen one on test."""
        tasks = [task for task in self.tasks if task.split == split]
        declared = {contender.name: contender for contender in contenders}
        result = []
        for contender in contenders:
            reason = contender.not_run or next((self.not_run[p] for p in contender.parts if p in self.not_run), "")
            if reason:
                self.not_run[contender.name] = reason
                continue
            if contender.kind == "hybrid":
                formats: Sequence[str] = ["+".join(dict.fromkeys(self.formats[part] for part in contender.parts))]
            else:
                formats = contender.formats if split == "dev" else [self.formats[contender.name]]
            scored = [self._score(contender, declared, task, name, runs) for name in formats for task in tasks]
            if split == "dev":
                self.formats[contender.name] = best_format(scored, formats)
            result += scored
        return result

    def _score(
        self, contender: Contender, declared: Mapping[str, Contender], task: Task, text_format: str, runs: Path
    ) -> ScoredTask:
        began, embedded = time.monotonic(), self.cache.embedded
        run = search(self._scorer(contender, declared, task, text_format), task.query_ids, task.document_ids)
        seconds = time.monotonic() - began
        values = per_query(run, task.relevant, task.query_ids)
        if task.split == "test":
            write_run(runs / f"{file_name(contender.name)}.{task.name}.trec", run, contender.name)
        embedded = self.cache.embedded - embedded
        place = f"{self.source} {task.split} {task.name}: {contender.name} ({text_format})"
        score = float(values[HEADLINE].mean())
        logger.info("%s %s %.3f, %d queries, %.1f s, %d texts embedded", place, HEADLINE, score, len(run), seconds, embedded)
        table = np.stack([values[name] for name in METRICS], axis=1)
        return ScoredTask(contender, task, text_format, table, seconds, embedded)

    def _scorer(self, contender: Contender, declared: Mapping[str, Contender], task: Task, text_format: str) -> Scorer:
        if contender.kind == "hybrid":
            first, second = (self._scorer(declared[p], declared, task, self.formats[p]) for p in contender.parts)
            return ZScoreSum(first, second)
        queries, documents = task.query_texts(text_format), task.document_texts(text_format)
        if contender.kind == "bm25":
            return Bm25(queries, documents)
        assert contender.model is not None
        encoder = self._encoders.setdefault(contender.name, self.encoder_of(contender.model))
        vectors = (self.cache.embed(encoder, queries, "query"), self.cache.embed(encoder, documents, "document"))
        return Dense(*vectors, truncate_dim=contender.truncate_dim)


def best_format(scored: Sequence[ScoredTask], formats: Sequence[str]) -> str:
    """The format with the highest mean of the tasks' mean ``HEADLINE``; the default, if allowed, where nothing is scored.

    The first of equals wins.
    """
    if not scored:
        return DEFAULT_FORMAT if DEFAULT_FORMAT in formats else formats[0]
    column = list(METRICS).index(HEADLINE)
    means = {name: np.mean([s.values[:, column].mean() for s in scored if s.text_format == name]) for name in formats}
    return max(formats, key=lambda name: means[name])


def write_run(path: Path, run: Run, tag: str) -> None:
    """A TREC run file: query, ``Q0``, document, rank from 1, score, tag."""
    label = tag.replace(" ", "_")
    with path.open("w", encoding="utf-8") as file:
        for query, documents in run.items():
            for rank, (document, score) in enumerate(documents.items(), start=1):
                file.write(f"{query} Q0 {document} {rank} {score:.6f} {label}\n")


def file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-+_." else "_" for c in name)
