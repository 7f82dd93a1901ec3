"""Which thread of one continuous chat a new message continues: found, decided, and kept.

A message takes seven steps. It comes in; what it names and how it stands to what was said is read off its words; the store
finds threads that it may continue; a clear case is decided by a rule; any other by the reranker; from a confidence that was
chosen on dev on it is routed or starts a thread, and below that the router asks; and the store keeps it. What a language
model then needs to answer is put together in :mod:`.context`.

Only the last step changes anything, in one transaction, so whatever is cut off can be done again: a message that the store
has already is not decided anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.calibration import Calibration, Thresholds
from thread_embed_assets.reranker.candidates import NEW_THREAD, Candidate, Floats, Thread
from thread_embed_assets.reranker.entities import signals
from thread_embed_assets.reranker.features import candidates_of
from thread_embed_assets.reranker.groups import single_group
from thread_embed_assets.reranker.rules import RULES, Case, Rule, decided_by_rule
from thread_embed_assets.reranker.store import ThreadStore

Scorer = Callable[[str, Sequence[Candidate]], Floats]
"""A message and its candidates to their scores [candidates]; the higher, the likelier."""
Embedder = Callable[[str], Floats]
"""A text to its vector."""

MOST_CANDIDATES = 20
_OPTIONS = 3  # to choose from, where the router asks


class Outcome(StrEnum):
    """What becomes of a message."""

    ROUTE = "route"
    ASK = "ask"
    NEW = "new"


@dataclass(frozen=True)
class Option:
    """A thread that a message may continue, or ``NEW_THREAD``, and how likely that is."""

    candidate_id: str
    text: str
    probability: float


@dataclass(frozen=True)
class Decision:
    """What was decided about a message.

    Attributes:
        thread_id: where the message is now; None where the router asks.
        confidence: probability that the first option is right; 1 of a rule.
        by: name of the rule, ``reranker``, or ``store`` for a message that was there already.
        options: the likeliest, best first.
    """

    outcome: Outcome
    thread_id: str | None
    confidence: float
    by: str
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class Router:
    """Routes messages to the threads of a store.

    Attributes:
        scorer: the reranker.
        embed: of the embedding model; without it threads are found by words, time and people alone.
    """

    store: ThreadStore
    scorer: Scorer
    calibration: Calibration
    thresholds: Thresholds
    embed: Embedder | None = None
    rules: Sequence[Rule] = RULES

    def route(self, message: Message, channel: str) -> Decision:
        """Decide, and keep the message unless the router asks.

        Raises:
            InputError: the message cannot be kept, such as one without a time.
        """
        kept = self.store.thread_of(message.id)
        if kept is not None:
            return Decision(Outcome.ROUTE, self.store.add(message, channel, kept), 1.0, "store")
        vector = None if self.embed is None else self.embed(message.text)
        threads = self.store.retrieve(message, channel, vector, MOST_CANDIDATES)
        decision = self.decide(message, threads)
        if decision.outcome is Outcome.ASK:
            return decision
        chosen = None if decision.outcome is Outcome.NEW else decision.options[0].candidate_id
        thread_id = self.settle(message, channel, chosen)
        return Decision(decision.outcome, thread_id, decision.confidence, decision.by, decision.options)

    def decide(self, message: Message, threads: Sequence[Thread]) -> Decision:
        """The decision alone, without a store; ``thread_id`` is None."""
        candidates = candidates_of(message, threads)
        clear = decided_by_rule(Case(message, signals(message.text), threads, candidates), self.rules)
        if clear is not None:
            chosen, rule = clear
            text = next(candidate.text for candidate in candidates if candidate.id == chosen)
            outcome = Outcome.NEW if chosen == NEW_THREAD else Outcome.ROUTE
            return Decision(outcome, None, 1.0, rule.__name__, (Option(chosen, text, 1.0),))
        scores = np.asarray(self.scorer(message.text, candidates), dtype=np.float64)
        group = single_group([candidate.id == NEW_THREAD for candidate in candidates])
        probabilities = self.calibration.probabilities(group, scores)
        decided = self.calibration.decide(group, scores)
        best = np.argsort(-probabilities, kind="stable")[:_OPTIONS]
        options = tuple(Option(candidates[i].id, candidates[i].text, float(probabilities[i])) for i in best)
        outcome = Outcome(str(self.thresholds.outcomes(decided)[0]))
        return Decision(outcome, None, float(decided.sure[0]), "reranker", options)

    def settle(self, message: Message, channel: str, thread_id: str | None) -> str:
        """Keep a message in a thread, or with None in a new one, as decided or as somebody answered; returns the thread."""
        kept = self.store.add(message, channel, thread_id)
        if self.embed is not None:
            texts = [m.text for thread in self.store.threads([kept]) for m in thread.messages]
            self.store.set_vector(kept, self.embed("\n".join(texts)))
        return kept
