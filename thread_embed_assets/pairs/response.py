"""Strategy B: a question and its reply, by reply links where the source has them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from random import Random

from thread_embed_assets.chat.formats import MENTION
from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.pairs.candidates import Candidate, words

FEWEST_WORDS = 3
MOST_REPLIES = 2
MOST_REPLY_MESSAGES = 3
REACH = 5

_ASKS = re.compile(
    r"^\W*(?:who|what|when|where|why|which|how|is|are|am|was|were|do|does|did|can|could|should|would|will|has|have|any(?:one|body)?"
    r"|hi,? (?:how|what|can|does|is))\b",
    re.IGNORECASE,
)


def is_question(message: Message) -> bool:
    """Whether a message asks: a question mark outside a link, or an opening question word."""
    text = MENTION.sub("", message.text)
    return "?" in text or bool(_ASKS.match(text))


def make(conversation: StoredConversation, sizes: Sequence[int], draw: Random) -> Iterator[Candidate]:
    """Each question with at most two replies by other people; a reply goes on while its author does."""
    messages = conversation.messages
    place = {m.id: i for i, m in enumerate(messages)}
    replies: dict[int, list[int]] = defaultdict(list)
    for position, message in enumerate(messages):
        for parent in message.parents:
            replies[place[parent]].append(position)
    for position, message in enumerate(messages):
        if words(message) < FEWEST_WORDS or not is_question(message):
            continue
        linked = replies.get(position) or range(position + 1, min(position + 1 + REACH, len(messages)))
        answers = [
            i for i in linked if i > position and messages[i].author != message.author and words(messages[i]) >= FEWEST_WORDS
        ]
        for answer in answers[: MOST_REPLIES if position in replies else 1]:
            yield Candidate((position,), _run_of(messages, answer))


def _run_of(messages: Sequence[Message], start: int) -> Sequence[int]:
    """The answer and what its author sends right after it: chat breaks one sentence into several messages."""
    end = start + 1
    while end < len(messages) and end - start < MOST_REPLY_MESSAGES and messages[end].author == messages[start].author:
        end += 1
    return range(start, end)
