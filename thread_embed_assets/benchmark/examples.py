"""What one conversation gives to each task: a query, and the document that answers it.

Every conversation of an index is treated the same way, whether or not it also gives a query: its document is cut by
the same seeded rule, so nothing in a document's shape tells target from distractor.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from thread_embed_assets.chat.formats import FORMATS
from thread_embed_assets.chat.model import Message
from thread_embed_assets.chat.read import StoredConversation
from thread_embed_assets.storage.fingerprint import seed

MINIMUM_WORDS = 4
WINDOW = 5
_LONG_WORD = 4
_INFORMATIVE_WORDS = 3
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation's part in one task.

    Attributes:
        query: the messages of the query; empty when the conversation is in the index as a distractor only.
        document: the messages of its document.
        refusal: why there is no query (``short`` or ``verbatim``), else empty.
    """

    query: Sequence[Message]
    document: Sequence[Message]
    refusal: str = ""


def thread_examples(conversation: StoredConversation) -> tuple[Example, Example]:
    """One message as the query; as the document the thread without that message, and only what came before it.

    The message is drawn among those of at least ``MINIMUM_WORDS`` words whose text does not stand in the rest of the
    thread: from the informative ones that do not open the thread, else the others that do not open it, else the first. The
    first gives no query to the strict task, since nothing came before it.
    """
    messages = conversation.messages
    texts = [_plain([m]) for m in messages]
    draw = Random(seed("thread", conversation.source, conversation.id))
    positions = list(range(len(messages)))
    draw.shuffle(positions)
    long_enough = [i for i in positions if len(texts[i].split()) >= MINIMUM_WORDS]
    for position in sorted(long_enough, key=lambda i: (i == 0, not _informative(texts[i]))):
        rest = texts[:position] + texts[position + 1 :]
        if not stands_in(texts[position], "\n".join(rest)):
            query = [messages[position]]
            before = messages[:position] or messages[:1]
            strict = Example(query, before) if len(_plain(before).split()) >= MINIMUM_WORDS and position else None
            return Example(query, _without(messages, position)), strict or Example([], before, "short")
    removed = next((i for i in positions if i != 0), 0)
    refusal = "verbatim" if long_enough else "short"
    return Example([], _without(messages, removed), refusal), Example([], messages[:removed] or messages[:1], refusal)


def response_examples(conversation: StoredConversation) -> tuple[Example, Example]:
    """The messages before a drawn cut as the query; the window after it, and each later message, as the documents.

    Windows have at most ``WINDOW`` messages. The cut is drawn among those with at least ``MINIMUM_WORDS`` words on both
    sides and no query message repeated below. The second example's document holds the single messages of at least
    ``MINIMUM_WORDS`` words after the cut, each a document of its own; without any it has no query.
    """
    messages = conversation.messages
    texts = [_plain([m]) for m in messages]
    draw = Random(seed("response", conversation.source, conversation.id))
    cuts = list(range(1, len(messages)))
    draw.shuffle(cuts)
    refusal = "short"
    for cut in cuts:
        before, after = texts[max(0, cut - WINDOW) : cut], "\n".join(texts[cut : cut + WINDOW])
        if len(" ".join(before).split()) < MINIMUM_WORDS or len(after.split()) < MINIMUM_WORDS:
            continue
        repeatable = [text for text in [*before, "\n".join(before)] if len(text.split()) >= MINIMUM_WORDS]
        if any(stands_in(text, after) for text in repeatable):
            refusal = "verbatim"
            continue
        query, replies = messages[max(0, cut - WINDOW) : cut], _long_enough(messages, texts, cut)
        # Beyond the window after the cut, the query may be said again.
        repeated = any(stands_in(text, _plain([reply])) for reply in replies for text in repeatable)
        reply = Example([], replies, "verbatim") if repeated else Example(query, replies, "" if replies else "short")
        return Example(query, messages[cut : cut + WINDOW]), reply
    cut = cuts[0] if cuts else 0
    return Example([], messages[cut : cut + WINDOW], refusal), Example([], _long_enough(messages, texts, cut), refusal)


def _long_enough(messages: Sequence[Message], texts: Sequence[str], cut: int) -> list[Message]:
    """The messages from the cut on that say enough to be found alone."""
    return [m for m, text in zip(messages[cut:], texts[cut:], strict=True) if len(text.split()) >= MINIMUM_WORDS]


def summary_example(conversation: StoredConversation, summary: str) -> Example:
    """The summary as the query, the whole thread as the document; an empty summary makes the thread a distractor.

    The query is a message without an author, so that it goes through the same rendering.
    """
    if not summary.strip():
        return Example([], conversation.messages, "short")
    query = Message(id="", author="", text=summary.strip())
    if stands_in(_plain([query]), _plain(conversation.messages)):
        return Example([], conversation.messages, "verbatim")
    return Example([query], conversation.messages)


def word_overlap(query: Sequence[Message], document: Sequence[Message]) -> float:
    """Share of the query's distinct words that stand in the document; 0 for a query without words."""
    asked, told = (set(_WORD.findall(_plain(part).casefold())) for part in (query, document))
    return len(asked & told) / len(asked) if asked else 0.0


def stands_in(query: str, document: str) -> bool:
    """Whether the query's words stand in the document one after another, whatever the case and the spaces."""
    return " ".join(query.casefold().split()) in " ".join(document.casefold().split())


def _plain(messages: Sequence[Message]) -> str:
    return FORMATS["plain"].render(messages)


def _informative(text: str) -> bool:
    return len({w for w in text.casefold().split() if len(w) >= _LONG_WORD}) >= _INFORMATIVE_WORDS


def _without(messages: Sequence[Message], position: int) -> list[Message]:
    return [*messages[:position], *messages[position + 1 :]]
