"""Strategy C: a window and the one that follows it; hard negative: a window of the same channel at another time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from random import Random

from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.chat.windows import cut
from thread_embed_assets.pairs.candidates import Candidate


def make(conversation: StoredConversation, sizes: Sequence[int], draw: Random) -> Iterator[Candidate]:
    """Adjacent windows, the earlier as anchor; a short thread is cut once at a drawn place."""
    count, smallest = len(conversation.messages), sizes[0]
    if 2 * smallest <= count < 2 * sizes[-1]:
        middle = smallest + int(draw.random() * (count - 2 * smallest + 1))
        first = range(max(0, middle - sizes[-1]), middle)
        yield Candidate(first, range(middle, min(count, middle + sizes[-1])))
        return
    windows = cut(count, sizes, draw)
    for first_window, second in pairwise(windows):
        yield Candidate(first_window, second)
