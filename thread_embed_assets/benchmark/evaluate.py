"""Scores the contenders on a source's tasks: runs, metrics with intervals, paired comparisons, breakdowns."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from thread_embed_assets.benchmark.breakdowns import breakdowns
from thread_embed_assets.benchmark.by_window import ByWindow, windows
from thread_embed_assets.benchmark.contenders import Contender, open_encoder
from thread_embed_assets.benchmark.embeddings import EmbeddingCache, Encoder
from thread_embed_assets.benchmark.metrics import HEADLINE, METRICS, Run, per_query
from thread_embed_assets.benchmark.readings import Reading
from thread_embed_assets.benchmark.result_tables import (
    SCHEMAS,
    Index,
    Scored,
    add_breakdowns,
    add_comparisons,
    add_models,
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
from thread_embed_assets.benchmark.tasks import SPLITS, TASK_NAMES, Task, load_tasks
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
class OtherView:
    """A view beside the masked one: of which tasks, and for contenders of which standings (``result_tables.standing``)."""

    view: View
    tasks: frozenset[str]
    standings: frozenset[str]


OTHER_VIEWS = (
    OtherView("intact", frozenset({"thread"}), frozenset({"bm25", "base", "tuned"})),
    OtherView("names", frozenset({"thread"}), frozenset({"bm25"})),
    OtherView("typos", frozenset({"thread", "response", "summary"}), frozenset({"bm25", "base", "base_hybrid", "tuned"})),
    OtherView("paraphrase", frozenset({"summary"}), frozenset({"bm25", "base", "base_hybrid", "tuned"})),
)


def evaluate_source(
    tasks_path: Path,
    source: str,
    contenders: Sequence[Contender],
    layout: Layout,
    encoder_of: EncoderOf = open_encoder,
) -> dict[str, TableHandle]:
    """Score every contender on every task, each in the text format that suits it best on this source's dev tasks.

    Of its readings in that format, a task is given the one that is best on its dev queries.

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
            add_scored(writer, source, scored, chosen=scored.reading == bench.label(scored.contender, scored.task))
        for task in test:
            _add_test_task(writer, source, list(bench.score_test(task, runs)))
        add_models(writer, source, (one for one in contenders if one.name not in bench.not_run))
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


@dataclass
class _Bench:
    """The state of one evaluation: how each contender reads each task, by contender and task, and which cannot run."""

    source: str
    contenders: dict[str, Contender]
    cache: EmbeddingCache
    private_cache: EmbeddingCache
    names: Mapping[str, str]
    encoder_of: EncoderOf
    fitted_to: Mapping[str, Task | None]
    readings: dict[tuple[str, str], Reading] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    _encoders: dict[tuple[str, Reading | None, str], Encoder] = field(default_factory=dict)
    _bm25: dict[tuple[str, str, str, str], Bm25] = field(default_factory=dict)  # of one task, since each hybrid asks for it

    def score_dev(self, tasks: Sequence[Task]) -> list[Scored]:
        """Score each contender in each of its readings, and keep for test what suits it."""
        result: list[Scored] = []
        for contender in self.contenders.values():
            reason = contender.not_run or next((self.not_run[p] for p in contender.parts if p in self.not_run), "")
            if reason:
                self.not_run[contender.name] = reason
            elif contender.parts:
                result += [self._score(contender, task, None) for task in tasks]
            else:
                result += self._in_its_readings(contender, tasks)
        return result

    def _in_its_readings(self, contender: Contender, tasks: Sequence[Task]) -> list[Scored]:
        """All of them on the tasks that choose the text format, then those in that format on the other tasks."""
        several = len({reading.text_format for reading in contender.readings}) > 1
        first = [task for task in tasks if not several or task.name in _FORMAT_CHOSEN_ON]
        tried = {task.name: {r: self._score(contender, task, r) for r in contender.readings} for task in first}
        usual = best_format(contender.readings, tried.values())
        readings = [reading for reading in contender.readings if reading.text_format == usual]
        tried |= {t.name: {r: self._score(contender, t, r) for r in readings} for t in tasks if t not in first}
        for name in TASK_NAMES:
            of_task = {reading: one for reading, one in tried.get(name, {}).items() if reading in readings}
            self.readings[contender.name, name] = best_reading(of_task) if of_task else readings[0]
        return [one for scored in tried.values() for one in scored.values()]

    def reading_of(self, contender: Contender, task: Task) -> Reading | None:
        """How a contender reads a task; None of a sum."""
        return None if contender.parts else self.readings[contender.name, task.name]

    def label(self, contender: Contender, task: Task) -> str:
        """How a contender reads a task, written out; of a sum, how its parts do."""
        if not contender.parts:
            return str(self.readings[contender.name, task.name])
        return "+".join(dict.fromkeys(self.label(self.contenders[part], task) for part in contender.parts))

    def score_test(self, task: Task, runs: Path) -> Iterator[Scored]:
        """Every reading of one test task."""
        for contender in self.contenders.values():
            if contender.name in self.not_run:
                continue
            reading = self.reading_of(contender, task)
            yield self._score(contender, task, reading, runs=runs)
            if task.near:
                yield self._score(contender, task, reading, index="near", runs=runs)
            if reading is not None and contender.kind == "dense" and contender.role in _DIMS_OF:
                yield from self._shorter(contender, task, reading)
            for other in OTHER_VIEWS:
                if task.name in other.tasks and standing(contender) in other.standings and self._can(other.view, task):
                    yield self._score(contender, task, reading, view=other.view)

    def _can(self, view: View, task: Task) -> bool:
        """Whether there is anything to read in that view."""
        if view in ("intact", "names"):
            return bool(self.names)
        return view != "paraphrase" or any(task.paraphrases())

    def _shorter(self, contender: Contender, task: Task, reading: Reading) -> Iterator[Scored]:
        for dim in DIMS:
            scorer = self._dense(contender, task, reading, "masked", dim)
            if scorer is not None:
                run = search(scorer, task.query_ids, task.document_ids)
                yield self._scored(contender, task, reading, run, dim=dim)

    def _score(
        self,
        contender: Contender,
        task: Task,
        reading: Reading | None,
        *,
        view: View = "masked",
        index: Index = "corpus",
        runs: Path | None = None,
    ) -> Scored:
        began, embedded = time.monotonic(), self.cache.embedded
        near = task.near if index == "near" else None
        run = search(self._scorer(contender, task, reading, view), task.query_ids, task.document_ids, candidates=near)
        seconds, embedded = time.monotonic() - began, self.cache.embedded - embedded
        if view == "paraphrase":
            asked = [query for query, text in zip(task.query_ids, task.paraphrases(), strict=True) if text]
            run = {query: run[query] for query in asked}
        if runs is not None:
            write_run(runs / f"{file_name(contender.name)}.{task.name}.{index}.trec", run, contender.name)
        scored = self._scored(contender, task, reading, run, view, index, None, seconds, embedded)
        place = f"{self.source} {task.split} {task.name} {view} {index}: {contender.name} ({scored.reading})"
        score = float(scored.headline.mean())
        logger.info("%s %s %.3f, %d queries, %.1f s, %d texts embedded", place, HEADLINE, score, len(run), seconds, embedded)
        return scored

    def _scored(
        self,
        contender: Contender,
        task: Task,
        reading: Reading | None,
        run: Run,
        view: View = "masked",
        index: Index = "corpus",
        dim: int | None = None,
        seconds: float = 0.0,
        embedded: int = 0,
    ) -> Scored:
        values = per_query(run, task.relevant, list(run))
        table = np.stack([values[name] for name in METRICS], axis=1)
        dense = reading is not None and contender.kind == "dense"
        encoder = self._encoder(contender, task, reading).fingerprint if reading is not None and dense else ""
        label = self.label(contender, task) if reading is None else str(reading)
        return Scored(contender, task, label, list(run), table, view, index, dim, seconds, embedded, encoder)

    def _encoder(self, contender: Contender, task: Task, reading: Reading) -> Encoder:
        """Of a fitted reading one that is fitted to all threads of the task's split, written as the model reads them."""
        assert contender.model is not None
        key = (contender.name, reading if reading.fitted else None, task.split if reading.fitted else "")
        if key not in self._encoders:
            fitted_to = self.fitted_to[task.split] or task
            more = {"fitted_to": fitted_to.document_texts(reading.text_format)} if reading.fitted else {}
            self._encoders[key] = self.encoder_of(contender.model, **more)
        return self._encoders[key]

    def _scorer(self, contender: Contender, task: Task, reading: Reading | None, view: View) -> Scorer:
        if reading is None:
            first, second = (
                self._scorer(part, task, self.reading_of(part, task), view)
                for part in map(self.contenders.__getitem__, contender.parts)
            )
            return ZScoreSum(first, second) if contender.fusion == "z_score" else ReciprocalRankSum(first, second)
        if contender.kind == "recency":
            return Recency(task.query_times(), *task.document_times())
        if contender.kind == "speakers":
            return SpeakerOverlap(task.query_people(), task.document_people())
        if contender.kind == "dense":
            scorer = self._dense(contender, task, reading, view)
            assert scorer is not None
            return scorer
        key = (task.name, task.split, reading.text_format, view)
        if key not in self._bm25:
            if not any(known[:2] == key[:2] for known in self._bm25):
                self._bm25.clear()
            self._bm25[key] = Bm25(*self._texts(task, reading.text_format, view))
        return self._bm25[key]

    def _dense(
        self, contender: Contender, task: Task, reading: Reading, view: View, dim: int | None = None
    ) -> Scorer | None:
        """None where the model's vectors are no larger than ``dim``."""
        encoder = self._encoder(contender, task, reading)
        cache = self.private_cache if view == "intact" else self.cache
        asked, texts = self._texts(task, reading.text_format, view)
        queries = cache.embed(encoder, asked, "query")
        if dim is not None and dim >= queries.shape[1]:
            return None
        documents = cache.embed(encoder, texts, "document")
        if not reading.by_window:
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


def best_format(readings: Sequence[Reading], tried: Iterable[Mapping[Reading, Scored]]) -> str:
    """The text format with the highest mean, over tasks, of the best mean ``HEADLINE`` of its readings.

    The default, if allowed, where nothing was tried; the first of equals.

    Args:
        readings: all that the contender may have.
        tried: of each task, what each of them scored.
    """
    names = list(dict.fromkeys(reading.text_format for reading in readings))
    best: dict[str, list[float]] = {name: [] for name in names}
    for scored in tried:
        for name in names:
            best[name].append(max(float(one.headline.mean()) for r, one in scored.items() if r.text_format == name))
    if not any(best.values()):
        return DEFAULT_FORMAT if DEFAULT_FORMAT in names else names[0]
    return max(names, key=lambda name: np.mean(best[name]))


def best_reading(tried: Mapping[Reading, Scored]) -> Reading:
    """The reading with the highest mean ``HEADLINE``; the first of equals."""
    return max(tried, key=lambda reading: float(tried[reading].headline.mean()))


def write_run(path: Path, run: Run, tag: str) -> None:
    """A TREC run file: query, ``Q0``, document, rank from 1, score, tag."""
    label = tag.replace(" ", "_")
    with path.open("w", encoding="utf-8") as file:
        for query, documents in run.items():
            for rank, (document, score) in enumerate(documents.items(), start=1):
                file.write(f"{query} Q0 {document} {rank} {score:.6f} {label}\n")


def file_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-+_." else "_" for c in name)
