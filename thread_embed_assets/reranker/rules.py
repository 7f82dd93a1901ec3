"""Messages whose thread needs no model: each rule is sure where it speaks, and silent elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import FEATURES, NEW_THREAD, Candidate, Thread
from thread_embed_assets.reranker.entities import Signals
from thread_embed_assets.reranker.features import GOES_ON_SECONDS

_OVERLAP, _MATCHES = FEATURES.index("entity_overlap"), FEATURES.index("keyword_matches")


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
    """A short reply (``yes``, ``thanks``) within minutes of the channel's last message, which somebody else wrote."""
    if not case.signals.is_short_reply or case.message.time is None:
        return None
    for thread in case.threads:
        last = thread.messages[-1]
        if thread.turns_since == 0 and last.author != case.message.author and last.time is not None:
            return thread.id if case.message.time - last.time <= GOES_ON_SECONDS else None
    return None


def only_one_has_it(case: Case) -> str | None:
    """All that the message names is in one thread, and none of it in any other; it does not announce a new topic."""
    if case.signals.names_new_topic:
        return None
    overlaps = [float(candidate.features[_OVERLAP]) for candidate in case.candidates[: len(case.threads)]]
    named = [thread.id for thread, overlap in zip(case.threads, overlaps, strict=True) if overlap > 0]
    return named[0] if len(named) == 1 and max(overlaps) == 1 else None


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
