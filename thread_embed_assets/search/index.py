"""The index of a room in one DuckDB file: what each thread says, in words and in vectors; brought up to date by difference.

Threads are known by a digest of what they say, so a later run embeds only those that are new or have changed. They come in
parts, each in one transaction: a run that is killed goes on where it was, and memory does not grow with the room.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from thread_embed_assets.benchmark.by_window import windows
from thread_embed_assets.benchmark.embeddings import Encoder, checked_unit
from thread_embed_assets.benchmark.retrievers import tokens
from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import StoredConversation, read_conversations
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import atomic_file, disk_full, not_writable, readable_disk_errors
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.tables import record_batch

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with how many threads were looked at, and how many there are."""

_VERSION = 1
_PART_TEXTS = 2_048  # that are embedded and written at once
_SETTINGS = "SET threads=1; SET memory_limit='512MB'; SET enable_progress_bar=false"
_TABLES = """
    CREATE TABLE search_index (version INTEGER, model VARCHAR, text_format VARCHAR, content VARCHAR);
    CREATE TABLE threads (
        thread INTEGER, thread_id VARCHAR, digest VARCHAR, channel VARCHAR, started DOUBLE, ended DOUBLE, people VARCHAR[],
        words INTEGER, parts INTEGER, vectors BLOB
    );
    CREATE TABLE words (thread INTEGER, word VARCHAR, count INTEGER);
"""
_THREADS = pa.schema(
    [
        ("thread", pa.int32()),
        ("thread_id", pa.string()),
        ("digest", pa.string()),
        ("channel", pa.string()),
        ("started", pa.float64()),
        ("ended", pa.float64()),
        ("people", pa.list_(pa.string())),
        ("words", pa.int32()),
        ("parts", pa.int32()),
        ("vectors", pa.binary()),  # float16 [parts, dim]: the thread read whole, then its windows
    ]
)
_WORDS = pa.schema([("thread", pa.int32()), ("word", pa.string()), ("count", pa.int32())])


@dataclass(frozen=True)
class Updated:
    """What bringing an index up to date has done.

    Attributes:
        threads: that are in it now.
        embedded: that were new or had changed.
        removed: that are no longer in the room, or had changed.
    """

    threads: int
    embedded: int
    removed: int


@dataclass(frozen=True)
class _Thread:
    digest: str
    text: str
    conversation: StoredConversation


def content_of(stored: Normalised) -> str:
    """Names what is to be searched."""
    return of_json([stored.conversations.fingerprint, stored.messages.fingerprint])


def index_file(folder: Path, encoder: Encoder) -> Path:
    """Each model has its own index."""
    return folder / f"{encoder.fingerprint[:16]}.index.duckdb"


def is_current(path: Path, stored: Normalised, encoder: Encoder, text_format: str) -> bool:
    """Whether nothing is left to do; False where the file is not there, damaged, or of something else.

    Raises:
        InputError: another process is writing to it.
    """
    try:
        return path.exists() and state_of(path) == (_VERSION, encoder.fingerprint, text_format, content_of(stored))
    except (duckdb.Error, ValueError):
        return False


def state_of(path: Path) -> tuple[int, str, str, str]:
    """Version, model, text format and content of an index."""
    with reading(path) as connection:
        [row] = connection.execute("SELECT version, model, text_format, content FROM search_index").fetchall()
        return row[0], row[1], row[2], row[3]


@contextmanager
def reading(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The file, open for reading.

    Raises:
        InputError: another process is writing to it.
    """
    with _connect(path, read_only=True) as connection:
        yield connection


def update(path: Path, stored: Normalised, encoder: Encoder, text_format: str, progress: Progress | None = None) -> Updated:
    """Bring the index up to date; a file that is damaged, or of another model, is made anew.

    Args:
        path: the file, made with its folder where it is not there.
        stored: what is searched.
        encoder: embeds what is new.
        text_format: how the model reads a thread.
        progress: told of each thread that is done.

    Raises:
        InputError: another process is writing to it, the disk is full, or the model gives vectors that are not finite.
    """
    with _readable(path):
        _make_where_unfit(path, encoder, text_format)
        with _connect(path) as connection:
            return _Update(connection, encoder, text_format).run(stored, progress or (lambda done, total: None))


def _make_where_unfit(path: Path, encoder: Encoder, text_format: str) -> None:
    if path.exists():
        try:
            if state_of(path)[:3] == (_VERSION, encoder.fingerprint, text_format):
                return
            reason = "is of another model or version"
        except (duckdb.Error, ValueError) as error:
            reason = f"cannot be read ({str(error).splitlines()[0]})"
        logger.warning("%s %s; it is made anew", path, reason)
        path.unlink()
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
    with atomic_file(path) as part, duckdb.connect(str(part)) as connection:
        connection.execute(_TABLES)
        connection.execute("INSERT INTO search_index VALUES (?, ?, ?, '')", [_VERSION, encoder.fingerprint, text_format])


@contextmanager
def _connect(path: Path, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        connection = duckdb.connect(str(path), read_only=read_only)
    except duckdb.IOException as error:
        if "Could not set lock" in str(error):
            raise InputError(
                path, "another process is writing to this index", "Wait until it is done, and ask again"
            ) from error
        raise
    with connection:
        connection.execute(_SETTINGS)
        yield connection


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        with readable_disk_errors(path):
            yield
    except duckdb.Error as error:
        if os.strerror(errno.ENOSPC) in str(error):
            raise disk_full(path) from error
        if any(os.strerror(number) in str(error) for number in (errno.EACCES, errno.EROFS)):
            raise not_writable(path) from error
        raise


class _Update:
    def __init__(self, connection: duckdb.DuckDBPyConnection, encoder: Encoder, text_format: str) -> None:
        self._connection = connection
        self._encoder = encoder
        self._format = FORMATS[text_format]
        rows = connection.execute("SELECT thread_id, digest, thread FROM threads").fetchall()
        self._known = {str(name): (str(digest), int(thread)) for name, digest, thread in rows}
        self._next = max((thread for _, thread in self._known.values()), default=-1) + 1
        self._embedded = self._removed = 0

    def run(self, stored: Normalised, progress: Progress) -> Updated:
        self._connection.execute("UPDATE search_index SET content = ''")
        total, seen = stored.conversations.rows, set()
        part: list[_Thread] = []
        texts = 0
        for done, conversation in enumerate(read_conversations(stored.conversations, stored.messages), start=1):
            text = self._format.render(conversation.messages)
            if text.strip():
                seen.add(conversation.id)
                digest = _digest(conversation, text)
                if self._known.get(conversation.id, ("", 0))[0] != digest:
                    part.append(_Thread(digest, text, conversation))
                    texts += 1 + len(text) // 100
            if texts >= _PART_TEXTS:
                self._write(part)
                part, texts = [], 0
                progress(done, total)
        self._write(part)
        gone = [thread for name, (_, thread) in self._known.items() if name not in seen]
        with self._transaction():
            self._remove(gone)
            self._connection.execute("UPDATE search_index SET content = ?", [content_of(stored)])
        progress(total, total)
        return Updated(len(seen), self._embedded, self._removed)

    def _write(self, part: Sequence[_Thread]) -> None:
        if not part:
            return
        parts = [windows(thread.text) for thread in part]
        distinct = {text: place for place, text in enumerate(dict.fromkeys(t for p in parts for t in p))}
        for thread in part:
            distinct.setdefault(thread.text, len(distinct))
        embedded = self._encoder.encode(list(distinct), "document")
        vectors = checked_unit(embedded, len(distinct), self._encoder.fingerprint).astype(np.float16)
        rows: list[tuple[object, ...]] = []
        words: list[tuple[object, ...]] = []
        old: list[int] = []
        for thread, some, said in zip(part, parts, tokens([thread.text for thread in part]), strict=True):
            talk, number = thread.conversation, self._next
            if talk.id in self._known:
                old.append(self._known[talk.id][1])
            taken = vectors[[distinct[thread.text], *(distinct[text] for text in some)]]
            people = sorted({message.author for message in talk.messages})
            head = (number, talk.id, thread.digest, talk.channel, talk.start, talk.end, people)
            rows.append((*head, len(said), len(taken), taken.tobytes()))
            words += [(number, word, count) for word, count in sorted(Counter(said).items())]
            self._known[talk.id] = (thread.digest, number)
            self._next += 1
        with self._transaction():
            self._remove(old)
            self._insert("threads", rows, _THREADS)
            self._insert("words", words, _WORDS)
        self._embedded += len(part)

    def _remove(self, threads: Sequence[int]) -> None:
        if threads:
            for table in ("threads", "words"):
                self._connection.execute(f"DELETE FROM {table} WHERE thread IN (SELECT unnest(?))", [list(threads)])
            self._removed += len(threads)

    def _insert(self, table: str, rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> None:
        if rows:
            self._connection.register("incoming", pa.Table.from_batches([record_batch(rows, schema)]))
            self._connection.execute(f"INSERT INTO {table} SELECT * FROM incoming")
            self._connection.unregister("incoming")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.begin()
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()


def _digest(conversation: StoredConversation, text: str) -> str:
    """Changes with all that an index holds of a thread."""
    people = sorted({message.author for message in conversation.messages})
    head = of_json([conversation.channel, conversation.start, conversation.end, people])
    return hashlib.blake2b(f"{head}\0{text}".encode(), digest_size=16).hexdigest()
