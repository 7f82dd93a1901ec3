"""Retrieval tasks from held-out conversations, one shared index per source, task and split."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from thread_embed_assets.benchmark.examples import Example, response_example, summary_example, thread_example
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message, Split, Truth, microseconds
from thread_embed_assets.chat.read import StoredConversation, read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.tables import TableHandle, TableWriter, open_table, write_tables

logger = logging.getLogger(__name__)

TASK_NAMES = ("thread", "response", "summary")
SPLITS = (Split.DEV.value, Split.TEST.value)
TIERS = {Truth.ANNOTATED.value: "gold", Truth.EXPLICIT.value: "gold", Truth.PREDICTED.value: "silver"}

_TIME = pa.timestamp("us", tz="UTC")
_TEXTS = [(f"text_{name}", pa.string()) for name in FORMATS]

SCHEMAS = {
    "queries": pa.schema(
        [
            ("task", pa.string()),
            ("split", pa.string()),
            ("query_id", pa.string()),
            ("conversation_id", pa.string()),
            ("channel", pa.string()),
            ("cluster", pa.string()),  # channel and day of the conversation's start; its id where there are no times
            ("tier", pa.string()),  # gold: annotated or explicit threads; silver: predicted ones
            ("asked_at", _TIME),  # last message of the query
            ("person_ids", pa.list_(pa.string())),
            *_TEXTS,
        ]
    ),
    "corpus": pa.schema(
        [
            ("task", pa.string()),
            ("split", pa.string()),
            ("doc_id", pa.string()),
            ("conversation_id", pa.string()),
            ("channel", pa.string()),
            ("started_at", _TIME),  # first and last message of the document
            ("ended_at", _TIME),
            ("person_ids", pa.list_(pa.string())),
            *_TEXTS,
        ]
    ),
    "qrels": pa.schema(
        [
            ("task", pa.string()),
            ("split", pa.string()),
            ("query_id", pa.string()),
            ("doc_id", pa.string()),
            ("grade", pa.int32()),
        ]
    ),
}


def build_tasks(
    source: str,
    conversations: TableHandle,
    messages: TableHandle,
    summaries: Mapping[str, str],
    path: Path,
) -> dict[str, TableHandle]:
    """Write the source's dev and test tasks: tables ``queries``, ``corpus`` and ``qrels`` of one file.

    Args:
        source: name of the source; it seeds the draws together with the conversation's id.
        conversations: table of ``chat.model.CONVERSATIONS``.
        messages: table of ``chat.model.MESSAGES``.
        summaries: conversation id to a summary written in other words; a split without any gets no summary task.
        path: the file to write.

    Returns:
        The handles by table name; their counts tell documents, queries and why conversations gave no query.

    Raises:
        InputError: no test conversation has threads that count as truth. Threads guessed by time gap never do.
    """
    truths = ", ".join(f"'{t}'" for t in TIERS)
    splits = ", ".join(f"'{s}'" for s in SPLITS)
    where = f"split IN ({splits}) AND truth IN ({truths})"
    summarised = {
        row["split"]
        for row in conversations.rows_as_dicts(["conversation_id", "split"], where)
        if summaries.get(row["conversation_id"], "").strip()
    }
    with write_tables(path, SCHEMAS) as writer:
        for conversation in read_conversations(conversations, messages, where):
            writer.count(f"conversations_{conversation.split}")
            for task, example in _examples(conversation, summaries, conversation.split in summarised):
                _add(writer, task, conversation, example)
        if not writer.counts.get("conversations_test"):
            problem = f"{source!r} has no test conversation whose threads are annotated, explicit or predicted"
            remedy = "Give the source a split with a test part, or leave 'benchmark' out of its roles in catalog.yaml"
            raise InputError(conversations.path, problem, remedy)
        logger.info("%s tasks: %s", source, ", ".join(f"{k} {v}" for k, v in sorted(writer.counts.items())))
    return {name: open_table(path, name) for name in SCHEMAS}


def _examples(
    conversation: StoredConversation, summaries: Mapping[str, str], with_summary: bool
) -> Iterator[tuple[str, Example]]:
    yield "thread", thread_example(conversation)
    yield "response", response_example(conversation)
    if with_summary:
        yield "summary", summary_example(conversation, summaries.get(conversation.id, ""))


def _add(writer: TableWriter, task: str, conversation: StoredConversation, example: Example) -> None:
    name = f"{task}_{conversation.split}"
    if not FORMATS["plain"].render(example.document).strip():
        writer.count(f"{name}_blank_documents")
        return
    key = of_json([conversation.source, task, conversation.id])
    place = (task, conversation.split)
    times = [m.time for m in example.document if m.time is not None]
    writer.add(
        "corpus",
        (
            *place,
            f"d_{key}",
            conversation.id,
            conversation.channel,
            microseconds(min(times, default=None)),
            microseconds(max(times, default=None)),
            _people(example.document),
            *_texts(example.document),
        ),
    )
    writer.count(f"{name}_documents")
    if not example.query:
        writer.count(f"{name}_no_query_{example.refusal}")
        return
    asked = [m.time for m in example.query if m.time is not None]
    texts = _texts(example.query)
    if task == "summary":
        texts = [FORMATS["plain"].render(example.query)] * len(FORMATS)  # nobody speaks in a summary
    writer.add(
        "queries",
        (
            *place,
            f"q_{key}",
            conversation.id,
            conversation.channel,
            _cluster(conversation),
            TIERS[conversation.truth],
            microseconds(max(asked, default=None)),
            _people(example.query),
            *texts,
        ),
    )
    writer.add("qrels", (*place, f"q_{key}", f"d_{key}", 1))
    writer.count(f"{name}_queries")


def _texts(messages: Sequence[Message]) -> list[str]:
    return [text_format.render(messages) for text_format in FORMATS.values()]


def _people(messages: Sequence[Message]) -> list[str]:
    return sorted({m.author for m in messages if m.author})


def _cluster(conversation: StoredConversation) -> str:
    if conversation.start is None:
        return conversation.id
    return f"{conversation.channel}/{datetime.fromtimestamp(conversation.start, UTC).date().isoformat()}"


@dataclass(frozen=True)
class Task:
    """One index with its queries, ids in ascending order; texts are read when asked for.

    Attributes:
        tier: gold, silver, or mixed where a source holds both.
        clusters: the cluster of each query, in the order of ``query_ids``.
        relevant: query id to the grades of its relevant documents.
    """

    path: Path
    name: str
    split: str
    tier: str
    query_ids: list[str]
    clusters: list[str]
    document_ids: list[str]
    relevant: dict[str, dict[str, int]]

    def query_texts(self, text_format: str) -> list[str]:
        return self._texts("queries", "query_id", text_format)

    def document_texts(self, text_format: str) -> list[str]:
        return self._texts("corpus", "doc_id", text_format)

    def _texts(self, table: str, key: str, text_format: str) -> list[str]:
        column = f"text_{text_format}"
        where = f"task = '{self.name}' AND split = '{self.split}'"
        rows = open_table(self.path, table).scan([column], where, order_by=key)
        return [text for batch in rows for text in batch.column(0).to_pylist()]


def load_tasks(path: Path) -> list[Task]:
    """The tasks of a file that have queries, dev before test, in the order of ``TASK_NAMES``."""
    queries, corpus, qrels = (open_table(path, name) for name in SCHEMAS)
    tasks = []
    for split in SPLITS:
        for name in TASK_NAMES:
            where = f"task = '{name}' AND split = '{split}'"
            asked = list(queries.rows_as_dicts(["query_id", "cluster", "tier"], where, order_by="query_id"))
            if not asked:
                continue
            relevant: dict[str, dict[str, int]] = {}
            for row in qrels.rows_as_dicts(where=where):
                relevant.setdefault(row["query_id"], {})[row["doc_id"]] = row["grade"]
            tiers = {row["tier"] for row in asked}
            tasks.append(
                Task(
                    path=path,
                    name=name,
                    split=split,
                    tier=tiers.pop() if len(tiers) == 1 else "mixed",
                    query_ids=[row["query_id"] for row in asked],
                    clusters=[row["cluster"] for row in asked],
                    document_ids=[row["doc_id"] for row in corpus.rows_as_dicts(["doc_id"], where, order_by="doc_id")],
                    relevant=relevant,
                )
            )
    return tasks
