"""What a pair strategy is: a function from one conversation to candidate pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.read import StoredConversation

WINDOW_SIZES = (3, 4, 5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Positions of the anchor's and the positive's messages in one conversation; disjoint, ascending."""

    anchor: Sequence[int]
    positive: Sequence[int]


Make = Callable[[StoredConversation, Sequence[int], Random], Iterator[Candidate]]
"""(conversation, allowed window sizes, the conversation's own generator) to candidates."""


def words(message: Message) -> int:
    return message.text.count(" ") + 1
