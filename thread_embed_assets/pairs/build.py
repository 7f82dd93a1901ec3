"""One source's conversations to one pair table, whichever the strategy."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from thread_embed_assets.chat.formats import DEFAULT_FORMAT, FORMATS
from thread_embed_assets.chat.near_copies import MESSAGE_THRESHOLD, HeldOutShingles, contained, overlap, word_set
from thread_embed_assets.chat.read import StoredConversation, read_conversations, read_texts
from thread_embed_assets.errors import InputError
from thread_embed_assets.pairs import response, temporal, thread
from thread_embed_assets.pairs.candidates import WINDOW_SIZES, Make
from thread_embed_assets.pairs.schema import PAIRS, Strategy
from thread_embed_assets.storage.fingerprint import fraction, seed
from thread_embed_assets.storage.tables import TableHandle, TableWriter, open_table, write_tables

STRATEGIES: Mapping[Strategy, Make] = {
    Strategy.THREAD: thread.make,
    Strategy.RESPONSE: response.make,
    Strategy.TEMPORAL: temporal.make,
}
WITH_CHANNEL_NEGATIVE = frozenset({Strategy.TEMPORAL})
ANOTHER_TIME_SECONDS = 3600.0
NEAR_COPY_SIMILARITY = 0.6
_RECENT_WINDOWS = 64
_TRIES = 8
_LOG_EVERY = 250_000

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PairOptions:
    """How windows are cut and written.

    Attributes:
        text_format: a name of :data:`chat.formats.FORMATS`.
        window_sizes: allowed numbers of messages in a window, ascending.
        keep_share: share of conversations that make pairs, drawn by id; 1.0 keeps all.
    """

    text_format: str = DEFAULT_FORMAT
    window_sizes: tuple[int, ...] = WINDOW_SIZES
    keep_share: float = 1.0

    def __post_init__(self) -> None:
        if self.text_format not in FORMATS:
            raise InputError("text_format", f"unknown format {self.text_format!r}", f"Choose one of {', '.join(FORMATS)}")
        if not self.window_sizes or list(self.window_sizes) != [s for s in WINDOW_SIZES if s in self.window_sizes]:
            raise InputError("window_sizes", f"not ascending sizes of 3 to 8: {self.window_sizes}", "Try 3,4,5,6,7,8")


@dataclass(slots=True)
class _Window:
    conversation: str
    end: float | None
    text: str
    words: frozenset[str]


class _ChannelMemory:
    """Recent windows of the channel being read, as negatives for the conversations that come after them."""

    def __init__(self) -> None:
        self._channel = ""
        self._windows: deque[_Window] = deque(maxlen=_RECENT_WINDOWS)

    def enter(self, channel: str) -> None:
        if channel != self._channel:
            self._channel = channel
            self._windows.clear()

    def add(self, window: _Window) -> None:
        self._windows.append(window)

    def draw(self, conversation: StoredConversation, positive: frozenset[str], draw: Random) -> _Window | None:
        """A window of another conversation, an hour or more away, that is no near-copy of the positive (its words)."""
        for _ in range(_TRIES if self._windows else 0):
            window = self._windows[int(draw.random() * len(self._windows))]
            if window.conversation == conversation.id:
                continue
            near = None not in (window.end, conversation.start) and (
                conversation.start - window.end < ANOTHER_TIME_SECONDS  # type: ignore[operator]
            )
            if not near and overlap(window.words, positive) < NEAR_COPY_SIMILARITY:
                return window
        return None


def build_pairs(
    strategy: Strategy, source: str, conversations: TableHandle, messages: TableHandle, options: PairOptions, path: Path
) -> TableHandle:
    """Write the pairs of one strategy and source to ``path``; train and dev conversations only.

    Every draw comes from a hash of (strategy, source, conversation id), so the same rows come out in any order of work.
    """
    test = HeldOutShingles(read_texts(conversations, messages, "c.split = 'test'"))
    held_out = {"train": test | HeldOutShingles(read_texts(conversations, messages, "c.split = 'dev'")), "dev": test}
    memory = _ChannelMemory()
    with write_tables(path, {"pairs": PAIRS}) as writer:
        for conversation in read_conversations(conversations, messages, "c.split <> 'test'"):
            writer.count("conversations")
            if fraction("keep", source, conversation.id) < options.keep_share:
                memory.enter(f"{conversation.split}\0{conversation.channel}")
                _pairs_of(conversation, strategy, options, held_out[conversation.split], memory, writer)
    handle = open_table(path, "pairs")
    logger.info("%s pairs of %s: %d rows, %s", strategy, source, handle.rows, dict(handle.counts))
    return handle


def _pairs_of(
    conversation: StoredConversation,
    strategy: Strategy,
    options: PairOptions,
    held_out: HeldOutShingles,
    memory: _ChannelMemory,
    writer: TableWriter,
) -> None:
    messages = conversation.messages
    source = conversation.source
    draw = Random(seed(strategy, source, conversation.id))
    label = seed(source, conversation.id) >> 1
    render = FORMATS[options.text_format].renderer(messages)
    hits = held_out.hits_of_each([m.text for m in messages]) if len(held_out) else []
    any_hits = any(count for count, _ in hits)
    fresh: list[_Window] = []

    def copied(positions: Sequence[int]) -> bool:
        if not any_hits:
            return False
        return contained(sum(hits[i][0] for i in positions), sum(hits[i][1] for i in positions)) >= MESSAGE_THRESHOLD

    for number, candidate in enumerate(STRATEGIES[strategy](conversation, options.window_sizes, draw)):
        anchor = render(candidate.anchor)
        positive = render(candidate.positive)
        if not anchor or not positive or anchor in positive or positive in anchor:
            writer.count("dropped_one_contains_the_other")
            continue
        if copied(candidate.anchor) or copied(candidate.positive):
            writer.count("dropped_near_copy_of_held_out")
            continue
        negative = None
        if strategy in WITH_CHANNEL_NEGATIVE:
            said = word_set(positive)
            negative = memory.draw(conversation, said, draw)
            fresh.append(_Window(conversation.id, conversation.end, positive, said))
            writer.count("with_negative", negative is not None)
        before, after = messages[candidate.anchor[-1]].time, messages[candidate.positive[0]].time
        writer.count(f"{conversation.split}_pairs")
        writer.add(
            "pairs",
            (
                f"{conversation.id}#{strategy}{number}",
                str(strategy),
                source,
                conversation.platform,
                conversation.channel,
                conversation.id,
                label,
                conversation.split,
                conversation.truth,
                options.text_format,
                anchor,
                positive,
                negative.text if negative else None,
                negative.conversation if negative else None,
                [messages[i].id for i in candidate.anchor],
                [messages[i].id for i in candidate.positive],
                None if before is None or after is None else after - before,
            ),
        )
    for window in fresh:
        memory.add(window)
