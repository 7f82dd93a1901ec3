"""Conversations that stand elsewhere in the corpus, in their own source or another: whole, nearly, or in a quotation.

With what is held out anywhere each conversation is compared completely, in memory. To compare what trains with all else that
trains, sketches are joined out of core, and what they find is compared shingle by shingle. So near copies are nearly always
found; of quotations between train conversations, which change nothing, mostly the long ones are.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.near_copies import (
    CONVERSATION_THRESHOLD,
    FEWEST_SHINGLES,
    MESSAGE_THRESHOLD,
    Hashes,
    HeldOutShingles,
    Places,
)
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.sketches import KEY_BITS, HashedBlock, batch_of, find_candidates, hashed_blocks, number, sketch
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.columns import described
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import (
    BATCH_ROWS,
    TableHandle,
    TableWriter,
    connect_read_only,
    open_table,
    write_tables,
)


class Duplicate(StrEnum):
    """How a conversation stands elsewhere; case, punctuation, labels and mentions aside.

    ``EXACT``: all its words from beginning to end. ``NEAR``: at least half of its shingles. ``QUOTED``: at least 80 % of the
    shingles of one of its messages. Below 4 shingles there is no telling, but for ``EXACT``.
    """

    EXACT = "exact"
    NEAR = "near"
    QUOTED = "quoted"


DUPLICATES = described(
    [
        ("conversation_id", pa.string(), "the conversation of this source"),
        ("kind", pa.string(), "exact, near (half of its word 5-grams) or quoted (most of a message)"),
        ("of_source", pa.string(), "where the other one stands"),
        ("of_conversation_id", pa.string(), "the other conversation"),
        ("of_split", pa.string(), "the other one's split"),
        ("containment", pa.float32(), "share of its word 5-grams that the other one has; of the message's where quoted"),
        ("dropped", pa.bool_(), "whether the conversation is left out of training for it"),
    ]
)

HELD_OUT_SHINGLES = described(
    [
        ("closed_to", pa.string(), "train or dev: the split of this source that may not hold them"),
        ("hash", pa.uint64(), "of five words in a row that some source holds out"),
    ]
)

_HELD_OUT_SPLITS = (str(Split.TEST), str(Split.DEV))
_PLACES_OF_A_SHINGLE = 16
_MEMORY = "768MB"
_SCRATCH = {
    "closed": HELD_OUT_SHINGLES,
    "held_out": pa.schema(
        [
            ("key", pa.int64()),
            ("source", pa.string()),
            ("conversation_id", pa.string()),
            ("split", pa.string()),
            ("digest", pa.uint64()),
        ]
    ),
    "flagged": pa.schema(
        [
            ("own", pa.int64()),
            ("split", pa.string()),
            ("kind", pa.string()),
            ("containment", pa.float32()),
            ("position", pa.int64()),
            ("digest", pa.uint64()),
        ]
    ),
    "own_shingles": pa.schema([("own", pa.int64()), ("position", pa.int64()), ("hash", pa.uint64())]),
    "other_shingles": pa.schema([("other", pa.int64()), ("hash", pa.uint64())]),
    "leaking": pa.schema([("other", pa.int64())]),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HashedIds:
    """A set of ids at 8 bytes each; a strange id is taken for one of n with a chance of n in 2^64."""

    hashes: Hashes

    def __contains__(self, name: object) -> bool:
        wanted = np.uint64(seed(name))
        place = int(self.hashes.searchsorted(wanted))
        return place < len(self.hashes) and bool(self.hashes[place] == wanted)

    def __len__(self) -> int:
        return len(self.hashes)


def dropped_ids(duplicates: TableHandle) -> Container[str]:
    """The ids of the conversations that are neither trained on nor tuned on."""
    batches = duplicates.scan(["conversation_id"], where="dropped")
    hashes = [np.array([seed(name) for name in batch.column(0).to_pylist()], dtype=np.uint64) for batch in batches]
    return HashedIds(np.unique(np.concatenate([np.empty(0, dtype=np.uint64), *hashes])))


def held_out_shingles(duplicates: TableHandle) -> dict[str, HeldOutShingles]:
    """Split to those shingles of the source's own conversations that are closed to it, since some source holds them out."""
    found = {str(split): HeldOutShingles() for split in (Split.TRAIN, Split.DEV)}
    table = open_table(duplicates.path, "held_out_shingles")
    for split, shingles in found.items():
        for batch in table.scan(["hash"], where=f"closed_to = '{split}'"):
            shingles.add_hashes(batch.column(0).to_numpy())
    return found


def find_duplicates(
    source: str, own: Normalised, others: Mapping[str, Normalised], order: Sequence[str], path: Path, cache: Path
) -> TableHandle:
    """Write the tables ``duplicates`` and ``held_out_shingles`` of one source, compared with itself and with all others.

    Dropped are: a train conversation that is a duplicate, of whatever kind, of a test or dev conversation of any source; a
    dev conversation that is one of a test conversation; and a train conversation that is an exact or near duplicate of a
    train conversation that comes before it, unless that one is itself a duplicate of what is held out. Test never is.

    Of what is held out, the conversation that has most of this one is named, and ``containment`` is the share of this one
    (of the message, if quoted) that stands in any. Otherwise ``containment`` is the share that stands in the named one.
    Pairs in one split are listed under the one that comes later.

    Args:
        order: all sources; a conversation comes before another by its source's place here, then by its place in the table.
        path: where the table is written.
        cache: folder of the sketches, which are made once for each state of a source.

    Raises:
        InputError: ``order`` lacks a source.
    """
    stored = {source: own, **others}
    if missing := sorted(set(stored) - set(order)):
        raise InputError("order of the sources", f"it lacks {', '.join(missing)}", "Name every source in it")
    names = [name for name in order if name in stored]
    sketches = [sketch(name, stored[name], cache) for name in names[: names.index(source) + 1]]
    with connect_read_only(sketches, _MEMORY) as connection:
        search = _Search.of(source, {name: stored[name] for name in names}, connection)
        find_candidates(connection, search.first_keys[source])
        held_out = search.hold_out()
        search.compare_own(held_out)
        search.find_again(held_out)
        return search.write(path)


@dataclass(frozen=True)
class _Judged:
    """What of each conversation of a block is held out; each (conversations,).

    Attributes:
        kinds: '' where nothing that counts is.
        containment: of the whole or, if quoted, of the message at ``positions``.
    """

    kinds: NDArray[np.str_]
    containment: NDArray[np.float32]
    positions: Places


@dataclass(frozen=True)
class _Closed:
    """What one split may hold no copy of."""

    shingles: HeldOutShingles
    digests: HeldOutShingles

    def judge(self, block: HashedBlock) -> _Judged:
        hits = np.diff(self.shingles.found(block.hashed.shingles).nonzero()[0].searchsorted(block.hashed.ends), prepend=0)
        of_messages = _shares(hits, block.message_shingles)
        best = np.maximum.reduceat(of_messages, block.starts)
        whole = _shares(np.add.reduceat(hits, block.starts), block.shingles)
        exact, near, quoted = (
            self.digests.found(block.digests),
            whole >= CONVERSATION_THRESHOLD,
            best >= MESSAGE_THRESHOLD,
        )
        kinds = np.select([exact, near, quoted], [str(kind) for kind in Duplicate], "")
        places_of_best = (of_messages == best.repeat(block.messages)).nonzero()[0]
        positions = places_of_best[places_of_best.searchsorted(block.starts)] - block.starts
        return _Judged(kinds, np.select([exact, near], [1.0, whole], best).astype(np.float32), positions)


def _shares(hits: Places, totals: Places) -> NDArray[np.float64]:
    """:func:`contained` of many."""
    shares: NDArray[np.float64] = np.where(totals >= FEWEST_SHINGLES, hits / np.maximum(totals, 1), 0.0)
    return shares


@dataclass(frozen=True)
class _Search:
    """One source's search, step by step; what the steps find lies in tables of ``connection``, which go to disk when large.

    Attributes:
        stored: all sources in their order.
        held_out: for each source, which of its conversations are held out, (conversations,).
        first_keys: the key of each source's first conversation.
    """

    source: str
    stored: Mapping[str, Normalised]
    held_out: Mapping[str, NDArray[np.bool_]]
    first_keys: Mapping[str, int]
    connection: duckdb.DuckDBPyConnection
    scratch: TableWriter

    @classmethod
    def of(cls, source: str, stored: Mapping[str, Normalised], connection: duckdb.DuckDBPyConnection) -> _Search:
        held_out = {name: _held_out_of(normalised) for name, normalised in stored.items()}
        return cls(source, stored, held_out, number(connection, stored), connection, TableWriter(connection, _SCRATCH))

    def _blocks(self, name: str, what: str, only: NDArray[np.bool_] | None = None) -> Iterator[tuple[Places, HashedBlock]]:
        """Blocks of a source with the keys of their conversations."""
        if only is None or only.any():
            for block in hashed_blocks(name, self.stored[name], what, only):
                yield self.first_keys[name] + block.ordinals, block

    def _add(self, table: str, *columns: Any) -> None:
        if len(columns[0]):
            self.scratch.add_batch(table, batch_of(_SCRATCH[table], *columns))

    def _in_candidates(self, column: str, name: str) -> NDArray[np.bool_]:
        """Which conversations of a source stand in that column of the candidates, (conversations,)."""
        first = self.first_keys[name]
        found = np.zeros(self.stored[name].conversations.rows, dtype=np.bool_)
        query = f"SELECT {column} FROM candidates WHERE {column} >> {KEY_BITS} = {first >> KEY_BITS}"
        for batch in self.connection.sql(query).to_arrow_reader(BATCH_ROWS):
            found[batch.column(0).to_numpy() - first] = True
        return found

    def hold_out(self) -> Mapping[str, _Closed]:
        """What all sources hold out, by the split that is closed to it; and table ``held_out``."""
        shingles = {split: HeldOutShingles() for split in _HELD_OUT_SPLITS}
        digests = {split: HeldOutShingles() for split in _HELD_OUT_SPLITS}
        for name, only in self.held_out.items():
            for keys, block in self._blocks(name, "held-out texts", only):
                self._add("held_out", keys, pa.repeat(name, len(keys)), block.ids, block.splits, block.digests)
                for split in _HELD_OUT_SPLITS:
                    here = block.splits == split
                    shingles[split].add_hashes(block.hashed.shingles[here[block.of]])
                    digests[split].add_hashes(block.digests[here & (block.digests != 0)])
        self.scratch.flush("held_out")
        test, dev = _HELD_OUT_SPLITS
        return {
            str(Split.TRAIN): _Closed(shingles[test] | shingles[dev], digests[test] | digests[dev]),
            str(Split.DEV): _Closed(shingles[test], digests[test]),
        }

    def compare_own(self, closed: Mapping[str, _Closed]) -> None:
        """Tables ``flagged``, the conversations that are duplicates of what is held out, ``own_shingles``, all shingles of
        these and of the candidates, and ``closed``, all shingles that are held out."""
        candidates = self._in_candidates("own", self.source)
        for keys, block in self._blocks(self.source, "compared with what is held out"):
            keep = candidates[block.ordinals]
            for split, what in closed.items():
                of_split = block.splits == split
                if not of_split.any():
                    continue
                said = block.hashed.shingles[of_split[block.of]]
                held_out = np.unique(said[what.shingles.found(said)])
                self._add("closed", [split] * len(held_out), held_out)
                judged = what.judge(block)
                here = of_split & (judged.kinds != "")
                kinds, shares = judged.kinds[here], judged.containment[here]
                positions = pa.array(judged.positions[here], mask=kinds != Duplicate.QUOTED)
                self._add("flagged", keys[here], block.splits[here], kinds, shares, positions, block.digests[here])
                keep |= here
            kept = keep[block.of]
            self._add("own_shingles", keys[block.of[kept]], block.positions[kept], block.hashed.shingles[kept])
        self.scratch.flush("flagged")
        self.scratch.flush("own_shingles")
        self.scratch.flush("closed")

    def find_again(self, closed: Mapping[str, _Closed]) -> None:
        """Tables ``other_shingles``, the shingles of the candidates' others, and those of held-out conversations that stand
        in flagged ones; and ``leaking``, train conversations among these others that are duplicates of what is held out."""
        sought = HeldOutShingles()
        query = "SELECT hash FROM own_shingles SEMI JOIN flagged USING (own)"
        for batch in self.connection.sql(query).to_arrow_reader(BATCH_ROWS):
            sought.add_hashes(batch.column(0).to_numpy())
        for name, held_out in self.held_out.items():
            candidates = self._in_candidates("other", name)
            for keys, block in self._blocks(name, "compared", candidates | held_out if len(sought) else candidates):
                others = candidates[block.ordinals]
                of, hashes = block.distinct(others[block.of] | sought.found(block.hashed.shingles))
                self._add("other_shingles", keys[of], hashes)
                train = block.splits == Split.TRAIN
                if train.any():
                    self._add("leaking", keys[train & (closed[Split.TRAIN].judge(block).kinds != "")])
        self.scratch.flush("other_shingles")
        self.scratch.flush("leaking")

    def write(self, path: Path) -> TableHandle:
        self.connection.execute(_OF_HELD_OUT.format(places=_PLACES_OF_A_SHINGLE))
        shares = {"fewest": FEWEST_SHINGLES, "near": CONVERSATION_THRESHOLD, "quoted": MESSAGE_THRESHOLD}
        self.connection.execute(_OF_ONE_SPLIT.format(**shares))
        self.connection.execute("CREATE TABLE found AS SELECT * FROM of_held_out UNION ALL SELECT * FROM of_one_split")
        schemas = {"duplicates": DUPLICATES, "held_out_shingles": HELD_OUT_SHINGLES}
        with write_tables(path, schemas) as writer:
            for name, query in zip(schemas, (_NAMED, _CLOSED), strict=True):
                for batch in self.connection.sql(query).to_arrow_reader(BATCH_ROWS):
                    writer.add_batch(name, batch)
            writer.count("conversations", self.stored[self.source].conversations.rows)
            for name, count in self.connection.execute(_COUNTS).fetchall():
                writer.count(name, count)
            logger.info("%s: %s", self.source, writer.counts)
        return open_table(path, "duplicates")


def _held_out_of(stored: Normalised) -> NDArray[np.bool_]:
    splits = pa.array(_HELD_OUT_SPLITS)
    found = [pc.is_in(batch.column(0), splits).to_numpy(False) for batch in stored.conversations.scan(["split"])]
    return np.concatenate([np.empty(0, dtype=np.bool_), *found])


# A shingle that is held out in many places is looked for in the first of them, else a phrase would join everything.
_OF_HELD_OUT = """
    CREATE TABLE of_held_out AS
    WITH places AS (
        SELECT other, hash, split FROM other_shingles JOIN held_out ON other = key
        QUALIFY row_number() OVER (PARTITION BY hash, split ORDER BY other) <= {places}
    ),
    shared AS (
        SELECT own, other, count(*) AS hits
        FROM flagged JOIN own_shingles AS said USING (own) JOIN places USING (hash)
        WHERE flagged.kind <> 'exact' AND said.position = coalesce(flagged.position, said.position)
          AND (flagged.split = 'train' OR places.split = 'test')
        GROUP BY ALL
    ),
    best AS (
        SELECT own, other FROM shared QUALIFY row_number() OVER (PARTITION BY own ORDER BY hits DESC, other) = 1
        UNION ALL
        SELECT own, min(key) FROM flagged JOIN held_out USING (digest)
        WHERE flagged.kind = 'exact' AND (flagged.split = 'train' OR held_out.split = 'test') GROUP BY own
    )
    SELECT own, kind, source AS of_source, conversation_id AS of_conversation_id, held_out.split AS of_split, containment,
           true AS dropped
    FROM flagged LEFT JOIN best USING (own) LEFT JOIN held_out ON key = other
"""
_OF_ONE_SPLIT = """
    CREATE TABLE of_one_split AS
    WITH said AS (SELECT own, position, count(*) AS shingles FROM own_shingles GROUP BY ALL),
    whole AS (SELECT own, sum(shingles) AS shingles FROM said GROUP BY own),
    shared AS (
        SELECT own, other, position, count(*) AS hits
        FROM candidates JOIN own_shingles USING (own) JOIN other_shingles USING (other, hash) GROUP BY ALL
    ),
    compared AS (
        SELECT own, other, sum(hits) AS hits, max(hits / said.shingles) FILTER (said.shingles >= {fewest}) AS message
        FROM shared JOIN said USING (own, position) GROUP BY ALL
    ),
    judged AS (
        SELECT own, other,
               CASE WHEN whole.shingles >= {fewest} THEN hits / whole.shingles END AS share, message,
               CASE WHEN same THEN 'exact'
                    WHEN share >= {near} THEN 'near'
                    WHEN message >= {quoted} THEN 'quoted' END AS kind
        FROM candidates LEFT JOIN whole USING (own) LEFT JOIN compared USING (own, other)
    )
    SELECT own, kind, k.source AS of_source, k.conversation_id AS of_conversation_id, k.split AS of_split,
           (CASE kind WHEN 'exact' THEN 1 WHEN 'near' THEN share ELSE message END)::FLOAT AS containment,
           k.split = 'train' AND kind <> 'quoted' AND other NOT IN (SELECT other FROM leaking) AS dropped
    FROM judged JOIN keyed k ON k.key = other
    WHERE kind IS NOT NULL
"""
_NAMED = """
    SELECT conversation_id, kind, of_source, of_conversation_id, of_split, containment, dropped
    FROM found JOIN keyed ON key = own
    ORDER BY own, of_split = 'train', of_source, of_conversation_id
"""
_CLOSED = "SELECT DISTINCT closed_to, hash FROM closed ORDER BY ALL"
_COUNTS = """
    SELECT kind, count(*) FROM found GROUP BY ALL
    UNION ALL SELECT 'of_' || of_source, count(*) FROM found GROUP BY ALL
    UNION ALL SELECT 'dropped', count(DISTINCT own) FROM found WHERE dropped
    ORDER BY 1
"""
