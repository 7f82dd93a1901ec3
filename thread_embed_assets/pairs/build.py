"""One source's conversations to one pair table, whichever the strategy."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from thread_embed_assets.chat.formats import DEFAULT_FORMAT, FORMATS
from thread_embed_assets.chat.model import Split
from thread_embed_assets.chat.near_copies import HeldOutShingles, Marked, one_line, overlap, word_set
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import Block, StoredConversation, read_blocks
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs import response, summary, temporal, thread
from thread_embed_assets.pairs.candidates import WINDOW_SIZES, Candidate, Make
from thread_embed_assets.pairs.schema import PAIRS, Strategy
from thread_embed_assets.pairs.volume import MOST_PER_CONVERSATION, Keys, UniformSample, within_cap
from thread_embed_assets.storage.atomic import temporary_folder
from thread_embed_assets.storage.fingerprint import fraction, seed
from thread_embed_assets.storage.parallel import ordered_map
from thread_embed_assets.storage.tables import TableHandle, TableWriter, open_table, record_batch, write_tables

STRATEGIES: Mapping[Strategy, Make] = {
    Strategy.THREAD: thread.make,
    Strategy.RESPONSE: response.make,
    Strategy.TEMPORAL: temporal.make,
    Strategy.SUMMARY: summary.make,
}
# Shorter conversations make no pair, whatever is drawn: they are not even read.
FEWEST_MESSAGES: Mapping[Strategy, Callable[[Sequence[int]], int]] = {
    Strategy.THREAD: lambda sizes: sizes[0] + 1,
    Strategy.RESPONSE: lambda sizes: 2,
    Strategy.TEMPORAL: lambda sizes: 2 * sizes[0],
    Strategy.SUMMARY: lambda sizes: 2,
}
WITH_CHANNEL_NEGATIVE = frozenset({Strategy.TEMPORAL})
ANOTHER_TIME_SECONDS = 3600.0
NEAR_COPY_SIMILARITY = 0.6
_TRIES = 8
_BLOCK_MESSAGES = 8_000  # strategy C draws its negatives from the block
_INLINE_BLOCKS = 3
_LOG_EVERY = 250_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairOptions:
    """How windows are cut and written.

    Attributes:
        text_format: a name of :data:`chat.formats.FORMATS`.
        window_sizes: allowed numbers of messages in a window, ascending.
        keep_share: share of conversations that make pairs, drawn by id; 1.0 keeps all.
        most_pairs: pairs kept of the source; of more, a uniform sample drawn by id. None keeps all.
        most_per_conversation: pairs kept of a conversation, drawn by id, so that a long one does not count for many.
    """

    text_format: str = DEFAULT_FORMAT
    window_sizes: tuple[int, ...] = WINDOW_SIZES
    keep_share: float = 1.0
    most_pairs: int | None = None
    most_per_conversation: int = MOST_PER_CONVERSATION

    def __post_init__(self) -> None:
        if self.text_format not in FORMATS:
            raise InputError("text_format", f"unknown format {self.text_format!r}", f"Choose one of {', '.join(FORMATS)}")
        if not self.window_sizes or list(self.window_sizes) != [s for s in WINDOW_SIZES if s in self.window_sizes]:
            raise InputError("window_sizes", f"not ascending sizes of 3 to 8: {self.window_sizes}", "Try 3,4,5,6,7,8")


def build_pairs(
    strategy: Strategy,
    source: str,
    conversations: TableHandle,
    messages: TableHandle,
    options: PairOptions,
    path: Path,
    *,
    allowed: Container[str] = STRATEGIES,
    dropped: Container[str] = frozenset(),
    held_out: Mapping[str, HeldOutShingles] = MappingProxyType({}),
    summaries: TableHandle | None = None,
) -> TableHandle:
    """Write the pairs of one strategy and source to ``path``; train and dev conversations only.

    Every draw comes from a hash of (strategy, source, conversation id), and a negative from the conversation's own block of
    the table, so the same rows come out however many workers there are.

    Args:
        allowed: the strategies that the source can serve; the table of another one is empty.
        dropped: ids of conversations to leave out, such as those that stand in other sources, too.
        held_out: split to what other sources close to it (``chat.duplicates``): it makes no pair here either.
        summaries: what was written about the conversations (``language_models.summaries``), which strategy D pairs.
    """
    if strategy is Strategy.SUMMARY and summaries is None:
        raise InputError(f"source {source!r}", "it has no summaries to pair", "Materialise conversation_summaries first")
    with write_tables(path, {"pairs": PAIRS}) as writer, temporary_folder(path) as folder:
        if str(strategy) in allowed:
            held = _held_out(Normalised(conversations, messages), held_out, folder)
            lines = summary.Lines(summaries) if summaries is not None else None
            chosen = _chosen(source, conversations, messages, options, dropped, writer, lines)
            sample = None if options.most_pairs is None else UniformSample(writer, "pairs", options.most_pairs, folder)
            for made in ordered_map(_Maker(strategy, source, options, held), chosen, inline=_INLINE_BLOCKS):
                if sample is None:
                    writer.add_batch("pairs", made.pairs)
                else:
                    sample.add(made.pairs, made.keys)
                for name, count in made.counts.items():
                    writer.count(name, count)
            dropped_beyond = sample.finish() if sample else 0
            if dropped_beyond:
                writer.count("dropped_beyond_most_pairs", dropped_beyond)
        else:
            writer.count("strategy_not_served")
    handle = open_table(path, "pairs")
    logger.info("%s pairs of %s: %d rows, %s", strategy, source, handle.rows, dict(handle.counts))
    return handle


def _held_out(own: Normalised, elsewhere: Mapping[str, HeldOutShingles], folder: Path) -> Mapping[str, HeldOutShingles]:
    """Split to what is closed to it, saved so that all workers read one copy."""
    test, dev = (HeldOutShingles(_whole_conversations(own, split)) for split in (Split.TEST, Split.DEV))
    closed_to = {str(Split.TRAIN): test | dev, str(Split.DEV): test}
    for split, shingles in elsewhere.items():
        closed_to[split] |= shingles
    for split, shingles in closed_to.items():
        shingles.save(folder / f"closed_to_{split}.npy")
    return closed_to


def _whole_conversations(own: Normalised, split: Split) -> Iterator[str]:
    for block in read_blocks(own.conversations, own.messages, f"c.split = '{split}'"):
        texts = iter(block.texts)
        yield from (one_line(islice(texts, size)) for size in block.sizes.tolist())


def _chosen(
    source: str,
    conversations: TableHandle,
    messages: TableHandle,
    options: PairOptions,
    dropped: Container[str],
    writer: TableWriter,
    lines: summary.Lines | None,
) -> Iterator[tuple[Block, Mapping[str, tuple[str, ...]]]]:
    """Blocks of the conversations that make pairs, and what was written about them."""
    done = 0
    for block in read_blocks(conversations, messages, f"c.split <> '{Split.TEST}'", _BLOCK_MESSAGES):
        ids = block.ids
        elsewhere = np.array([name in dropped for name in ids])
        kept = np.array([fraction("keep", source, name) < options.keep_share for name in ids])
        writer.count("conversations", len(ids))
        if elsewhere.any():
            writer.count("dropped_duplicate_elsewhere", int(elsewhere.sum()))
        if (done + len(ids)) // _LOG_EVERY > done // _LOG_EVERY:
            logger.info("%s: %d conversations read", source, done + len(ids))
        done += len(ids)
        yield block.keep(kept & ~elsewhere), lines.take(ids) if lines is not None else {}
    if lines is not None:
        lines.finish()


@dataclass(frozen=True)
class _Made:
    pairs: pa.RecordBatch
    keys: Keys  # by which pairs are sampled
    counts: Counter[str]


@dataclass(eq=False)
class _Pair:
    """A pair on its way to a row."""

    conversation: StoredConversation
    number: int
    candidate: Candidate
    anchor: str
    positive: str
    draw: Random
    negative: _Pair | None = None

    @cached_property
    def words(self) -> frozenset[str]:
        """The positive's words."""
        return word_set(self.positive)


@dataclass(frozen=True)
class _Maker:
    """Makes the pairs of a block of conversations."""

    strategy: Strategy
    source: str
    options: PairOptions
    held_out: Mapping[str, HeldOutShingles]

    def __call__(self, given: tuple[Block, Mapping[str, tuple[str, ...]]]) -> _Made:
        block, lines = given
        counts: Counter[str] = Counter()
        pairs: list[_Pair] = []
        splits = np.array(block.heads["split"].to_pylist())
        long_enough = block.sizes >= FEWEST_MESSAGES[self.strategy](self.options.window_sizes)
        for split, held_out in self.held_out.items():
            made = list(self._pairs(block.keep((splits == split) & long_enough), lines, held_out, counts))
            made = self._within_conversation_cap(made, counts)
            if self.strategy in WITH_CHANNEL_NEGATIVE:
                _draw_negatives(made)
                counts["with_negative"] += sum(pair.negative is not None for pair in made)
            counts[f"{split}_pairs"] += len(made)
            pairs += made
        keys = np.array([self._key(pair) for pair in pairs], dtype=np.uint64)
        return _Made(record_batch([self._row(pair) for pair in pairs], PAIRS), keys, counts)

    def _key(self, pair: _Pair) -> int:
        return seed("pairs kept", self.strategy, self.source, pair.conversation.id, pair.number)

    def _within_conversation_cap(self, pairs: list[_Pair], counts: Counter[str]) -> list[_Pair]:
        names = [pair.conversation.id for pair in pairs]
        kept = within_cap(names, self.options.most_per_conversation, lambda place: self._key(pairs[place]))
        if len(kept) < len(pairs):
            counts["dropped_beyond_most_per_conversation"] += len(pairs) - len(kept)
        return [pairs[place] for place in kept]

    def _pairs(
        self, block: Block, lines: Mapping[str, tuple[str, ...]], held_out: HeldOutShingles, counts: Counter[str]
    ) -> Iterator[_Pair]:
        render_as, make = FORMATS[self.options.text_format], STRATEGIES[self.strategy]
        conversations = list(block)
        for conversation in conversations:
            conversation.lines = lines.get(conversation.id, ())
        held_out_lines = _held_out_lines(conversations, held_out)
        texts = [[message.text for message in conversation.messages] for conversation in conversations]
        for conversation, marked in zip(conversations, held_out.mark_each(texts), strict=True):
            render = render_as.renderer(conversation.messages)
            draw = Random(seed(self.strategy, self.source, conversation.id))
            for number, candidate in enumerate(make(conversation, self.options.window_sizes, draw)):
                anchor, positive = candidate.line or render(candidate.anchor), render(candidate.positive)
                if not anchor or not positive or anchor in positive or positive in anchor:
                    counts["dropped_one_contains_the_other"] += 1
                elif candidate.line in held_out_lines or (marked and _copies(marked, candidate)):
                    counts["dropped_near_copy_of_held_out"] += 1
                else:
                    yield _Pair(conversation, number, candidate, anchor, positive, draw)

    def _row(self, pair: _Pair) -> tuple[Any, ...]:
        conversation, candidate, negative = pair.conversation, pair.candidate, pair.negative
        messages = conversation.messages
        before = messages[candidate.anchor[-1]].time if candidate.anchor else None
        after = messages[candidate.positive[0]].time
        return (
            f"{conversation.id}#{self.strategy}{pair.number}",
            str(self.strategy),
            self.source,
            conversation.platform,
            conversation.channel,
            conversation.id,
            seed(self.source, conversation.id) >> 1,
            conversation.split,
            conversation.truth,
            self.options.text_format,
            pair.anchor,
            pair.positive,
            negative.positive if negative else None,
            negative.conversation.id if negative else None,
            [messages[i].id for i in candidate.anchor],
            [messages[i].id for i in candidate.positive],
            None if before is None or after is None else after - before,
        )


def _copies(marked: Marked, candidate: Candidate) -> bool:
    return any(marked.copies(side) for side in (candidate.anchor, candidate.positive) if side)


def _held_out_lines(conversations: Sequence[StoredConversation], held_out: HeldOutShingles) -> frozenset[str]:
    """Of the lines about the conversations, those that say what is held out."""
    lines = [line for conversation in conversations for line in conversation.lines]
    marks = held_out.mark_each([[line] for line in lines])
    return frozenset(line for line, marked in zip(lines, marks, strict=True) if marked and marked.copies((0,)))


def _draw_negatives(pairs: Sequence[_Pair]) -> None:
    """Give each pair, if one is found, the positive of another conversation of its channel, an hour or more away, that is no
    near-copy of its own."""
    by_channel: dict[str, list[_Pair]] = defaultdict(list)
    for pair in pairs:
        by_channel[pair.conversation.channel].append(pair)
    for pair in pairs:
        windows = by_channel[pair.conversation.channel]
        for _ in range(_TRIES):
            other = windows[int(pair.draw.random() * len(windows))]
            if _another_time(pair.conversation, other.conversation) and (
                overlap(other.words, pair.words) < NEAR_COPY_SIMILARITY
            ):
                pair.negative = other
                break


def _another_time(one: StoredConversation, other: StoredConversation) -> bool:
    if one.id == other.id:
        return False
    if one.start is None or one.end is None or other.start is None or other.end is None:
        return True
    return max(one.start - other.end, other.start - one.end) >= ANOTHER_TIME_SECONDS
