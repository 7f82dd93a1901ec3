"""Checks of a conversations file; each looks at the stored data, not at what the build says it did."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from thread_embed_assets.chat.filters import LANGUAGE
from thread_embed_assets.chat.language import identify
from thread_embed_assets.chat.leaks import no_leaks
from thread_embed_assets.chat.model import CONVERSATIONS, MESSAGES
from thread_embed_assets.chat.normalise import Normalised
from thread_embed_assets.chat.read import read_conversations
from thread_embed_assets.chat.words import is_everyday_word
from thread_embed_assets.storage.fingerprint import fraction
from thread_embed_assets.storage.quality import has_schema, not_empty, unique
from thread_embed_assets.storage.tables import open_table
from thread_embed_assets.verdict import Verdict, no_faults

LOWEST_ENGLISH_SHARE = 0.95
LANGUAGE_SAMPLE = 2_000
SHORTEST_NAME = 3
_WORD = re.compile(r"[\w|`^{}\[\]\\-]+")


def non_empty(stored: Normalised) -> Verdict:
    """There are conversations and messages."""
    return not_empty(stored.conversations, stored.messages)


def schema(stored: Normalised) -> Verdict:
    """Both tables have the declared columns."""
    verdicts = has_schema(stored.conversations, CONVERSATIONS), has_schema(stored.messages, MESSAGES)
    return next((v for v in verdicts if not v.passed), verdicts[0])


def unique_ids(stored: Normalised) -> Verdict:
    """No conversation id and no message id stands twice."""
    verdicts = unique(stored.conversations, "conversation_id"), unique(stored.messages, "message_id")
    return next((v for v in verdicts if not v.passed), verdicts[1])


def language_share(stored: Normalised) -> Verdict:
    """Language identification, run again on a sample of the stored texts, finds English."""
    share = min(1.0, LANGUAGE_SAMPLE / max(1, stored.conversations.rows))
    checked = english = 0
    for conversation in read_conversations(stored.conversations, stored.messages):
        if fraction("language", conversation.id) < share:
            checked += 1
            english += identify(m.text for m in conversation.messages)[0] == LANGUAGE
    found = english / checked if checked else 0.0
    text = f"{found:.1%} of {checked} sampled conversations are English, {LOWEST_ENGLISH_SHARE:.0%} are asked for"
    return Verdict(found >= LOWEST_ENGLISH_SHARE, text, {"checked": checked, "english_share": found})


def speaker_names_gone(stored: Normalised, people: Path) -> Verdict:
    """No name of a conversation's own speakers, and of a member list nobody's, stands in the texts; everyday words may."""
    names: dict[str, set[str]] = defaultdict(set)
    for row in open_table(people, "people").rows_as_dicts():
        names[row["person_id"]].add(row["name"])
    telling = {person: {name for name in known if _tells(name)} for person, known in names.items()}
    # Who goes by several names is on a member list, or has changed nick: such names are masked wherever they stand.
    members = _Names(name for person, known in names.items() if len(known) > 1 for name in telling[person])
    faults: list[str] = []
    checked = 0
    for conversation in read_conversations(stored.conversations, stored.messages):
        authors = {m.author for m in conversation.messages}
        speakers = _Names(name for person in authors for name in telling.get(person, ()))
        if any(not re.fullmatch(r"p_[0-9a-f]{10}", person) for person in authors - telling.keys()):
            faults.append(f"a bare author in {conversation.id}")
        for message in conversation.messages:
            checked += 1
            text = message.text.casefold()
            words = _WORD.findall(text)
            if speakers.stand_in(text, words) or members.stand_in(text, words):
                faults.append(f"message {message.id}")
    return no_faults("messages that name a speaker or a member", faults, checked)


def _tells(name: str) -> bool:
    return len(name) >= SHORTEST_NAME and not is_everyday_word(name)


class _Names:
    """Case-folded names: those that are one word, and by their first words those that are more."""

    def __init__(self, names: Iterable[str]) -> None:
        self._words: set[str] = set()
        self._phrases: dict[str, list[str]] = defaultdict(list)
        for name in names:
            if _WORD.fullmatch(name):
                self._words.add(name)
            elif first := _WORD.search(name):
                self._phrases[first[0]].append(name)

    def stand_in(self, text: str, words: list[str]) -> bool:
        if not self._words.isdisjoint(words):
            return True
        phrases = (name for word in self._phrases.keys() & words for name in self._phrases[word])
        return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in phrases)


def no_private_data(stored: Normalised) -> Verdict:
    """No sampled message holds a personal or secret string: e-mail and other addresses, numbers, passwords, tokens, keys."""
    columns = (batch.columns for batch in stored.messages.scan(["message_id", "text"]))
    texts = (row for ids, texts in columns for row in zip(ids.to_pylist(), texts.to_pylist(), strict=True))
    return no_leaks(texts, stored.messages.rows)


def filter_rates(stored: Normalised, bounds: tuple[float, float]) -> Verdict:
    """The share of parsed conversations that the filters removed lies within the catalogue's bounds."""
    counts = stored.counts
    parsed, kept = counts.get("parsed_conversations", 0), counts.get("kept_conversations", 0)
    removed = 1 - kept / parsed if parsed else 1.0
    low, high = bounds
    text = f"{removed:.1%} of {parsed} parsed conversations were removed, {low:.0%} to {high:.0%} are expected"
    return Verdict(bool(parsed) and low <= removed <= high, text, {"parsed": parsed, "removed_share": removed})
