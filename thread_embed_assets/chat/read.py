"""Conversations back from their tables, in the order in which the source's parser gave them: channel by channel, by time.

Both tables hold conversations in one order, and a conversation says how many messages it has, so the two are read side by
side: nothing is sorted or joined, and memory does not grow with the source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thread_embed_assets.chat.model import Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.parallel import pack, unpack
from thread_embed_assets.storage.tables import STREAM_MEMORY, TableHandle, connect_read_only

BLOCK_MESSAGES = 4_000
_HEAD_ROWS = 32_768
_MESSAGE_ROWS = 8_192


@dataclass(slots=True)
class StoredConversation:
    """A cleaned, anonymised conversation; ``author`` of its messages is the person's opaque id.

    Attributes:
        lines: what was written about it, where that has been read along with it.
    """

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
    lines: tuple[str, ...] = ()


_HEADS = """
    SELECT message_count, coalesce({where}, false) AS wanted, c.conversation_id, c.source, c.platform, c.channel, c.truth,
           c.split, epoch(c.started_at) AS started, epoch(c.ended_at) AS ended, c.language, c.language_score, c.origin
    FROM conversations c
"""
_MESSAGES = "SELECT conversation_id, message_id, person_id, text, epoch(sent_at) AS sent, parents FROM messages"
_TEXTS = "SELECT conversation_id, text FROM messages"


@dataclass(frozen=True)
class Block:
    """Some whole conversations and their messages, as Arrow holds them: sent to another process in microseconds.

    Attributes:
        heads: ``message_count``, and the fields of :class:`StoredConversation` before its messages.
        messages: ``conversation_id``, and the fields of :class:`Message` but its kind.
    """

    heads: pa.RecordBatch
    messages: pa.RecordBatch

    @property
    def sizes(self) -> NDArray[np.int32]:
        """How many messages each conversation has."""
        sizes: NDArray[np.int32] = self.heads["message_count"].to_numpy()
        return sizes

    @property
    def ids(self) -> list[str]:
        ids: list[str] = self.heads["conversation_id"].to_pylist()
        return ids

    @property
    def texts(self) -> list[str]:
        """The texts of all messages."""
        texts: list[str] = self.messages["text"].to_pylist()
        return texts

    def keep(self, wanted: NDArray[np.bool_]) -> Block:
        """Only the conversations whose place is true."""
        if wanted.all():
            return self
        return Block(self.heads.filter(pa.array(wanted)), self.messages.filter(pa.array(np.repeat(wanted, self.sizes))))

    def __iter__(self) -> Iterator[StoredConversation]:
        names = ("message_id", "person_id", "text", "sent", "parents")
        rows = zip(*(self.messages[name].to_pylist() for name in names), strict=True)
        for size, *head in zip(*(column.to_pylist() for column in self.heads.columns), strict=True):
            messages = [
                Message(name, person, text, sent, tuple(parents or ()))
                for name, person, text, sent, parents in islice(rows, size)
            ]
            yield StoredConversation(*head, messages)  # type: ignore[call-arg]

    def __reduce__(self) -> tuple[Callable[[bytes, bytes], Block], tuple[bytes, bytes]]:
        return _unpacked, (pack(self.heads), pack(self.messages))


def _unpacked(heads: bytes, messages: bytes) -> Block:
    return Block(unpack(heads), unpack(messages))


def read_conversations(conversations: TableHandle, messages: TableHandle, where: str = "") -> Iterator[StoredConversation]:
    """Stream conversations in stored order; ``where`` is SQL over the columns of ``conversations`` (as ``c``).

    Raises:
        InputError: the two tables do not hold the same conversations in the same order.
    """
    for block in read_blocks(conversations, messages, where):
        yield from block


def read_texts(conversations: TableHandle, messages: TableHandle, where: str) -> Iterator[str]:
    """Stream the texts of all messages of the conversations that ``where`` selects, in stored order."""
    for block in _walk(conversations, messages, where, _TEXTS, BLOCK_MESSAGES):
        yield from block.texts


def read_blocks(
    conversations: TableHandle, messages: TableHandle, where: str = "", block_messages: int = BLOCK_MESSAGES
) -> Iterator[Block]:
    """:func:`read_conversations` in blocks, cut where ``block_messages`` are reached; ``where`` changes no cut."""
    return _walk(conversations, messages, where, _MESSAGES, block_messages)


def _walk(conversations: TableHandle, messages: TableHandle, where: str, query: str, block_messages: int) -> Iterator[Block]:
    with connect_read_only([conversations, messages], STREAM_MEMORY) as connection:
        heads = connection.cursor().sql(_HEADS.format(where=f"({where or 'true'})")).to_arrow_reader(_HEAD_ROWS)
        said = _Rows(connection.sql(query).to_arrow_reader(_MESSAGE_ROWS), messages.path)
        for batch in heads:
            ends = batch["message_count"].to_numpy().cumsum(dtype=np.int64)
            start = before = 0
            while start < len(ends):
                stop = min(len(ends), int(ends.searchsorted(before + block_messages)) + 1)
                some = batch.slice(start, stop - start)
                block = Block(some.drop_columns("wanted"), said.take(int(ends[stop - 1]) - before))
                _check_order(block, messages.path)
                kept = block.keep(some["wanted"].to_numpy(zero_copy_only=False))
                if kept.heads.num_rows:
                    yield kept
                start, before = stop, int(ends[stop - 1])


class _Rows:
    """Rows of a stream of batches, taken some at a time."""

    def __init__(self, reader: pa.RecordBatchReader, path: Path) -> None:
        self._reader = reader
        self._path = path
        self._left = pa.RecordBatch.from_pylist([], schema=reader.schema)

    def take(self, count: int) -> pa.RecordBatch:
        parts: list[pa.RecordBatch] = []
        while count > self._left.num_rows:
            parts.append(self._left)
            count -= self._left.num_rows
            self._left = next(self._reader, None)
            if self._left is None:
                raise _out_of_step(self._path)
        parts.append(self._left.slice(0, count))
        self._left = self._left.slice(count)
        return pa.concat_batches(parts)


def _check_order(block: Block, path: Path) -> None:
    """The first and the last message of each conversation say that they are its own."""
    sizes = block.sizes
    some = sizes > 0
    ids = block.heads["conversation_id"].filter(pa.array(some))
    ends = sizes.cumsum()[some]
    for places in (ends - sizes[some], ends - 1):
        if not block.messages["conversation_id"].take(pa.array(places)).equals(ids):
            raise _out_of_step(path)


def _out_of_step(path: Path) -> InputError:
    problem = "the messages do not lie in the order of their conversations"
    return InputError(path, problem, "Materialise the conversations of that source again")
