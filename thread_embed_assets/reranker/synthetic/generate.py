"""Examples from simulated users: each message with its thread and others that it might continue."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, Literal

from thread_embed_assets.chat.model import Split, microseconds
from thread_embed_assets.reranker.candidates import EXAMPLES, NEW_THREAD, Candidate
from thread_embed_assets.reranker.features import candidates_of
from thread_embed_assets.reranker.synthetic.conversations import Chat, Turn
from thread_embed_assets.reranker.synthetic.people import PROFILES, Profile, profile
from thread_embed_assets.storage.fingerprint import fraction
from thread_embed_assets.storage.fingerprint import seed as seed_of
from thread_embed_assets.storage.tables import TableHandle, open_table, write_tables

Size = Literal["quick", "full"]

TABLE = "examples"
ORIGIN = "synthetic"
CANDIDATES = 20
NEGATIVES = 3  # of a train message

_PROFILES: dict[Size, int] = {"quick": 40, "full": PROFILES}
_LEAST_THREADS = NEGATIVES
_OPENING_SHARE = 0.55  # of the messages that start a thread, so that they are one in eight
_LOG_EVERY = 50

logger = logging.getLogger(__name__)


def write_examples(path: Path, size: Size = "full", seed: int = 0) -> TableHandle:
    """The table ``EXAMPLES`` of all simulated users of a size, in one file; its counts tell groups by split and tier."""
    with write_tables(path, {TABLE: EXAMPLES}) as writer:
        for row in examples(size, seed):
            writer.add(TABLE, row)
            if row[_LABEL]:
                writer.count(f"{row[_SPLIT]}/{row[_TIER]}")
    return open_table(path, TABLE)


def examples(size: Size = "full", seed: int = 0) -> Iterator[tuple[Any, ...]]:
    """Rows of ``EXAMPLES``, user by user in time order, the candidates of a message side by side."""
    for number in range(_PROFILES[size]):
        yield from _of_profile(profile(number, seed))
        if (number + 1) % _LOG_EVERY == 0:
            logger.info("examples of %d of %d simulated users", number + 1, _PROFILES[size])


def _of_profile(who: Profile) -> Iterator[tuple[Any, ...]]:
    for turn in Chat(who).turns():
        opens = turn.thread == NEW_THREAD
        if len(turn.threads) < _LEAST_THREADS or (opens and fraction("opening", turn.message.id) >= _OPENING_SHARE):
            continue
        candidates = candidates_of(turn.message, turn.threads)
        yield from _group(who, turn, _drawn(turn, candidates) if who.split is Split.TRAIN else _all(turn, candidates))


def _all(turn: Turn, candidates: list[Candidate]) -> list[Candidate]:
    """The right one, the latest, and a new thread."""
    *threads, new = candidates
    wrong = [c for c in threads if c.id != turn.thread][: CANDIDATES - 2]
    return [c for c in threads if c.id == turn.thread] + wrong + [new]


def _drawn(turn: Turn, candidates: list[Candidate]) -> list[Candidate]:
    """The right one, and wrong ones drawn evenly.

    Were the latest threads or a new one drawn more often than others, a model would learn that these are wrong more often
    than they are among all candidates.
    """
    wrong = [c for c in candidates if c.id != turn.thread]
    draw = Random(seed_of("negatives", turn.message.id))
    return [c for c in candidates if c.id == turn.thread] + draw.sample(wrong, NEGATIVES)


def _group(who: Profile, turn: Turn, candidates: list[Candidate]) -> Iterator[tuple[Any, ...]]:
    last = {thread.id: thread.messages[-1].time or 0.0 for thread in turn.threads}
    last[NEW_THREAD] = max(last.values())
    group, sent = f"{ORIGIN}/{turn.message.id}", microseconds(turn.message.time)
    for c in candidates:
        head = (group, c.id, str(who.split), ORIGIN, turn.tier, who.domain.name, who.id, turn.wordings)
        texts = (turn.message.text, c.text)
        yield (*head, *texts, *c.features.tolist(), int(c.id == turn.thread), sent, microseconds(last[c.id]))


_LABEL, _SPLIT, _TIER = (EXAMPLES.get_field_index(name) for name in ("label", "split", "tier"))
