"""Conversations back from their tables, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    messages: list[Message]


_QUERY = """
    SELECT c.conversation_id, c.source, c.platform, c.channel, c.truth, c.split,
           epoch(c.started_at) AS started, epoch(c.ended_at) AS ended,
           c.language, c.language_score, c.origin,
           m.message_id, m.person_id, m.text, epoch(m.sent_at) AS sent, m.parents
    FROM conversations c JOIN messages m USING (conversation_id)
    {where}
    ORDER BY c.channel, c.started_at, c.conversation_id, m.position
"""


def read_conversations(conversations: TableHandle, messages: TableHandle, where: str = "") -> Iterator[StoredConversation]:
    """Stream conversations by channel and start time; ``where`` is SQL over the columns of ``conversations`` (as ``c``)."""
    current: StoredConversation | None = None
    with connect_read_only([conversations, messages]) as connection:
        query = _QUERY.format(where=f"WHERE {where}" if where else "")
        for batch in connection.sql(query).to_arrow_reader(8_192):
            columns = [column.to_pylist() for column in batch.columns]
            for row in zip(*columns, strict=True):
                if current is None or current.id != row[0]:
                    if current is not None:
                        yield current
                    current = StoredConversation(*row[:11], messages=[])  # type: ignore[misc]
                message_id, person, text, sent, parents = row[11:]
                current.messages.append(Message(message_id, person, text, sent, tuple(parents or ())))
    if current is not None:
        yield current
