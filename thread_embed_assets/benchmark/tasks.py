"""Retrieval tasks from held-out conversations, one shared index per source, task and split."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from thread_embed_assets.benchmark.examples import (
    Example,
    response_examples,
    summary_example,
    thread_examples,
    word_overlap,
)
from thread_embed_assets.benchmark.near import Placed, candidates
from thread_embed_assets.benchmark.views import with_people
from thread_embed_assets.benchmark.written_queries import WrittenQuery
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message, Split, Truth, microseconds
from thread_embed_assets.chat.read import StoredConversation, read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.columns import Column, described
from thread_embed_assets.storage.fingerprint import fraction, of_json
from thread_embed_assets.storage.tables import TableHandle, TableWriter, connect_read_only, open_table, write_tables

logger = logging.getLogger(__name__)

TASK_NAMES = ("thread", "thread_strict", "response", "reply", "summary")
SPLITS = (Split.DEV.value, Split.TEST.value)
TIERS = {Truth.ANNOTATED.value: "gold", Truth.EXPLICIT.value: "gold", Truth.PREDICTED.value: "silver"}
MOST_DOCUMENTS = 50_000  # of an index; larger sources are sampled by conversation
MOST_QUERIES = 10_000
_KEPT_COLUMNS = 12
DIRECT, SAME_THREAD = 2, 1  # grades of a reply to the window's last message, and of what else was said after it

_TIME = pa.timestamp("us", tz="UTC")
_TEXTS: list[Column] = [(f"text_{name}", pa.string(), f"written as `{name}` (chat/formats.py)") for name in FORMATS]
_TEXTS.append(("text_people", pa.string(), "with opaque ids, for the views with names; leaves this file nowhere else"))
_PLACE: list[Column] = [
    ("task", pa.string(), "thread, thread_strict, response, reply or summary"),
    ("split", pa.string(), "dev or test"),
]

SCHEMAS = {
    "queries": described(
        [
            *_PLACE,
            ("query_id", pa.string(), "unique within its task"),
            ("conversation_id", pa.string(), "the conversation that is looked for"),
            ("channel", pa.string(), "the room it took place in"),
            ("cluster", pa.string(), "channel and day of the conversation's start; its id where there are no times"),
            ("tier", pa.string(), "gold: annotated or explicit threads; silver: predicted ones"),
            ("asked_at", _TIME, "last message of the query"),
            ("person_ids", pa.list_(pa.string()), "who wrote its messages"),
            ("message_ids", pa.list_(pa.string()), "its messages, which its document does not hold"),
            ("thread_messages", pa.int32(), "messages of the whole conversation"),
            ("gap_seconds", pa.float64(), "from the query to the nearest message of its document"),
            ("word_overlap", pa.float64(), "share of the query's words that stand in its best document"),
            ("paraphrase", pa.string(), "the query in other words; empty where nobody wrote it"),
            *_TEXTS,
        ]
    ),
    "corpus": described(
        [
            *_PLACE,
            ("doc_id", pa.string(), "unique within its task"),
            ("conversation_id", pa.string(), "the conversation it is cut from"),
            ("channel", pa.string(), "the room it took place in"),
            ("started_at", _TIME, "first message of the document"),
            ("ended_at", _TIME, "last message of the document"),
            ("person_ids", pa.list_(pa.string()), "who wrote its messages"),
            ("message_ids", pa.list_(pa.string()), "its messages"),
            *_TEXTS,
        ]
    ),
    "qrels": described(
        [
            *_PLACE,
            ("query_id", pa.string(), "the query"),
            ("doc_id", pa.string(), "a document that answers it"),
            ("grade", pa.int32(), f"{DIRECT} if it replies to the query's last message, else {SAME_THREAD}"),
        ]
    ),
    "candidates": described(
        [
            *_PLACE,
            ("query_id", pa.string(), "the query"),
            ("doc_id", pa.string(), "one of the documents nearest to its own in channel and time (near.py)"),
        ]
    ),
}


def build_tasks(
    source: str,
    conversations: TableHandle,
    messages: TableHandle,
    written: Mapping[str, WrittenQuery],
    path: Path,
) -> dict[str, TableHandle]:
    """Write the source's dev and test tasks: tables ``queries``, ``corpus``, ``qrels`` and ``candidates`` of one file.

    Args:
        source: name of the source; it seeds the draws together with the conversation's id.
        conversations: table of ``chat.model.CONVERSATIONS``.
        messages: table of ``chat.model.MESSAGES``.
        written: conversation id to a query written in other words; a split without any gets no summary task.
        path: the file to write.

    Returns:
        The handles by table name; their counts tell documents, queries and why conversations gave no query.

    Raises:
        InputError: no test conversation has threads that count as truth. Guessed threads never do.
    """
    truths = ", ".join(f"'{t}'" for t in TIERS)
    splits = ", ".join(f"'{s}'" for s in SPLITS)
    where = f"split IN ({splits}) AND truth IN ({truths})"
    sizes = _sizes(conversations, where)
    if Split.TEST not in sizes:
        problem = f"{source!r} has no test conversation whose threads are annotated, explicit or predicted"
        remedy = "Give the source a split with a test part, or leave 'benchmark' out of its roles in catalog.yaml"
        raise InputError(conversations.path, problem, remedy)
    held_out = {
        row["conversation_id"]: row["split"] for row in conversations.rows_as_dicts(["conversation_id", "split"], where)
    }
    asked_about = {held_out[name] for name, query in written.items() if name in held_out and query.text.strip()}
    with write_tables(path, SCHEMAS) as writer:
        indexes: dict[tuple[str, str], _Index] = {}
        writer.count("written_queries_without_conversation", len(written.keys() - held_out.keys()))
        for conversation in read_conversations(conversations, messages, where):
            writer.count(f"conversations_{conversation.split}")
            query = written.get(conversation.id) if conversation.split in asked_about else None
            for task, example in _examples(conversation, query, conversation.split in asked_about):
                place = (task, conversation.split)
                index = indexes.setdefault(place, _Index(place, *_shares(task, *sizes[conversation.split])))
                if index.takes(conversation):
                    _add(writer, index, conversation, example, query)
        for index in indexes.values():
            index.add_candidates(writer)
        logger.info("%s tasks: %s", source, ", ".join(f"{k} {v}" for k, v in sorted(writer.counts.items())))
    return {name: open_table(path, name) for name in SCHEMAS}


def _sizes(conversations: TableHandle, where: str) -> dict[str, tuple[int, int]]:
    """Conversations and messages of each split."""
    query = f"SELECT split, count(*), sum(message_count)::BIGINT FROM conversations WHERE {where} GROUP BY split"
    with connect_read_only([conversations]) as connection:
        return {str(split): (int(c), int(m)) for split, c, m in connection.execute(query).fetchall()}


def _shares(task: str, conversations: int, messages: int) -> tuple[float, float]:
    """Shares of the conversations that an index takes, and that give a query."""
    documents = messages if task == "reply" else conversations
    return min(1.0, MOST_DOCUMENTS / documents), min(1.0, MOST_QUERIES / conversations)


@dataclass
class _Index:
    """One index while it is written: what of its documents and queries the slices need."""

    place: tuple[str, str]
    share: float
    query_share: float
    queries: list[Placed] = field(default_factory=list)
    relevant: list[list[str]] = field(default_factory=list)
    documents: list[Placed] = field(default_factory=list)

    def takes(self, conversation: StoredConversation) -> bool:
        return fraction("index", conversation.source, conversation.id) < self.share

    def asks(self, conversation: StoredConversation) -> bool:
        return fraction("queries", conversation.source, conversation.id) < self.query_share

    def add_candidates(self, writer: TableWriter) -> None:
        earlier = self.place[0] == "thread_strict"
        for query, found in candidates(self.queries, self.documents, self.relevant, only_earlier=earlier):
            writer.add_all("candidates", ((*self.place, query, document) for document in found))
            writer.count("_".join((*self.place, "near_queries")))


def _examples(
    conversation: StoredConversation, query: WrittenQuery | None, with_summary: bool
) -> Iterator[tuple[str, Example]]:
    loose, strict = thread_examples(conversation)
    response, reply = response_examples(conversation)
    yield from (("thread", loose), ("thread_strict", strict), ("response", response), ("reply", reply))
    if with_summary:
        yield "summary", summary_example(conversation, query.text if query else "")


def _add(
    writer: TableWriter, index: _Index, conversation: StoredConversation, example: Example, written: WrittenQuery | None
) -> None:
    task = index.place[0]
    name = "_".join(index.place)
    single = task == "reply"
    parts = [[message] for message in example.document] if single else [example.document]
    documents = {}
    for part in parts:
        if not FORMATS["plain"].render(part).strip():
            writer.count(f"{name}_blank_documents")
            continue
        names = [conversation.source, task, conversation.id, *([part[0].id] if single else [])]
        documents[f"d_{of_json(names)}"] = part
    for key, part in documents.items():
        _add_document(writer, index, conversation, key, part)
        writer.count(f"{name}_documents")
    if not example.query or not documents:
        writer.count(f"{name}_no_query_{example.refusal or 'short'}")
        return
    if not index.asks(conversation):
        writer.count(f"{name}_no_query_sampled_out")
        return
    last = example.query[-1].id
    grades = {key: DIRECT if single and last in part[0].parents else SAME_THREAD for key, part in documents.items()}
    best = documents[max(grades, key=lambda key: grades[key])]
    query = f"q_{of_json([conversation.source, task, conversation.id])}"
    _add_query(writer, index, conversation, query, example.query, best, written if task == "summary" else None)
    writer.add_all("qrels", ((*index.place, query, key, grade) for key, grade in grades.items()))
    writer.count(f"{name}_queries")
    asked = _last(example.query) if task != "summary" else conversation.start
    if asked is not None:
        index.queries.append(Placed(query, conversation.channel, asked, asked))
        index.relevant.append(list(grades))


def _add_document(
    writer: TableWriter, index: _Index, conversation: StoredConversation, key: str, messages: Sequence[Message]
) -> None:
    times = [m.time for m in messages if m.time is not None]
    writer.add(
        "corpus",
        (
            *index.place,
            key,
            conversation.id,
            conversation.channel,
            microseconds(min(times, default=None)),
            microseconds(max(times, default=None)),
            _people(messages),
            [m.id for m in messages],
            *_texts(messages),
        ),
    )
    if times:
        index.documents.append(Placed(key, conversation.channel, min(times), max(times)))


def _add_query(
    writer: TableWriter,
    index: _Index,
    conversation: StoredConversation,
    key: str,
    messages: Sequence[Message],
    document: Sequence[Message],
    written: WrittenQuery | None,
) -> None:
    asked = _last(messages)
    # Nobody speaks in a summary, so it reads the same in every format.
    texts = _texts(messages) if written is None else [FORMATS["plain"].render(messages)] * len(_TEXTS)
    writer.add(
        "queries",
        (
            *index.place,
            key,
            conversation.id,
            conversation.channel,
            _cluster(conversation),
            TIERS[conversation.truth],
            microseconds(asked),
            _people(messages),
            [m.id for m in messages] if written is None else [],
            len(conversation.messages),
            _gap(asked, document),
            word_overlap(messages, document),
            written.paraphrase if written else "",
            *texts,
        ),
    )


def _texts(messages: Sequence[Message]) -> list[str]:
    return [*(text_format.render(messages) for text_format in FORMATS.values()), with_people(messages)]


def _people(messages: Sequence[Message]) -> list[str]:
    return sorted({m.author for m in messages if m.author})


def _last(messages: Sequence[Message]) -> float | None:
    return max((m.time for m in messages if m.time is not None), default=None)


def _gap(asked: float | None, document: Sequence[Message]) -> float | None:
    times = [m.time for m in document if m.time is not None]
    return None if asked is None or not times else min(abs(time - asked) for time in times)


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
        near: query id to the documents of its slice of the index; queries without a slice are not in it.
        fingerprint: of the tables of queries and documents.
    """

    path: Path
    name: str
    split: str
    tier: str
    query_ids: list[str]
    clusters: list[str]
    document_ids: list[str]
    relevant: dict[str, dict[str, int]]
    near: dict[str, list[str]]
    fingerprint: str = ""

    def query_texts(self, text_format: str) -> list[str]:
        """In the order of ``query_ids``; ``text_format`` is a name of ``FORMATS``, or ``people``."""
        return [str(text) for text in self._column("queries", f"text_{text_format}")]

    def document_texts(self, text_format: str) -> list[str]:
        return [str(text) for text in self._column("corpus", f"text_{text_format}")]

    def paraphrases(self) -> list[str]:
        """Of each query, empty where nobody wrote one."""
        return [str(text) for text in self._column("queries", "paraphrase")]

    def query_people(self) -> list[list[str]]:
        return list(self._column("queries", "person_ids"))

    def document_people(self) -> list[list[str]]:
        return list(self._column("corpus", "person_ids"))

    def document_messages(self) -> list[list[str]]:
        """Ids of each document's messages, in the order in which they stand in its text."""
        return list(self._column("corpus", "message_ids"))

    def query_times(self) -> npt.NDArray[np.float64]:
        """Seconds since 1970 [queries], NaN where unknown."""
        return self._seconds("queries", "asked_at")

    def document_times(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """First and last message of each document, seconds since 1970 [documents], NaN where unknown."""
        return self._seconds("corpus", "started_at"), self._seconds("corpus", "ended_at")

    def features(self, column: str) -> npt.NDArray[np.float64]:
        """A numeric column of the queries [queries], NaN where unknown."""
        return np.array([np.nan if value is None else value for value in self._column("queries", column)], dtype=np.float64)

    def _seconds(self, table: str, column: str) -> npt.NDArray[np.float64]:
        return np.array([np.nan if time is None else time.timestamp() for time in self._column(table, column)])

    def _column(self, table: str, column: str) -> Sequence[Any]:
        return _read_column(self.path, self.fingerprint, self.name, self.split, table, column)


@lru_cache(maxsize=_KEPT_COLUMNS)
def _read_column(path: Path, fingerprint: str, task: str, split: str, table: str, column: str) -> Sequence[Any]:
    """A column in the order of the ids. Contenders ask for the same few again and again; opening the file takes longest."""
    key = {"queries": "query_id", "corpus": "doc_id"}[table]
    rows = open_table(path, table).scan([column], _where(task, split), order_by=key)
    return tuple(value for batch in rows for value in batch.column(0).to_pylist())


def load_tasks(path: Path, splits: Sequence[str] = SPLITS) -> list[Task]:
    """The tasks of a file that have queries, in the order of ``splits`` and ``TASK_NAMES``; other splits are not read."""
    queries, corpus, qrels, slices = (open_table(path, name) for name in SCHEMAS)
    tasks = []
    for split in splits:
        for name in TASK_NAMES:
            where = _where(name, split)
            asked = list(queries.rows_as_dicts(["query_id", "cluster", "tier"], where, order_by="query_id"))
            if not asked:
                continue
            relevant: dict[str, dict[str, int]] = {}
            for row in qrels.rows_as_dicts(where=where):
                relevant.setdefault(row["query_id"], {})[row["doc_id"]] = row["grade"]
            near: dict[str, list[str]] = {}
            for row in slices.rows_as_dicts(where=where):
                near.setdefault(row["query_id"], []).append(row["doc_id"])
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
                    near=near,
                    fingerprint=f"{queries.fingerprint} {corpus.fingerprint}",
                )
            )
    return tasks


def _where(task: str, split: str) -> str:
    return f"task = '{task}' AND split = '{split}'"
