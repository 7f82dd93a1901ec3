"""Hard negatives for the anchors of all strategies: same channel, and BM25.

Candidates are the positives of other conversations. One never comes from the anchor's own conversation, and never is a
near-copy of the anchor or of its positive: a near-copy is an unlabelled positive, not a negative. A text that stands in
several conversations is no candidate at all.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from thread_embed_assets.chat.near_copies import overlap, word_set
from thread_embed_assets.pairs.build import NEAR_COPY_SIMILARITY
from thread_embed_assets.pairs.schema import HARD_NEGATIVES
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import TableHandle, TableWriter, connect_read_only, open_table, write_tables

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HardNegativeOptions:
    """What is mined for each anchor.

    Attributes:
        per_anchor: negatives of each kind kept per anchor.
        retrieved: BM25 candidates looked at per anchor.
        neighbours: how many windows up and down the channel a same-channel negative may lie.
        block_documents: documents indexed at once; it bounds memory (some 400 MiB for 100,000 windows). Larger sources are
            mined in blocks of conversations drawn by hash: an anchor meets the documents of its own block, so time grows in
            proportion to the anchors.
    """

    per_anchor: int = 1
    retrieved: int = 24
    neighbours: int = 40
    block_documents: int = 100_000


@dataclass(frozen=True, slots=True)
class _Document:
    text: str
    conversation: str
    channel: str


def mine(pairs: Sequence[TableHandle], options: HardNegativeOptions, path: Path) -> TableHandle:
    """Write the ``hard_negatives`` table of one source for its train pairs of all strategies."""
    with write_tables(path, {"hard_negatives": HARD_NEGATIVES}) as writer:
        with connect_read_only(pairs) as connection:
            query = "SELECT count(DISTINCT positive) FROM pairs WHERE split = 'train'"
            documents = int(connection.execute(query).fetchall()[0][0])
        blocks = -(-documents // options.block_documents)
        writer.count("documents", documents)
        for block in range(blocks):
            logger.info("hard negatives: block %d of %d, %d documents in all", block + 1, blocks, documents)
            _mine_block(pairs, f"md5_number_lower(conversation_id) % {blocks} = {block}", options, writer)
    return open_table(path, "hard_negatives")


def _mine_block(pairs: Sequence[TableHandle], where: str, options: HardNegativeOptions, writer: TableWriter) -> None:
    with connect_read_only(pairs) as connection:
        documents = [
            _Document(*row)
            for row in connection.execute(
                "SELECT positive, min(conversation_id), min(channel) FROM pairs "
                f"WHERE split = 'train' AND {where} GROUP BY positive "
                "HAVING count(DISTINCT conversation_id) = 1 ORDER BY 3, 2, 1"
            ).fetchall()
        ]
    if not documents:
        return
    by_channel: dict[str, list[int]] = defaultdict(list)
    for number, document in enumerate(documents):
        by_channel[document.channel].append(number)
    search = _Bm25(documents)
    for rows in _anchors(pairs, where):
        for row, hits in zip(rows, search.top([r["anchor"] for r in rows], options.retrieved), strict=True):
            writer.count("anchors")
            near = _same_channel(row, documents, by_channel[row["channel"]], options.neighbours)
            _keep(row, "same_channel", ((documents[i], None) for i in near), options, writer)
            _keep(row, "bm25", ((documents[i], score) for i, score in hits), options, writer)


def _anchors(pairs: Sequence[TableHandle], where: str) -> Iterator[list[dict[str, Any]]]:
    columns = ["pair_id", "strategy", "source", "channel", "conversation_id", "anchor", "positive"]
    for handle in pairs:
        for batch in handle.scan(columns, f"split = 'train' AND {where}", batch_rows=4_096):
            yield batch.to_pylist()


def _same_channel(row: dict[str, Any], documents: list[_Document], channel: list[int], reach: int) -> list[int]:
    """Documents of the anchor's channel near its own conversation, in seeded random order."""
    here = bisect_left(channel, row["conversation_id"], key=lambda i: documents[i].conversation)
    around = channel[max(0, here - reach) : here + reach]
    Random(seed("same_channel", row["pair_id"])).shuffle(around)
    return around


def _keep(
    row: dict[str, Any],
    kind: str,
    candidates: Iterator[tuple[_Document, float | None]],
    options: HardNegativeOptions,
    writer: TableWriter,
) -> None:
    rank = 0
    own = word_set(row["positive"]), word_set(row["anchor"])
    for document, score in candidates:
        if document.conversation == row["conversation_id"]:
            writer.count(f"{kind}_rejected_same_conversation")
            continue
        said = word_set(document.text)
        if any(overlap(said, words) >= NEAR_COPY_SIMILARITY for words in own):
            writer.count(f"{kind}_rejected_near_copy")
            continue
        rank += 1
        head = (row["pair_id"], row["strategy"], row["source"], row["conversation_id"])
        writer.add("hard_negatives", (*head, kind, rank, score, document.text, document.conversation))
        writer.count(f"{kind}_negatives")
        if rank == options.per_anchor:
            return
    writer.count(f"{kind}_anchors_short")


class _Bm25:
    """BM25 (Lù 2024, arXiv 2407.03618) over one block of documents."""

    def __init__(self, documents: Sequence[_Document]) -> None:
        import bm25s

        self._tokenize = bm25s.tokenize
        self._size = len(documents)
        tokens = bm25s.tokenize([d.text for d in documents], stopwords="en", show_progress=False)
        self._index = bm25s.BM25() if any(tokens.ids) else None  # documents of stop words alone cannot be indexed
        if self._index is not None:
            self._index.index(tokens, show_progress=False)

    def top(self, queries: list[str], count: int) -> Iterator[list[tuple[int, float]]]:
        """For each query up to ``count`` (document number, score), best first, scores above 0 only."""
        if self._index is None:
            yield from ([] for _ in queries)
            return
        tokens = self._tokenize(queries, stopwords="en", show_progress=False, return_ids=False)
        found, scores = self._index.retrieve(tokens, k=min(count, self._size), show_progress=False)
        for numbers, values in zip(found, scores, strict=True):
            yield [(int(i), float(s)) for i, s in zip(numbers, values, strict=True) if s > 0]
