"""What one source's pairs look like, strategy by strategy, in figures and examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thread_embed_assets.chat.near_copies import overlap, word_set
from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.storage.distribution import Distribution, distribution, distribution_of
from thread_embed_assets.storage.tables import BATCH_ROWS, TableHandle, connect_read_only

SAMPLE = 50_000
EXAMPLES = 5
TOP_CHANNELS = 10


@dataclass(frozen=True)
class PairExample:
    """A train pair with the negatives mined for it.

    Attributes:
        overlap: Jaccard similarity of the anchor's and the positive's word sets, in percent.
        gap_seconds: from the anchor's last message to the positive's first, below 0 where that comes before; None without
            times.
        negatives: kind to the first negative of that kind; ``own`` is the one that stands in the pair table.
    """

    channel: str
    anchor: str
    positive: str
    overlap: int
    gap_seconds: float | None
    negatives: Mapping[str, str]


@dataclass(frozen=True)
class PairFigures:
    """Figures of one strategy's pairs; those of texts are taken from a seeded sample of ``sampled`` pairs.

    Attributes:
        splits: train and dev to pairs.
        conversations: those that gave at least one pair.
        with_negative: pairs that carry a negative of their own.
        with_mined: mined kind of hard negative to train pairs that have one.
        channels: how many there are; ``largest_channels`` are at most ``TOP_CHANNELS``, by pairs.
        overlap_percent: Jaccard similarity of the word sets of anchor and positive.
        gap_seconds: between the anchor's last message and the positive's first, whichever comes first, of all pairs; None
            without times.
        counts: what building the pairs kept and dropped.
    """

    strategy: Strategy
    pairs: int
    splits: Mapping[str, int]
    conversations: int
    with_negative: int
    with_mined: Mapping[str, int]
    channels: int
    largest_channels: Mapping[str, int]
    gap_seconds: Distribution | None
    sampled: int
    anchor_words: Distribution | None
    positive_words: Distribution | None
    overlap_percent: Distribution | None
    counts: Mapping[str, int]
    examples: tuple[PairExample, ...]


# Uniform and the same in every run: the pairs whose hashed id is smallest.
_DRAWN = "md5_number_lower('report ' || pair_id)"
_SAMPLE = f"""
    SELECT anchor, positive FROM pairs
    WHERE {_DRAWN} <= (SELECT max(drawn) FROM (SELECT {_DRAWN} AS drawn FROM pairs ORDER BY drawn LIMIT {SAMPLE}))
"""
_WHOLE = "SELECT count(DISTINCT conversation_id), count(DISTINCT channel), count(negative) FROM pairs"
_SPLITS = "SELECT split, count(*) FROM pairs GROUP BY split ORDER BY split DESC"
_CHANNELS = f"SELECT channel, count(*) FROM pairs GROUP BY channel ORDER BY 2 DESC, 1 LIMIT {TOP_CHANNELS}"
_MINED = "SELECT kind, count(DISTINCT pair_id) FROM hard_negatives WHERE strategy = ? GROUP BY kind ORDER BY kind"
_EXAMPLES = f"""
    SELECT pair_id, channel, anchor, positive, gap_seconds, negative FROM pairs
    WHERE split = 'train' ORDER BY {_DRAWN} LIMIT {EXAMPLES}
"""
_NEGATIVES = "SELECT kind, negative FROM hard_negatives WHERE pair_id = ? AND rank = 1 ORDER BY kind"


def explore_pairs(strategy: Strategy, pairs: TableHandle, hard_negatives: TableHandle) -> PairFigures:
    """Count everything that :class:`PairFigures` holds; seconds for a million pairs, in bounded memory."""
    with connect_read_only([pairs, hard_negatives]) as connection:

        def rows(query: str, *values: str) -> list[Any]:
            return connection.execute(query, values).fetchall()

        def example(name: str, channel: str, anchor: str, positive: str, gap: float | None, own: str | None) -> PairExample:
            negatives = dict(rows(_NEGATIVES, name)) | ({"own": own} if own is not None else {})
            return PairExample(channel, anchor, positive, _overlap_percent(anchor, positive), gap, negatives)

        [(conversations, channels, with_negative)] = rows(_WHOLE)
        measured = [
            (len(anchor.split()), len(positive.split()), _overlap_percent(anchor, positive))
            for batch in connection.sql(_SAMPLE).to_arrow_reader(BATCH_ROWS)
            for anchor, positive in zip(*(column.to_pylist() for column in batch.columns), strict=True)
        ]
        anchor_words, positive_words, overlap_percent = (
            distribution_of(numbers[place] for numbers in measured) for place in range(3)
        )
        return PairFigures(
            strategy=strategy,
            pairs=pairs.rows,
            splits=dict(rows(_SPLITS)),
            conversations=conversations,
            with_negative=with_negative,
            with_mined=dict(rows(_MINED, strategy)),
            channels=channels,
            largest_channels=dict(rows(_CHANNELS)),
            gap_seconds=distribution(connection, "abs(gap_seconds)", "pairs"),
            sampled=len(measured),
            anchor_words=anchor_words,
            positive_words=positive_words,
            overlap_percent=overlap_percent,
            counts=dict(pairs.counts),
            examples=tuple(example(*row) for row in rows(_EXAMPLES)),
        )


def _overlap_percent(anchor: str, positive: str) -> int:
    return round(100 * overlap(word_set(anchor), word_set(positive)))
