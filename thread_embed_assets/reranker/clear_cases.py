"""How often the router's rules speak, and how often they are right: dev messages whose thread is known."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thread_embed_assets.chat.model import Message, Split
from thread_embed_assets.reranker.candidates import NEW_THREAD, Thread
from thread_embed_assets.reranker.entities import signals
from thread_embed_assets.reranker.features import candidates_of
from thread_embed_assets.reranker.real import CANDIDATES
from thread_embed_assets.reranker.replay import Channel, OpenThreads
from thread_embed_assets.reranker.rules import RULES, Case, Rule, decided_by_rule
from thread_embed_assets.reranker.synthetic.conversations import Chat
from thread_embed_assets.reranker.synthetic.people import PROFILES, profile
from thread_embed_assets.storage.atomic import write_text

CLEAR_CASES = "clear_cases.json"


@dataclass(frozen=True)
class Asked:
    """A message, the threads that it may continue, and the ids of those that it does; ``NEW_THREAD`` if none."""

    message: Message
    threads: Sequence[Thread]
    right: frozenset[str]


@dataclass(frozen=True)
class Spoken:
    """What a rule did.

    Attributes:
        rule: its name.
        decided: messages that it decided, as the first of the rules.
        right: of these.
        messages: that all rules were asked about.
    """

    rule: str
    decided: int
    right: int
    messages: int


def simulated(split: Split = Split.DEV) -> Iterator[Asked]:
    """The messages of the simulated users of a split."""
    for who in (profile(number, 0) for number in range(PROFILES)):
        if who.split is split:
            for turn in Chat(who).turns():
                yield Asked(turn.message, turn.threads, frozenset({turn.thread}))


def logged(channels: Iterable[Channel], split: Split = Split.DEV) -> Iterator[Asked]:
    """The messages of a split whose threads people marked, and are among the latest or new."""
    for channel in channels:
        threads = OpenThreads()
        for turn in channel.turns:
            active = threads.active(CANDIDATES, turn.split) if turn.asked and turn.split is split else []
            right = frozenset(turn.right or (NEW_THREAD,))
            if active and not right.isdisjoint({NEW_THREAD, *(thread.id for thread in active)}):
                yield Asked(turn.message, active, right)
            threads.take(turn)


def measure(asked: Iterable[Asked], rules: Sequence[Rule] = RULES) -> list[Spoken]:
    """Each rule in its turn; what one decides the next is not asked."""
    decided, right, messages = Counter[str](), Counter[str](), 0
    for one in asked:
        messages += 1
        case = Case(one.message, signals(one.message.text), one.threads, candidates_of(one.message, one.threads))
        found = decided_by_rule(case, rules)
        if found is not None:
            name = found[1].__name__
            decided[name] += 1
            right[name] += found[0] in one.right
    return [Spoken(rule.__name__, decided[rule.__name__], right[rule.__name__], messages) for rule in rules]


def write_clear_cases(found: Mapping[str, Sequence[Spoken]], path: Path) -> None:
    """As JSON, by origin."""
    write_text(path, json.dumps({origin: [asdict(one) for one in rows] for origin, rows in found.items()}, indent=1) + "\n")
