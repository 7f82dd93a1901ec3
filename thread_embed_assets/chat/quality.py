"""Checks of a conversations file; each looks at the stored data, not at what the build says it did."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from thread_embed_assets.chat.language import identify
from thread_embed_assets.chat.model import CONVERSATIONS, MESSAGES
from thread_embed_assets.chat.normalise import LANGUAGE, Normalised
from thread_embed_assets.chat.people import is_everyday_word
from thread_embed_assets.chat.read import read_conversations
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
    """No name of a conversation's own speakers stands in its texts, apart from names that are everyday words."""
    names: dict[str, set[str]] = defaultdict(set)
    for row in open_table(people, "people").rows_as_dicts():
        if len(row["name"]) >= SHORTEST_NAME and not is_everyday_word(row["name"]):
            names[row["person_id"]].add(row["name"])
    faults: list[str] = []
    checked = 0
    for conversation in read_conversations(stored.conversations, stored.messages):
        present = set().union(*(names[m.author] for m in conversation.messages if m.author in names))
        unknown = {m.author for m in conversation.messages} - names.keys()
        if any(not re.fullmatch(r"p_[0-9a-f]{10}", person) for person in unknown):
            faults.append(f"a bare author in {conversation.id}")
        for message in conversation.messages:
            checked += 1
            if _names_in(message.text.casefold(), present):
                faults.append(f"message {message.id}")
    return no_faults("messages that name a speaker", faults, checked)


def _names_in(text: str, names: set[str]) -> bool:
    if not names.isdisjoint(_WORD.findall(text)):
        return True
    phrases = (name for name in names if name in text and not _WORD.fullmatch(name))
    return any(re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) for name in phrases)


def filter_rates(stored: Normalised, bounds: tuple[float, float]) -> Verdict:
    """The share of parsed conversations that the filters removed lies within the catalogue's bounds."""
    counts = stored.counts
    parsed, kept = counts.get("parsed_conversations", 0), counts.get("kept_conversations", 0)
    removed = 1 - kept / parsed if parsed else 1.0
    low, high = bounds
    text = f"{removed:.1%} of {parsed} parsed conversations were removed, {low:.0%} to {high:.0%} are expected"
    return Verdict(bool(parsed) and low <= removed <= high, text, {"parsed": parsed, "removed_share": removed})
