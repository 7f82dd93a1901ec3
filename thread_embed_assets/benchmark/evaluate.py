"""Scores the contenders on a source's tasks: runs, metrics with intervals, paired comparisons, breakdowns."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thread_embed_assets.benchmark.breakdowns import breakdowns
from thread_embed_assets.benchmark.by_window import ByWindow, whole, windows
from thread_embed_assets.benchmark.contenders import FITTED, Contender, open_encoder
from thread_embed_assets.benchmark.embeddings import EmbeddingCache, Encoder
from thread_embed_assets.benchmark.metrics import HEADLINE, METRICS, Run, per_query
from thread_embed_assets.benchmark.result_tables import (
    SCHEMAS,
    Index,
    Scored,
    add_breakdowns,
    add_comparisons,
    add_not_run,
    add_scored,
    standing,
)
from thread_embed_assets.benchmark.retrievers import (
    Bm25,
    Dense,
    Recency,
    ReciprocalRankSum,
    Scorer,
    SpeakerOverlap,
    ZScoreSum,
    search,
)
from thread_embed_assets.benchmark.tasks import SPLITS, Task, load_tasks
from thread_embed_assets.benchmark.views import View, intact, names_only, read_names, with_typos
from thread_embed_assets.chat.formats import DEFAULT_FORMAT
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import atomic_folder
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import TableHandle, TableWriter, open_table, write_tables

logger = logging.getLogger(__name__)

EncoderOf = Callable[..., Encoder]  # of a Model, and of the texts ``fitted_to`` where it is to be fitted to some

DIMS = (256, 128, 64)  # of the Matryoshka curve, beside all dimensions
_DIMS_OF = frozenset({"base", "tuned"})
_FITTED_TO = "thread"  # whose documents models are fitted to, for all tasks of the split
_FORMAT_CHOSEN_ON = frozenset({"thread", "response"})


@dataclass(frozen=True)
class Reading:
    """Another view of some tasks, and the standings (see ``result_tables.standing``) of the contenders that are given it."""

    view: View
    tasks: frozenset[str]
    standings: frozenset[str]


READINGS = (
    Reading("intact", frozenset({"thread"}), frozenset({"bm25", "base", "tuned"})),
    Reading("names", frozenset({"thread"}), frozenset({"bm25"})),
    Reading("typos", frozenset({"thread", "response", "summary"}), frozenset({"bm25", "base", "base_hybrid", "tuned"})),
    Reading("paraphrase", frozenset({"summary"}), frozenset({"bm25", "base", "base_hybrid", "tuned"})),
)


def evaluate_source(
    tasks_path: Path,
    source: str,
    contenders: Sequence[Contender],
    layout: Layout,
    encoder_of: EncoderOf = open_encoder,
) -> dict[str, TableHandle]:
    """Score every contender on every task, each in the text format that suits it best on this source's dev tasks.

    A task's documents are read whole or by window, whichever is better for the contender on that task's dev queries.

    Writes ``layout.results(source)`` with the tables of ``result_tables.SCHEMAS`` and, below ``layout.runs(source)``,
    one TREC run file per contender, test task and index. Timings are in the table ``costs`` alone, so the others depend only
    on the tasks and the models. The views with names read the private table of people; vectors of such texts stay beside it.

    Args:
        tasks_path: file written by ``tasks.build_tasks``.
        source: name of the source.
        contenders: a hybrid after the two it is made of.
        layout: where results, runs and the embedding cache lie.
        encoder_of: makes a model's encoder, as :func:`open_encoder` does.

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
    bench = _Bench(
        source,
        {c.name: c for c in contenders},
        EmbeddingCache(layout.embedding_cache),
        EmbeddingCache(layout.private / "embeddings"),
        read_names(layout.people(source)),
        encoder_of,
        {split: next((t for t in tasks if (t.name, t.split) == (_FITTED_TO, split)), None) for split in SPLITS},
    )
    dev, test = ([task for task in tasks if task.split == split] for split in SPLITS)
    with write_tables(layout.results(source), SCHEMAS) as writer, atomic_folder(layout.runs(source)) as runs:
        for scored in bench.score_dev(dev):
            chosen = scored.text_format == bench.format_of(scored.contender, scored.task)
            add_scored(writer, source, scored, chosen=chosen)
        for task in test:
            _add_test_task(writer, source, list(bench.score_test(task, runs)))
        for name, reason in bench.not_run.items():
            add_not_run(writer, source, bench.contenders[name], test, reason)
    return {name: open_table(layout.results(source), name) for name in SCHEMAS}


def _add_test_task(writer: TableWriter, source: str, scored: Sequence[Scored]) -> None:
    for one in scored:
        add_scored(writer, source, one, chosen=True)
    add_comparisons(writer, source, scored)
    whole = [s for s in scored if (s.view, s.index, s.dim) == ("masked", "corpus", None)]
    bm25 = next((s for s in whole if s.contender.kind == "bm25"), None)
    if bm25 is not None:
        add_breakdowns(writer, source, whole, breakdowns(bm25.task, bm25.headline))


@dataclass(frozen=True)
class Formats:
    """What a contender is given: the text format ``usual``, and by task the same, whole or by window."""

    usual: str
    by_task: Mapping[str, str]


@dataclass
class _Bench:
    """The state of one evaluation: which formats each contender was found to be best in, and which cannot run."""

    source: str
    contenders: dict[str, Contender]
    cache: EmbeddingCache
    private_cache: EmbeddingCache
    names: Mapping[str, str]
    encoder_of: EncoderOf
    fitted_to: Mapping[str, Task | None]
    formats: dict[str, Formats] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    _encoders: dict[tuple[str, str], Encoder] = field(default_factory=dict)
    _bm25: dict[tuple[str, str, str, str], Bm25] = field(default_factory=dict)  # of one task, since each hybrid asks for it

    def score_dev(self, tasks: Sequence[Task]) -> list[Scored]:
        """Score each contender in each of its formats, and keep the best of them for test."""
        result: list[Scored] = []
        for contender in self.contenders.values():
            reason = contender.not_run or next((self.not_run[p] for p in contender.parts if p in self.not_run), "")
            if reason:
                self.not_run[contender.name] = reason
            elif contender.parts:
                result += [self._score(contender, task, self.format_of(contender, task)) for task in tasks]
            else:
                result += self._in_its_formats(contender, tasks)
        return result

    def _in_its_formats(self, contender: Contender, tasks: Sequence[Task]) -> list[Scored]:
        """All of them on the tasks that choose the text format, then on the other tasks that one, whole and by window."""
        formats = contender.formats
        several = len(set(map(whole, formats))) > 1
        first = [task for task in tasks if not several or task.name in _FORMAT_CHOSEN_ON]
        scored = [self._score(contender, task, name) for name in formats for task in first]
        usual = best_format(scored, formats)
        readings = [name for name in formats if whole(name) == usual]
        scored += [self._score(contender, task, name) for name in readings for task in tasks if task not in first]
        self.formats[contender.name] = Formats(readings[0], best_readings(scored, readings))
        return scored

    def format_of(self, contender: Contender, task: Task) -> str:
        """The format in which a contender is given a task; a hybrid names those of its parts."""
        if contender.parts:
            return "+".join(dict.fromkeys(self.format_of(self.contenders[part], task) for part in contender.parts))
        formats = self.formats[contender.name]
        return formats.by_task.get(task.name, formats.usual)

    def score_test(self, task: Task, runs: Path) -> Iterator[Scored]:
        """Every reading of one test task."""
        for contender in self.contenders.values():
            if contender.name in self.not_run:
                continue
            text_format = self.format_of(contender, task)
            yield self._score(contender, task, text_format, runs=runs)
            if task.near:
                yield self._score(contender, task, text_format, index="near", runs=runs)
            if contender.kind == "dense" and contender.role in _DIMS_OF:
                yield from self._shorter(contender, task, text_format)
            for reading in READINGS:
                if task.name in reading.tasks and standing(contender) in reading.standings and self._can(reading.view, task):
                    yield self._score(contender, task, text_format, view=reading.view)

    def _can(self, view: View, task: Task) -> bool:
        """Whether there is anything to read in that view."""
        if view in ("intact", "names"):
            return bool(self.names)
        return view != "paraphrase" or any(task.paraphrases())

    def _shorter(self, contender: Contender, task: Task, text_format: str) -> Iterator[Scored]:
        for dim in DIMS:
            scorer = self._dense(contender, task, text_format, "masked", dim)
            if scorer is not None:
                run = search(scorer, task.query_ids, task.document_ids)
                yield self._scored(contender, task, text_format, run, dim=dim)

    def _score(
        self,
        contender: Contender,
        task: Task,
        text_format: str,
        *,
        view: View = "masked",
        index: Index = "corpus",
        runs: Path | None = None,
    ) -> Scored:
        began, embedded = time.monotonic(), self.cache.embedded
        near = task.near if index == "near" else None
        run = search(self._scorer(contender, task, text_format, view), task.query_ids, task.document_ids, candidates=near)
        seconds, embedded = time.monotonic() - began, self.cache.embedded - embedded
        if view == "paraphrase":
            asked = [query for query, text in zip(task.query_ids, task.paraphrases(), strict=True) if text]
            run = {query: run[query] for query in asked}
        if runs is not None:
            write_run(runs / f"{file_name(contender.name)}.{task.name}.{index}.trec", run, contender.name)
        scored = self._scored(contender, task, text_format, run, view, index, None, seconds, embedded)
        place = f"{self.source} {task.split} {task.name} {view} {index}: {contender.name} ({text_format})"
        score = float(scored.headline.mean())
        logger.info("%s %s %.3f, %d queries, %.1f s, %d texts embedded", place, HEADLINE, score, len(run), seconds, embedded)
        return scored

    def _scored(
        self,
        contender: Contender,
        task: Task,
        text_format: str,
        run: Run,
        view: View = "masked",
        index: Index = "corpus",
        dim: int | None = None,
        seconds: float = 0.0,
        embedded: int = 0,
    ) -> Scored:
        values = per_query(run, task.relevant, list(run))
        table = np.stack([values[name] for name in METRICS], axis=1)
        encoder = self._encoder(contender, task, text_format).fingerprint if contender.kind == "dense" else ""
        return Scored(contender, task, text_format, list(run), table, view, index, dim, seconds, embedded, encoder)

    def _encoder(self, contender: Contender, task: Task, text_format: str) -> Encoder:
        """Of a fitted format one that is fitted to all threads of the task's split, read as the model reads them."""
        assert contender.model is not None
        alone = whole(text_format).removesuffix(FITTED)
        fitted_to = None if alone == whole(text_format) else self.fitted_to[task.split] or task
        key = contender.name, f"{fitted_to.split} {alone}" if fitted_to else ""
        if key not in self._encoders:
            more = {"fitted_to": fitted_to.document_texts(alone)} if fitted_to else {}
            self._encoders[key] = self.encoder_of(contender.model, **more)
        return self._encoders[key]

    def _scorer(self, contender: Contender, task: Task, text_format: str, view: View) -> Scorer:
        if contender.kind == "hybrid":
            first, second = (
                self._scorer(part, task, self.format_of(part, task), view)
                for part in map(self.contenders.__getitem__, contender.parts)
            )
            return ZScoreSum(first, second) if contender.fusion == "z_score" else ReciprocalRankSum(first, second)
        if contender.kind == "recency":
            return Recency(task.query_times(), *task.document_times())
        if contender.kind == "speakers":
            return SpeakerOverlap(task.query_people(), task.document_people())
        if contender.kind == "dense":
            scorer = self._dense(contender, task, text_format, view)
            assert scorer is not None
            return scorer
        key = (task.name, task.split, text_format, view)
        if key not in self._bm25:
            if not any(known[:2] == key[:2] for known in self._bm25):
                self._bm25.clear()
            self._bm25[key] = Bm25(*self._texts(task, text_format, view))
        return self._bm25[key]

    def _dense(
        self, contender: Contender, task: Task, text_format: str, view: View, dim: int | None = None
    ) -> Scorer | None:
        """None where the model's vectors are no larger than ``dim``."""
        encoder = self._encoder(contender, task, text_format)
        cache = self.private_cache if view == "intact" else self.cache
        asked, texts = self._texts(task, whole(text_format).removesuffix(FITTED), view)
        queries = cache.embed(encoder, asked, "query")
        if dim is not None and dim >= queries.shape[1]:
            return None
        documents = cache.embed(encoder, texts, "document")
        if text_format == whole(text_format):
            return Dense(queries, documents, dim)
        parts = [windows(text) for text in texts]
        vectors = cache.embed(encoder, [part for document in parts for part in document], "document")
        return ByWindow(queries, vectors, [len(document) for document in parts], documents, dim)

    def _texts(self, task: Task, text_format: str, view: View) -> tuple[list[str], list[str]]:
        """Queries and documents; names stand in texts of memory only."""
        if view in ("intact", "names"):
            show = intact if view == "intact" else names_only
            queries, documents = task.query_texts("people"), task.document_texts("people")
            return [show(text, self.names) for text in queries], [show(text, self.names) for text in documents]
        if view == "paraphrase":
            return task.paraphrases(), task.document_texts(text_format)
        queries = task.query_texts(text_format)
        if view == "typos":
            queries = [with_typos(text, query) for query, text in zip(task.query_ids, queries, strict=True)]
        return queries, task.document_texts(text_format)


def best_format(scored: Sequence[Scored], formats: Sequence[str]) -> str:
    """The text format with the highest mean, over tasks, of the mean ``HEADLINE``, whole or by window, whichever is better.

    The default, if allowed, where nothing is scored; the first of equals.
    """
    names = list(dict.fromkeys(map(whole, formats)))
    if not scored:
        return DEFAULT_FORMAT if DEFAULT_FORMAT in names else names[0]
    best: dict[tuple[str, str], float] = {}
    for one in scored:
        key = whole(one.text_format), one.task.name
        best[key] = max(best.get(key, 0.0), float(one.headline.mean()))
    return max(names, key=lambda name: np.mean([value for (of, _), value in best.items() if of == name]))


def best_readings(scored: Sequence[Scored], readings: Sequence[str]) -> dict[str, str]:
    """By task, the reading with the highest mean ``HEADLINE``; the first of equals."""
    means = {(one.task.name, one.text_format): float(one.headline.mean()) for one in scored}
    return {task: max(readings, key=lambda name: means[task, name]) for task in {task for task, _ in means}}


def write_run(path: Path, run: Run, tag: str) -> None:
    """A TREC run file: query, ``Q0``, document, rank from 1, score, tag."""
    label = tag.replace(" ", "_")
    with path.open("w", encoding="utf-8") as file:
        for query, documents in run.items():
            for rank, (document, score) in enumerate(documents.items(), start=1):
                file.write(f"{query} Q0 {document} {rank} {score:.6f} {label}\n")


def file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-+_." else "_" for c in name)
