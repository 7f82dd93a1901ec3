"""Conversations hashed block by block, and a sketch of each: enough of its shingles to find what may be alike.

A sketch holds the shingles whose hash is a multiple of 4, so that what two texts share is in both of their sketches or in
none, and the 6 smallest, so that a short conversation has some (both samples: Broder 1997, "On the resemblance and
containment of documents"). Sketches are stored once for each state of a source and joined out of core.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thread_embed_assets.chat.near_copies import Hashes, Places, Shingled, shingled
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import read_blocks
from thread_embed_assets.storage.fingerprint import of_json
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables

SKETCH_SHARE = 4
SMALLEST_HASHES = 6
SHARED_HASHES = 2
COMMON_PLACES = 50
MOST_CANDIDATES = 20
KEY_BITS = 40
_VERSION = 1
_JOINED_AT_ONCE = 1_000_000
_LOG_EVERY = 250_000

SKETCHES = pa.schema(
    [
        ("source", pa.string()),
        ("ordinal", pa.int64()),
        ("conversation_id", pa.string()),
        ("split", pa.string()),
        ("digest", pa.uint64()),
        ("hashes", pa.list_(pa.uint64())),
    ]
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HashedBlock:
    """Some conversations in the order of their table, none without messages, hashed together.

    Attributes:
        ordinals: their places in the table, (conversations,).
        ids: (conversations,).
        splits: (conversations,).
        messages: number of messages of each conversation, (conversations,).
        hashed: (messages,) texts.
    """

    ordinals: Places
    ids: pa.Array
    splits: NDArray[np.object_]
    messages: Places
    hashed: Shingled

    @cached_property
    def starts(self) -> Places:
        """Where each conversation's messages start in ``hashed``, (conversations,)."""
        return self.messages.cumsum() - self.messages

    @cached_property
    def message_shingles(self) -> Places:
        """Number of shingles of each message, (messages,)."""
        return np.diff(self.hashed.ends, prepend=0)

    @cached_property
    def shingles(self) -> Places:
        """Number of shingles of each conversation, (conversations,)."""
        return np.add.reduceat(self.message_shingles, self.starts)

    @cached_property
    def of(self) -> Places:
        """Which conversation of the block each shingle belongs to, (shingles,)."""
        return np.arange(len(self.ids)).repeat(self.shingles)

    @cached_property
    def positions(self) -> Places:
        """Which message of its conversation each shingle stands in, (shingles,)."""
        place = np.arange(len(self.hashed.ends)) - self.starts.repeat(self.messages)
        return place.repeat(self.message_shingles)

    @cached_property
    def digests(self) -> Hashes:
        """A 64-bit hash of all words of each conversation, wherever its messages end; 0 for one without words."""
        ends = self.hashed.word_ends[self.starts + self.messages - 1]
        words, start = memoryview(self.hashed.words.tobytes()), 0
        found: list[int] = []
        for end in ends.tolist():
            digest = hashlib.blake2b(words[8 * start : 8 * end], digest_size=8).digest()
            found.append(int.from_bytes(digest, "little") if end > start else 0)
            start = end
        return np.array(found, dtype=np.uint64)

    def distinct(self, rows: NDArray[np.bool_] | None = None) -> tuple[Places, Hashes]:
        """(conversation of the block, hash) of the shingles in ``rows``, or of all, each pair once and sorted."""
        of, hashes = (self.of, self.hashed.shingles) if rows is None else (self.of[rows], self.hashed.shingles[rows])
        order = np.lexsort((hashes, of))
        of, hashes = of[order], hashes[order]
        first = np.ones(len(hashes), dtype=np.bool_)
        first[1:] = (hashes[1:] != hashes[:-1]) | (of[1:] != of[:-1])
        return of[first], hashes[first]


def hashed_blocks(name: str, stored: Normalised, what: str, only: NDArray[np.bool_] | None = None) -> Iterator[HashedBlock]:
    """The conversations that have messages, of ``only`` (conversations,) if given; ``what`` is for the log."""
    before, total = 0, stored.conversations.rows
    for block in read_blocks(stored.conversations, stored.messages):
        ordinals = np.arange(before, before + len(block.sizes))
        before += len(ordinals)
        if before // _LOG_EVERY > ordinals[0] // _LOG_EVERY:
            logger.info("%s: %s, %d of %d conversations", name, what, before, total)
        wanted = block.sizes > 0 if only is None else (block.sizes > 0) & only[ordinals]
        if wanted.any():
            kept = block.keep(wanted)
            splits = kept.heads["split"].to_numpy(zero_copy_only=False)
            sizes = kept.sizes.astype(np.int64)
            yield HashedBlock(ordinals[wanted], kept.heads["conversation_id"], splits, sizes, shingled(kept.texts))


def sketch(name: str, stored: Normalised, cache: Path) -> TableHandle:
    """The source's sketches, made now unless ``cache`` holds them; those of former states of the source are deleted."""
    made_of = [_VERSION, SKETCH_SHARE, SMALLEST_HASHES, stored.conversations.fingerprint, stored.messages.fingerprint]
    path = cache / f"{name}-{of_json(made_of)}.duckdb"
    if not path.exists():
        with write_tables(path, {"sketches": SKETCHES}) as writer:
            for block in hashed_blocks(name, stored, "sketches"):
                digests = pa.array(block.digests, mask=block.digests == 0)
                columns = [pa.repeat(name, len(block.ids)), block.ordinals, block.ids, block.splits, digests, _sample(block)]
                writer.add_batch("sketches", batch_of(SKETCHES, *columns))
        for old in cache.glob(f"{name}-*.duckdb"):
            if old != path:
                old.unlink(missing_ok=True)
    return open_table(path, "sketches")


def batch_of(schema: pa.Schema, *columns: Any) -> pa.RecordBatch:
    """Columns in the order of the schema, as one batch."""
    arrays = [pa.array(column, type=kind.type) for column, kind in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _sample(block: HashedBlock) -> pa.ListArray:
    of, hashes = block.distinct()
    place = np.arange(len(of)) - of.searchsorted(of)
    chosen = (place < SMALLEST_HASHES) | (hashes % np.uint64(SKETCH_SHARE) == 0)
    ends = of[chosen].searchsorted(np.arange(len(block.ids) + 1))
    return pa.ListArray.from_arrays(pa.array(ends, type=pa.int32()), pa.array(hashes[chosen]))


def number(connection: duckdb.DuckDBPyConnection, names: Iterable[str]) -> dict[str, int]:
    """Make a view ``keyed``: the view ``sketches`` with a column ``key``, and return the first key of each source.

    A key grows with the order of the sources in ``names`` and, in a source, with the order of its table.
    """
    first_keys = {name: rank << KEY_BITS for rank, name in enumerate(names)}
    connection.register("given_keys", pa.table({"source": list(first_keys), "first": list(first_keys.values())}))
    connection.execute("CREATE TABLE first_keys AS SELECT * FROM given_keys")
    columns = "first + ordinal AS key, sketches.*"
    connection.execute(f"CREATE VIEW keyed AS SELECT {columns} FROM sketches JOIN first_keys USING (source)")
    return first_keys


def find_candidates(connection: duckdb.DuckDBPyConnection, first_own: int) -> None:
    """Make a table ``candidates``: keys ``own`` and, before it, ``other`` of conversations of one split that may be alike.

    These share at least two hashes of their sketches, or (``same``) all words from beginning to end. For a conversation,
    the 20 that share most are kept, and of those with all words the first. Of a hash that more than 50 have, only the first
    place counts: it stands for a phrase, or for something that was posted over and over, and then the first is enough.

    Args:
        connection: with the view ``keyed`` of the sketches of all sources that come into question.
        first_own: the first key of the source that is compared, which is the last of them.
    """
    [(sketches,)] = connection.execute("SELECT count(*) FROM keyed").fetchall()
    parts = 1 + sketches // _JOINED_AT_ONCE
    connection.execute("CREATE TABLE shared (own BIGINT, other BIGINT, hashes BIGINT)")
    for part in range(parts):
        connection.execute(_SHARED.format(parts=parts, part=part, first=first_own, common=COMMON_PLACES))
        logger.info("joined %d of %d parts of %d sketches", part + 1, parts, sketches)
    connection.execute(_CANDIDATES.format(first=first_own, shared=SHARED_HASHES, most=MOST_CANDIDATES))
    connection.execute("DROP TABLE shared")


_SHARED = """
    INSERT INTO shared
    WITH slice AS (
        SELECT key, split, hash FROM (SELECT key, split, unnest(hashes) AS hash FROM keyed)
        WHERE (hash >> 32) % {parts} = {part}
    ),
    own AS (SELECT * FROM slice WHERE key >= {first}),
    spread AS (
        SELECT hash, split, count(*) AS places, min(key) AS first
        FROM slice SEMI JOIN own USING (hash, split) GROUP BY ALL HAVING count(*) > 1
    )
    SELECT own.key, slice.key, count(*)
    FROM own JOIN spread USING (hash, split) JOIN slice USING (hash, split)
    WHERE spread.places <= {common} AND slice.key < own.key GROUP BY ALL
    UNION ALL
    SELECT own.key, spread.first, count(*)
    FROM own JOIN spread USING (hash, split)
    WHERE spread.places > {common} AND spread.first < own.key GROUP BY ALL
"""
_CANDIDATES = """
    CREATE TABLE candidates AS
    WITH pairs AS (
        SELECT own, other, false AS same
        FROM (SELECT own, other, sum(hashes) AS hashes FROM shared GROUP BY ALL HAVING sum(hashes) >= {shared})
        QUALIFY row_number() OVER (PARTITION BY own ORDER BY hashes DESC, other) <= {most}
        UNION ALL
        SELECT key, first, true
        FROM keyed JOIN (
            SELECT digest, split, min(key) AS first FROM keyed WHERE digest IS NOT NULL GROUP BY ALL HAVING count(*) > 1
        ) USING (digest, split)
        WHERE key >= {first} AND first < key
    )
    SELECT own, other, bool_or(same) AS same FROM pairs GROUP BY ALL
"""
