"""From parsed conversations to the two tables that everything else reads.

Two passes, both streaming: the first cleans, masks and filters into a staging file; the second assigns splits, which need
every conversation's time, and drops from train what is too close to a held-out text.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from thread_embed_assets.chat.cleaning import clean
from thread_embed_assets.chat.language import identify
from thread_embed_assets.chat.model import CONVERSATIONS, MESSAGES, Conversation, Kind, Message, Split, microseconds
from thread_embed_assets.chat.near_copies import HeldOutShingles
from thread_embed_assets.chat.people import Masker
from thread_embed_assets.chat.read import StoredConversation, read_conversations
from thread_embed_assets.chat.splits import Assignment
from thread_embed_assets.errors import InputError
from thread_embed_assets.storage.atomic import temporary_folder
from thread_embed_assets.storage.tables import TableHandle, TableWriter, open_table, write_tables

FEWEST_MESSAGES = 3
SHORT_WORDS = 3
MOST_SHORT_SHARE = 0.5
LANGUAGE = "en"
_LOG_EVERY = 100_000

logger = logging.getLogger(__name__)


@dataclass
class Filters:
    """Cleans conversations one by one, and counts what each step removed."""

    masker: Masker
    counts: dict[str, int] = field(default_factory=dict)
    _seen: set[bytes] = field(default_factory=set)  # all that grows with the source here: about 100 bytes a conversation

    def _count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    def __call__(self, parsed: Conversation) -> tuple[Conversation, str, float] | None:
        """The cleaned conversation with its language and probability, or None when a filter drops it."""
        self._count("parsed_conversations")
        self._count("parsed_messages", len(parsed.messages))
        messages = self._clean_messages(parsed)
        if len(messages) < FEWEST_MESSAGES:
            self._count("dropped_too_few_messages")
            return None
        short = sum(1 for m in messages if m.text.count(" ") + 1 < SHORT_WORDS)
        if short > MOST_SHORT_SHARE * len(messages):
            self._count("dropped_mostly_short_messages")
            return None
        language, score = identify(m.text for m in messages)
        if language != LANGUAGE:
            self._count("dropped_not_english")
            return None
        digest = hashlib.blake2b("\n".join(m.text for m in messages).encode(), digest_size=16).digest()
        if digest in self._seen:
            self._count("dropped_duplicate")
            return None
        self._seen.add(digest)
        parsed.messages = messages
        return parsed, language, score

    def _clean_messages(self, parsed: Conversation) -> list[Message]:
        kept: list[Message] = []
        for message in parsed.messages:
            if message.kind is not Kind.TEXT:
                self._count(f"removed_{message.kind}_messages")
                continue
            text = self.masker.mask(clean(message.text, parsed.platform), parsed.roster, parsed.onlookers)
            if not text:
                self._count("removed_empty_messages")
                continue
            kept.append(Message(message.id, self.masker.person(message.author), text, message.time, message.parents))
        ids = {m.id for m in kept}
        for message in kept:
            if message.parents:
                message.parents = tuple(p for p in message.parents if p in ids)
        return kept


@dataclass(frozen=True)
class Normalised:
    """What one source became."""

    conversations: TableHandle
    messages: TableHandle

    @property
    def counts(self) -> dict[str, int]:
        return dict(self.conversations.counts)


def open_normalised(path: Path) -> Normalised:
    return Normalised(open_table(path, "conversations"), open_table(path, "messages"))


_SCHEMAS = {"conversations": CONVERSATIONS, "messages": MESSAGES}

SplitPlan = Callable[[Iterable[tuple[str, float]]], Assignment]
"""Given (channel, start time) of every kept conversation, how to assign splits."""


def normalise(parsed: Iterable[Conversation], masker: Masker, plan: SplitPlan, path: Path) -> Normalised:
    """Clean, mask, filter and split one source's conversations into the file at ``path``.

    Args:
        parsed: conversations as the source's parser yields them.
        masker: replaces the names of this source's people.
        plan: decides splits once every kept conversation's channel and time are known.

    Raises:
        InputError: nothing was parsed, or nothing was left; the counts in the message say why.
    """
    filters = Filters(masker)
    with temporary_folder(path) as folder:
        staging = folder / "staged.duckdb"
        with write_tables(staging, _SCHEMAS) as writer:
            for conversation in parsed:
                cleaned = filters(conversation)
                if filters.counts["parsed_conversations"] % _LOG_EVERY == 0:
                    logger.info("%s: %s", path.stem, filters.counts)
                if cleaned is not None:
                    _write(writer, *cleaned)
        staged = open_normalised(staging)
        if not staged.conversations.rows:
            problem = f"no conversation is left after parsing and filters ({filters.counts or 'nothing was parsed'})"
            raise InputError(path, problem, "Check that the source's files and `format` in the catalogue belong together")
        return _split(staged, plan, filters.counts, path)


def _write(writer: TableWriter, conversation: Conversation, language: str, score: float) -> None:
    stored = StoredConversation(
        conversation.id,
        conversation.source,
        conversation.platform,
        conversation.channel,
        str(conversation.truth),
        conversation.published_split or "",
        conversation.start,
        conversation.end,
        language,
        score,
        conversation.origin,
        conversation.messages,
    )
    _store(writer, stored, stored.split)


def _store(writer: TableWriter, c: StoredConversation, split: str) -> None:
    people = len({m.author for m in c.messages})
    span = (microseconds(c.start), microseconds(c.end))
    head = (c.id, c.source, c.platform, c.channel, c.truth, split)
    writer.add("conversations", (*head, *span, len(c.messages), people, c.language, c.language_score, c.origin))
    for position, m in enumerate(c.messages):
        writer.add("messages", (c.id, position, m.id, m.author, m.text, microseconds(m.time), list(m.parents)))


def _split(staged: Normalised, plan: SplitPlan, counts: dict[str, int], path: Path) -> Normalised:
    rows = staged.conversations.rows_as_dicts(["channel", "started_at"], where="started_at IS NOT NULL")
    assign = plan((row["channel"], row["started_at"].timestamp()) for row in rows)

    def with_splits() -> Iterator[tuple[StoredConversation, Split | None]]:
        for stored in read_conversations(staged.conversations, staged.messages):
            yield stored, assign(stored.id, stored.channel, stored.start, stored.end, stored.split or None)

    test, dev = HeldOutShingles(()), HeldOutShingles(())
    for stored, split in with_splits():
        if split in (Split.TEST, Split.DEV):
            (test if split is Split.TEST else dev).add(m.text for m in stored.messages)
    closed_to = {Split.TRAIN: test | dev, Split.DEV: test}
    with write_tables(path, _SCHEMAS) as writer:
        writer.counts.update(counts)
        for stored, split in with_splits():
            if split is None:
                writer.count("dropped_embargo")
            elif split in closed_to and closed_to[split].leaks_conversation([m.text for m in stored.messages]):
                writer.count("dropped_near_copy_of_held_out")
            else:
                writer.count(f"kept_{split}_conversations")
                writer.count("kept_conversations")
                writer.count("kept_messages", len(stored.messages))
                _store(writer, stored, split)
        logger.info("%s: %s", path.stem, writer.counts)
    return open_normalised(path)
