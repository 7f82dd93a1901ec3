"""What a pair strategy is: a function from one conversation to candidate pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.read import StoredConversation

WINDOW_SIZES = (3, 4, 5, 6, 7, 8)
WINDOWS: Mapping[str, tuple[int, ...]] = MappingProxyType({"3": (3,), "5": (5,), "8": (8,), "random": WINDOW_SIZES})
"""The declared choices: windows of one size, or each of a size drawn from 3 to 8."""
DEFAULT_WINDOWS = "random"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Positions of the anchor's and the positive's messages in one conversation; disjoint, ascending.

    Attributes:
        line: the anchor, where it is no messages but a line about the conversation.
    """

    anchor: Sequence[int]
    positive: Sequence[int]
    line: str = ""


Make = Callable[[StoredConversation, Sequence[int], Random], Iterator[Candidate]]
"""(conversation, allowed window sizes, the conversation's own generator) to candidates."""


def words(message: Message) -> int:
    return message.text.count(" ") + 1
