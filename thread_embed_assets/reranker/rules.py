"""Messages whose thread needs no model: each rule is sure where it speaks, and silent elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thread_embed_assets.chat.formats import MENTION
from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import FEATURES, NEW_THREAD, Candidate, Thread
from thread_embed_assets.reranker.entities import Signals, rarity, signals
from thread_embed_assets.reranker.features import GOES_ON_SECONDS, shared_entities

_OVERLAP, _MATCHES = FEATURES.index("entity_overlap"), FEATURES.index("keyword_matches")
_RARE = 4.5  # rarity: zipf 2.5, some three times in ten million words


@dataclass(frozen=True)
class Case:
    """What a rule looks at.

    Attributes:
        threads: those that the message may continue.
        candidates: one for each of ``threads``, in their order, then ``NEW_THREAD``.
    """

    message: Message
    signals: Signals
    threads: Sequence[Thread]
    candidates: Sequence[Candidate]


def nothing_to_continue(case: Case) -> str | None:
    """The channel has no thread yet."""
    return None if case.threads else NEW_THREAD


def reply_mark(case: Case) -> str | None:
    """The platform says which message it answers."""
    answered = set(case.message.parents)
    found = [thread.id for thread in case.threads if any(message.id in answered for message in thread.messages)]
    return found[0] if len(found) == 1 else None


def quick_reply(case: Case) -> str | None:
    """A short reply (``yes``, ``thanks``) within minutes of the channel's last message.

    That was written by somebody else, whom alone it may mention, in a thread in which its author spoke; and no other thread
    of its author waits for an answer.
    """
    if not case.signals.is_short_reply or case.message.time is None:
        return None
    mine = [thread for thread in case.threads if case.message.author in {m.author for m in thread.messages}]
    thread = next((thread for thread in mine if thread.turns_since == 0), None)
    if thread is None:
        return None
    last = thread.messages[-1]
    if last.author == case.message.author or last.time is None or case.message.time - last.time > GOES_ON_SECONDS:
        return None
    mentioned = set(MENTION.findall(case.message.text))
    if (mentioned and last.author not in mentioned) or any(
        _waits_for(case.message.author, other) for other in mine if other is not thread
    ):
        return None
    return thread.id


def _waits_for(author: str, thread: Thread) -> bool:
    last = thread.messages[-1]
    return last.author != author and signals(last.text).is_question


def only_one_has_it(case: Case) -> str | None:
    """All that the message names is in one thread, in which its author spoke, and something of that is rare; no other thread
    has a word of it, and it announces no new topic.
    """
    if case.signals.names_new_topic:
        return None
    features = [candidate.features for candidate in case.candidates[: len(case.threads)]]
    related = [place for place, one in enumerate(features) if one[_OVERLAP] > 0 or one[_MATCHES] > 0]
    if len(related) != 1 or features[related[0]][_OVERLAP] < 1:
        return None
    thread = case.threads[related[0]]
    named = shared_entities(case.message, thread.messages)
    spoke = case.message.author in {m.author for m in thread.messages}
    return thread.id if spoke and max(map(rarity, named)) > _RARE else None


def announced(case: Case) -> str | None:
    """The message says that it is about something else, and no thread has what it names or tells of."""
    if not case.signals.names_new_topic or case.signals.refers_back:
        return None
    features = [candidate.features for candidate in case.candidates[: len(case.threads)]]
    return None if any(one[_OVERLAP] > 0 or one[_MATCHES] > 0 for one in features) else NEW_THREAD


Rule = Callable[[Case], str | None]
RULES: tuple[Rule, ...] = (nothing_to_continue, reply_mark, quick_reply, only_one_has_it, announced)


def decided_by_rule(case: Case, rules: Sequence[Rule] = RULES) -> tuple[str, Rule] | None:
    """The candidate that the first rule with an answer names, and that rule; None where all are silent."""
    return next(((found, rule) for rule in rules if (found := rule(case)) is not None), None)
