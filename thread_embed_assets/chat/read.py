"""Conversations back from their tables, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import duckdb

from thread_embed_assets.chat.model import Message
from thread_embed_assets.storage.tables import TableHandle, connect_read_only


@dataclass(slots=True)
class StoredConversation:
    """A cleaned, anonymised conversation; ``author`` of its messages is the person's opaque id."""

    id: str
    source: str
    platform: str
    channel: str
    truth: str
    split: str
    start: float | None
    end: float | None
    language: str
    language_score: float
    origin: str
    messages: list[Message] = field(default_factory=list)


# Two queries in one order: joined into one, each message would carry its conversation's eleven columns.
_CONVERSATIONS = """
    SELECT c.conversation_id, c.source, c.platform, c.channel, c.truth, c.split,
           epoch(c.started_at) AS started, epoch(c.ended_at) AS ended,
           c.language, c.language_score, c.origin
    FROM conversations c
    {where}
    ORDER BY c.channel, c.started_at, c.conversation_id
"""
_MESSAGES = """
    SELECT m.conversation_id, m.message_id, m.person_id, m.text, epoch(m.sent_at) AS sent, m.parents
    FROM conversations c JOIN messages m USING (conversation_id)
    {where}
    ORDER BY c.channel, c.started_at, c.conversation_id, m.position
"""
_BATCH_ROWS = 8_192


def read_conversations(conversations: TableHandle, messages: TableHandle, where: str = "") -> Iterator[StoredConversation]:
    """Stream conversations by channel and start time; ``where`` is SQL over the columns of ``conversations`` (as ``c``)."""
    with connect_read_only([conversations, messages]) as connection:
        condition = f"WHERE {where}" if where else ""
        heads = _rows(connection.cursor(), _CONVERSATIONS.format(where=condition))
        current: StoredConversation | None = None
        for conversation_id, message_id, person, text, sent, parents in _rows(connection, _MESSAGES.format(where=condition)):
            if current is None or current.id != conversation_id:
                if current is not None:
                    yield current
                head = next(head for head in heads if head[0] == conversation_id)
                current = StoredConversation(*head)
            current.messages.append(Message(message_id, person, text, sent, tuple(parents or ())))
        if current is not None:
            yield current


def read_texts(conversations: TableHandle, messages: TableHandle, where: str) -> Iterator[str]:
    """Stream the texts of all messages of the conversations that ``where`` selects, in no particular order."""
    query = f"SELECT m.text FROM conversations c JOIN messages m USING (conversation_id) WHERE {where}"
    with connect_read_only([conversations, messages]) as connection:
        for (text,) in _rows(connection, query):
            yield text


def _rows(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[tuple[Any, ...]]:
    for batch in connection.sql(query).to_arrow_reader(_BATCH_ROWS):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
