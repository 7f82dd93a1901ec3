"""The DuckDB file of a ``ThreadStore``: its tables, and how messages come into them."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from thread_embed_assets.chat.model import Message
from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.entities import entities, keywords
from thread_embed_assets.storage.atomic import atomic_file, not_writable
from thread_embed_assets.storage.tables import BATCH_ROWS, record_batch

SIZE = 384  # of a vector

_VERSION = 1
_REMEDY = "Move it away, or name another file: a new store is made where there is none"
_SETTINGS = "SET threads=1; SET memory_limit='512MB'; SET enable_progress_bar=false; SET TimeZone='UTC'"

# A channel's messages are numbered by ``turn`` as they arrive; a thread's are in the order of time, then of turn.
_TABLES = f"""
    CREATE TABLE thread_store (version INTEGER NOT NULL);
    INSERT INTO thread_store VALUES ({_VERSION});
    CREATE TABLE threads (
        thread INTEGER NOT NULL, thread_id VARCHAR NOT NULL, channel VARCHAR NOT NULL, title VARCHAR NOT NULL
    );
    CREATE TABLE messages (
        message_id VARCHAR PRIMARY KEY, channel VARCHAR NOT NULL, turn INTEGER NOT NULL, thread INTEGER NOT NULL,
        author VARCHAR NOT NULL, text VARCHAR NOT NULL, sent_at DOUBLE NOT NULL, parents VARCHAR[] NOT NULL
    );
    CREATE TABLE words (
        thread INTEGER NOT NULL, turn INTEGER NOT NULL, sent_at DOUBLE NOT NULL, code BIGINT NOT NULL, word VARCHAR NOT NULL,
        is_entity BOOLEAN NOT NULL
    );
    CREATE TABLE vectors (thread INTEGER NOT NULL, known_until DOUBLE NOT NULL, vector FLOAT[{SIZE}] NOT NULL);
    CREATE VIEW thread_log AS
        WITH said AS (
            SELECT thread, min(sent_at) AS started, max(sent_at) AS last_active, count(*) AS messages
            FROM messages GROUP BY thread
        ), about AS (
            SELECT thread, list_sort(list(DISTINCT word) FILTER (is_entity)) AS entities,
                   list_sort(list(DISTINCT word) FILTER (NOT is_entity)) AS keywords
            FROM words GROUP BY thread
        )
        SELECT thread_id, title, channel, to_timestamp(started) AS started, to_timestamp(last_active) AS last_active,
               messages, coalesce(entities, []) AS entities, coalesce(keywords, []) AS keywords
        FROM threads JOIN said USING (thread) LEFT JOIN about USING (thread);
"""
_INCOMING = pa.schema(
    [
        ("place", pa.int64()),
        ("message_id", pa.string()),
        ("channel", pa.string()),
        ("thread_id", pa.string()),
        ("author", pa.string()),
        ("text", pa.string()),
        ("sent_at", pa.float64()),
        ("parents", pa.list_(pa.string())),
        ("codes", pa.list_(pa.int64())),
        ("words", pa.list_(pa.string())),
        ("are_entities", pa.list_(pa.bool_())),
    ]
)
_ARRIVING = """
    CREATE TEMP VIEW incoming AS
    SELECT * FROM arrived ANTI JOIN messages USING (message_id)
    QUALIFY row_number() OVER (PARTITION BY message_id ORDER BY place) = 1
"""
INSERTS = (
    """
    INSERT INTO threads
    SELECT (SELECT coalesce(max(thread), -1) FROM threads) + row_number() OVER (ORDER BY min(place)), thread_id, channel, ''
    FROM incoming ANTI JOIN threads USING (thread_id) GROUP BY thread_id, channel
    """,
    """
    CREATE TEMP TABLE numbered AS
    SELECT incoming.*, thread,
           coalesce(last, -1) + row_number() OVER (PARTITION BY channel ORDER BY incoming.sent_at, place) AS turn
    FROM incoming JOIN threads USING (thread_id, channel)
    LEFT JOIN (SELECT channel, max(turn) AS last FROM messages GROUP BY channel) USING (channel)
    """,
    """
    INSERT INTO messages
    SELECT message_id, channel, turn, thread, author, text, sent_at, parents FROM numbered ORDER BY channel, turn
    """,
    """
    INSERT INTO words
    SELECT * FROM (
        SELECT thread, turn, sent_at, unnest(codes), unnest(words), unnest(are_entities) FROM numbered ORDER BY channel, turn
    )
    """,
)


def open_file(path: Path) -> duckdb.DuckDBPyConnection:
    """The file at ``path``, made first where there is none, and whole at any moment.

    Raises:
        InputError: another process has it open, it is damaged, or something else than a store of threads.
    """
    if not path.exists():
        path.with_name(path.name + ".wal").unlink(missing_ok=True)  # of a store that somebody has deleted
        with atomic_file(path) as part, duckdb.connect(str(part)) as connection:
            connection.execute(_TABLES)
    try:
        connection = duckdb.connect(str(path))
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        if "lock" in reason:
            raise InputError(
                path, f"another process has the thread store open ({reason})", "Close it there first"
            ) from error
        if os.strerror(errno.EACCES) in reason:
            raise not_writable(path) from error
        raise InputError(path, f"the file cannot be read as DuckDB ({reason})", _REMEDY) from error
    connection.execute(_SETTINGS)
    try:
        versions = connection.execute("SELECT version FROM thread_store").fetchall()
    except duckdb.CatalogException:
        versions = []
    if versions != [(_VERSION,)]:
        connection.close()
        raise InputError(path, f"the file is not a store of threads of version {_VERSION}", _REMEDY)
    connection.register("batch", _INCOMING.empty_table())
    connection.execute(f"CREATE TEMP TABLE arrived AS SELECT * FROM batch; {_ARRIVING}")
    connection.unregister("batch")
    return connection


def batches(messages: Iterable[tuple[Message, str, str]]) -> Iterator[pa.RecordBatch]:
    """Messages, channels and ids of threads, with what each message names, at most ``BATCH_ROWS`` messages each."""
    rows: list[tuple[Any, ...]] = []
    for place, (message, channel, thread_id) in enumerate(messages):
        named = [(word, True) for word in sorted(entities(message.text))]
        named += [(word, False) for word in keywords(message.text)]
        words, are_entities = zip(*named, strict=True) if named else ((), ())
        said = (message.author, message.text, message.time, message.parents)
        rows.append((place, message.id, channel, thread_id, *said, [code(word) for word in words], words, are_entities))
        if len(rows) >= BATCH_ROWS:
            yield record_batch(rows, _INCOMING)
            rows.clear()
    if rows:
        yield record_batch(rows, _INCOMING)


def code(word: str) -> int:
    """The number a word is looked up by, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big", signed=True)
