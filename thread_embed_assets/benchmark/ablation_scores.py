"""Scores of one model on the dev tasks of a source; test is neither read nor scored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thread_embed_assets.benchmark.by_window import ByWindow
from thread_embed_assets.benchmark.embeddings import EmbeddingCache, Encoder
from thread_embed_assets.benchmark.message_windows import messages_of_split, window_texts
from thread_embed_assets.benchmark.metrics import HEADLINE, per_query
from thread_embed_assets.benchmark.retrievers import Dense, Scorer, search
from thread_embed_assets.benchmark.statistics import Floats
from thread_embed_assets.benchmark.tasks import Task, load_tasks
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.tables import TableHandle, connect_read_only, open_table
from thread_embed_assets.verdict import Verdict, no_faults

_DEV = Split.DEV.value


@dataclass(frozen=True)
class DevSource:
    """A source's dev tasks, and its conversations, which say what dev is.

    Attributes:
        tasks: file written by ``tasks.build_tasks``.
    """

    name: str
    tasks: Path
    stored: Normalised

    def load(self, names: Sequence[str]) -> list[Task]:
        """The dev tasks of these names.

        Raises:
            InputError: one of them is of another split, or the file passes a text of another split off as dev.
        """
        _refuse_what_is_not_dev(self.tasks, self.stored)
        return [only_dev(task) for task in load_tasks(self.tasks, [_DEV]) if task.name in names]


def only_dev(task: Task) -> Task:
    """The task, if it is one of dev.

    Raises:
        InputError: it is of another split: choices are made on dev, and test is looked at once, when they are made.
    """
    if task.split != _DEV:
        remedy = "Ablations are scored on dev alone; give them load_tasks(path, ['dev'])"
        raise InputError(task.path, f"the task {task.name!r} is of the split {task.split!r}", remedy)
    return task


# What the tasks file calls dev, beside the split under which the conversation and each message of it are kept.
_PASSED_OFF = f"""
    WITH texts AS (
        SELECT query_id AS id, conversation_id, message_ids FROM queries WHERE split = '{_DEV}'
        UNION ALL SELECT doc_id, conversation_id, message_ids FROM corpus WHERE split = '{_DEV}'
    ), kept AS (
        SELECT message_id, split FROM messages JOIN conversations USING (conversation_id)
    ), found AS (
        SELECT id, c.split FROM texts LEFT JOIN conversations c USING (conversation_id)
        UNION ALL SELECT id, kept.split
        FROM (SELECT id, unnest(message_ids) AS message_id FROM texts) LEFT JOIN kept USING (message_id)
    )
    SELECT id, coalesce(split, 'unknown') FROM found WHERE split IS DISTINCT FROM '{_DEV}' ORDER BY 1, 2 LIMIT 1
"""


def _refuse_what_is_not_dev(tasks: Path, stored: Normalised) -> None:
    handles = [*(open_table(tasks, name) for name in ("queries", "corpus")), stored.conversations, stored.messages]
    with connect_read_only(handles) as connection:
        found = connection.execute(_PASSED_OFF).fetchall()
    for name, split in found:
        problem = f"{name} is called dev there, but its conversation, or a message of it, is of the split {split!r}"
        raise InputError(tasks, problem, "Materialise benchmark_tasks again; no choice may be made by looking at test")


@dataclass(frozen=True)
class DevScores:
    """Reciprocal ranks of one model on one dev task.

    Attributes:
        clusters: of the queries, in the order of ``query_ids``.
        values: [queries], MRR@10 of each.
    """

    source: str
    task: str
    query_ids: Sequence[str]
    clusters: Sequence[str]
    values: Floats


def score_dev(
    sources: Sequence[DevSource],
    names: Sequence[str],
    encoder: Encoder,
    cache: EmbeddingCache,
    text_format: str,
    window: int | None = None,
    together: bool = False,
) -> Iterator[DevScores]:
    """A model's scores on the dev tasks of these names, masked, each over its whole index.

    Args:
        text_format: how queries and documents are written for the model.
        window: messages of each of a document's windows, of which the best counts; None embeds it whole.
        together: all windows count, and the whole (:class:`ByWindow`).
    """
    for source in sources:
        messages = messages_of_split(source.stored, _DEV) if window else {}
        for task in source.load(names):
            queries = cache.embed(encoder, task.query_texts(text_format), "query")
            scorer: Scorer
            if window:
                texts = window_texts(task, messages, text_format, window)
                flat = cache.embed(encoder, [text for of_document in texts for text in of_document], "document")
                counts = [len(of_document) for of_document in texts]
                if together:
                    documents = cache.embed(encoder, task.document_texts(text_format), "document")
                    scorer = ByWindow(queries, flat, counts, documents)
                else:
                    scorer = ByWindow(queries, flat, counts, concentration=math.inf)
            else:
                scorer = Dense(queries, cache.embed(encoder, task.document_texts(text_format), "document"))
            run = search(scorer, task.query_ids, task.document_ids)
            values = per_query(run, task.relevant, task.query_ids)[HEADLINE]
            yield DevScores(source.name, task.name, task.query_ids, task.clusters, values)


def dev_queries_only(scores: TableHandle, tasks: Mapping[str, Path]) -> Verdict:
    """Every scored query is one of dev, and its score a number in [0, 1].

    Args:
        scores: table ``scores`` of an arm.
        tasks: source to its tasks file.
    """
    known = {
        (source, row["task"], row["query_id"])
        for source, path in tasks.items()
        for row in open_table(path, "queries").rows_as_dicts(["task", "query_id"], f"split = '{_DEV}'")
    }
    faults = []
    for row in scores.rows_as_dicts():
        name = (row["source"], row["task"], row["query_id"])
        if name not in known:
            faults.append(f"{' '.join(name)} is no dev query")
        elif not 0 <= row[HEADLINE] <= 1:
            faults.append(f"{' '.join(name)} scores {row[HEADLINE]}")
    return no_faults("scores that may not be there", faults, scores.rows)
