"""What a conversation must be to stay, and how its messages are cleaned; batch by batch, in any process."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import repeat
from operator import attrgetter
from typing import Any

import pyarrow as pa

from thread_embed_assets.chat.cleaning import clean
from thread_embed_assets.chat.language import identify
from thread_embed_assets.chat.model import CONVERSATIONS, MESSAGES, Conversation, Kind, Message, microseconds
from thread_embed_assets.chat.people import Masker
from thread_embed_assets.chat.secrets import mask_secrets
from thread_embed_assets.storage.tables import of_columns, record_batch

SHORT_WORDS = 3
MOST_SHORT_SHARE = 0.5
LANGUAGE = "en"
_MOST_ROSTERS = 64


@dataclass(frozen=True)
class Cleaned:
    """What the filters left of a batch.

    Attributes:
        conversations: rows of ``CONVERSATIONS``, their split the published one, and a digest of their texts.
        messages: their rows of ``MESSAGES``, in the same order.
        counts: what the filters did, by name.
        met: the people met, for :meth:`Masker.meet`.
    """

    conversations: pa.RecordBatch
    messages: pa.RecordBatch
    counts: Counter[str]
    met: Any


STAGED = CONVERSATIONS.append(pa.field("digest", pa.binary(16)))


@dataclass
class Filters:
    """Cleans batches of conversations, and counts what each step removed."""

    masker: Masker
    fewest_messages: int = 3
    keep_all: bool = False
    _counts: Counter[str] = field(default_factory=Counter)
    _rosters: dict[frozenset[str], frozenset[str]] = field(default_factory=dict)

    def __call__(self, batch: Iterable[Conversation]) -> Cleaned:
        self._counts = Counter()
        heads: list[tuple[Any, ...]] = []
        rows: list[list[Any]] = [[] for _ in MESSAGES]
        for conversation in self._with_known_rosters(list(batch)):
            head = self._filter(conversation)
            if head is not None:
                heads.append(head)
                for column, values in zip(rows, _columns(conversation), strict=True):
                    column.extend(values)
        met = self.masker.take_met()
        return Cleaned(record_batch(heads, STAGED), of_columns(rows, MESSAGES), self._counts, met)

    def _with_known_rosters(self, batch: list[Conversation]) -> list[Conversation]:
        """A roster that came through a pipe is a new object each time, and comparing large ones costs more than masking."""
        if len(self._rosters) > _MOST_ROSTERS:
            self._rosters.clear()
        for name in ("roster", "onlookers"):
            known = {id(names): self._rosters.setdefault(names, names) for names in map(attrgetter(name), batch)}
            for conversation in batch:
                setattr(conversation, name, known[id(getattr(conversation, name))])
        return batch

    def _filter(self, conversation: Conversation) -> tuple[Any, ...] | None:
        """The row of a conversation that is kept, its messages cleaned in place; None when a filter drops it."""
        counts = self._counts
        counts["parsed_conversations"] += 1
        counts["parsed_messages"] += len(conversation.messages)
        conversation.messages = messages = self._clean_messages(conversation)
        if len(messages) < self.fewest_messages:
            counts["dropped_too_few_messages"] += 1
            return None
        short = sum(1 for m in messages if m.text.count(" ") + 1 < SHORT_WORDS)
        if short > MOST_SHORT_SHARE * len(messages) and not self.keep_all:
            counts["dropped_mostly_short_messages"] += 1
            return None
        language, score = identify(m.text for m in messages)
        counts[f"language_{language}"] += 1
        if language != LANGUAGE and not self.keep_all:
            counts["dropped_not_english"] += 1
            return None
        c = conversation
        digest = hashlib.blake2b("\n".join(m.text for m in messages).encode(), digest_size=16).digest()
        head = (c.id, c.source, c.platform, c.channel, str(c.truth), c.published_split or "")
        span = (microseconds(c.start), microseconds(c.end))
        people = len({m.author for m in messages})
        return (*head, *span, len(messages), people, language, score, c.origin, digest)

    def _clean_messages(self, parsed: Conversation) -> list[Message]:
        kept: list[Message] = []
        mask, person, platform = self.masker.mask, self.masker.person, parsed.platform
        roster, onlookers = parsed.roster, parsed.onlookers
        for message in parsed.messages:
            if message.kind is not Kind.TEXT:
                self._counts[f"removed_{message.kind}_messages"] += 1
                continue
            text = mask(mask_secrets(clean(message.text, platform)), roster, onlookers)
            if not text:
                self._counts["removed_empty_messages"] += 1
                continue
            kept.append(Message(message.id, person(message.author), text, message.time, message.parents))
        ids = {m.id for m in kept}
        for message in kept:
            if message.parents:
                message.parents = tuple(p for p in message.parents if p in ids)
        return kept


def _columns(conversation: Conversation) -> tuple[Iterable[Any], ...]:
    """The conversation's rows of ``MESSAGES``, column by column."""
    messages = conversation.messages
    return (
        repeat(conversation.id, len(messages)),
        range(len(messages)),
        [m.id for m in messages],
        [m.author for m in messages],
        [m.text for m in messages],
        [microseconds(m.time) for m in messages],
        [m.parents for m in messages],
    )
