"""Examples from real chat: for each message whose thread is known, the threads active before it, and a new one.

A train message has its right candidate and a few wrong ones, drawn from ever nearer: ``random`` from all of the channel's
past, ``same_channel`` from the threads that were just active, ``mined`` those that a model takes for right. A new thread is
drawn as often as any other candidate: were it always among the wrong ones, a model would learn that it is wrong more often
than it is among all of them. In dev and test all threads that were just active are candidates, and a new one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message, Split, microseconds
from thread_embed_assets.reranker.candidates import EXAMPLES, NEW_THREAD, Candidate, Floats, Thread, Tier
from thread_embed_assets.reranker.features import candidates_of
from thread_embed_assets.reranker.replay import PAST, Channel, OpenThreads, Turn
from thread_embed_assets.storage.fingerprint import fraction, seed
from thread_embed_assets.storage.tables import TableHandle, TableWriter, open_table, write_tables

TABLE = "examples"
CANDIDATES = 20

_LOG_EVERY = 10_000

Scorer = Callable[[str, Sequence[Candidate]], Floats]
"""The message's text and its candidates to their scores [candidates]; the greater, the likelier."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """What is made of each message.

    Attributes:
        candidates: threads, of those active before it the latest.
        negatives: wrong candidates of a train message, in each tier.
        tiers: of train messages; ``mined`` needs a scorer.
        train_share: share of the train messages that are used, drawn by id.
        seed: of the draws.
    """

    candidates: int = CANDIDATES
    negatives: int = 3
    tiers: tuple[Tier, ...] = ("random", "same_channel")
    train_share: float = 1.0
    seed: int = 0


def write_examples(
    path: Path, channels: Iterable[Channel], sampling: Sampling | None = None, scorer: Scorer | None = None
) -> TableHandle:
    """The table ``EXAMPLES`` of these channels, in one file.

    Its counts tell, by ``ORIGIN/SPLIT``, of how many messages there are groups, how many were left out because their thread
    was not among the latest (``unreachable``: to whoever is measured on the groups these are misses, too), and how many
    because no thread was there before (``alone``).

    Args:
        channels: each is read before the next.
        scorer: picks the candidates of the ``mined`` tier.
    """
    sampling = sampling or Sampling()
    assert scorer is not None or "mined" not in sampling.tiers
    with write_tables(path, {TABLE: EXAMPLES}) as writer:
        for channel in channels:
            writer.add_all(TABLE, _Examples(channel, sampling, scorer, writer).rows())
    return open_table(path, TABLE)


def plain(message: Message) -> str:
    """What a model reads of a message; without the mentions, it may be empty."""
    return FORMATS["plain"].render([message])


@dataclass(slots=True)
class _Examples:
    """Those of one channel."""

    channel: Channel
    sampling: Sampling
    scorer: Scorer | None
    writer: TableWriter

    def rows(self) -> Iterator[tuple[Any, ...]]:
        threads = OpenThreads()
        for number, turn in enumerate(self.channel.turns, 1):
            if turn.asked and self._wanted(turn):
                yield from self._of_turn(turn, threads)
            threads.take(turn)
            if number % _LOG_EVERY == 0:
                logger.info("%s %s: %d messages", self.channel.origin, self.channel.name, number)

    def _wanted(self, turn: Turn) -> bool:
        draw = fraction(self.sampling.seed, "train", self.channel.origin, turn.message.id)
        return turn.split is not Split.TRAIN or draw < self.sampling.train_share

    def _of_turn(self, turn: Turn, threads: OpenThreads) -> Iterator[tuple[Any, ...]]:
        active = threads.active(self.sampling.candidates, turn.split)
        right = _right(turn)
        place = f"{self.channel.origin}/{turn.split}"
        if not active:
            self.writer.count(f"{place}/alone")
            return
        if right not in {NEW_THREAD, *(thread.id for thread in active)}:
            self.writer.count(f"{place}/unreachable")
            return
        self.writer.count(place)
        also_right = frozenset(turn.right[1:])
        candidates = [c for c in candidates_of(turn.message, active) if c.id not in also_right]
        known = _last_times(active)
        if turn.split is not Split.TRAIN:
            yield from self._group(turn, "same_channel", candidates, known)
            return
        possible = sum(c.id != right for c in candidates)
        for tier in self.sampling.tiers:
            draw = Random(seed(self.sampling.seed, tier, self.channel.origin, turn.message.id))
            with_new = draw.random() * possible < self.sampling.negatives
            kept = [c for c in candidates if c.id == right or (c.id == NEW_THREAD and with_new)]
            count = self.sampling.negatives + 1 - len(kept)
            if tier == "random":
                past = [thread for thread in threads.active(PAST, turn.split) if thread.id not in turn.right]
                drawn = draw.sample(past, min(count, len(past)))
                wrong = candidates_of(turn.message, drawn)[:-1]
                known |= {name: time for name, time in _last_times(drawn).items() if name != NEW_THREAD}
            else:
                wrong = [c for c in candidates if c.id not in (right, NEW_THREAD)]
                wrong = self._mined(turn, wrong, count) if tier == "mined" else draw.sample(wrong, min(count, len(wrong)))
            yield from self._group(turn, tier, [*wrong, *kept], known)

    def _mined(self, turn: Turn, wrong: Sequence[Candidate], count: int) -> list[Candidate]:
        assert self.scorer is not None
        if not wrong:
            return []
        best = np.argsort(-self.scorer(plain(turn.message), wrong), kind="stable")[:count]
        return [wrong[place] for place in best]

    def _group(
        self, turn: Turn, tier: Tier, candidates: Sequence[Candidate], known: Mapping[str, float | None]
    ) -> Iterator[tuple[Any, ...]]:
        message, (origin, domain) = turn.message, (self.channel.origin, self.channel.name)
        right = _right(turn)
        group, text, sent = f"{origin}/{message.id}/{tier}", plain(message), microseconds(message.time)
        for c in candidates:
            head = (group, c.id, str(turn.split), origin, tier, domain, "", "", text, c.text)
            yield (*head, *c.features.tolist(), int(c.id == right), sent, microseconds(known[c.id]))


def _right(turn: Turn) -> str:
    return turn.right[0] if turn.right else NEW_THREAD


def _last_times(threads: Sequence[Thread]) -> dict[str, float | None]:
    """When each thread's last message was sent; of a new thread, whose features rest on all of them, the latest of these."""
    last = {t.id: max((m.time for m in t.messages if m.time is not None), default=None) for t in threads}
    return last | {NEW_THREAD: max((time for time in last.values() if time is not None), default=None)}
