"""Strategy A: two pieces of the same thread.

Window to window teaches that a thread stays one thread when its topic drifts. Message to window is what a search or a router
does: one message, and the rest of the talk around it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.chat.windows import cut
from thread_embed_assets.pairs.candidates import Candidate, words

FEWEST_ANCHOR_WORDS = 4
MESSAGES_PER_ANCHOR = 3


def make(conversation: StoredConversation, sizes: Sequence[int], draw: Random) -> Iterator[Candidate]:
    """Non-overlapping windows against each other, and single messages against the window around them."""
    count = len(conversation.messages)
    windows = cut(count, sizes, draw)
    for number, window in enumerate(windows):
        if len(windows) > 1:
            other = (number + 1 + int(draw.random() * (len(windows) - 1))) % len(windows)
            yield Candidate(window, windows[other])
    if count <= sizes[0]:
        return
    telling = [i for i, m in enumerate(conversation.messages) if words(m) >= FEWEST_ANCHOR_WORDS]
    draw.shuffle(telling)
    for position in telling[: max(1, count // MESSAGES_PER_ANCHOR)]:
        size = min(count - 1, sizes[int(draw.random() * len(sizes))])
        start = min(max(0, position - int(draw.random() * (size + 1))), count - 1 - size)
        around = [i for i in range(start, start + size + 1) if i != position]
        yield Candidate((position,), around[:size])
