"""What the log says about a message and a thread, in five numbers; no model and nothing fitted.

All rest on what was said before the message, and of a thread only on its first message and the last ``READ - 1``, so that a
store of threads need not load more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from thread_embed_assets.chat.formats import FORMATS, MENTION
from thread_embed_assets.chat.model import Message
from thread_embed_assets.reranker.candidates import FEATURES, NEW_THREAD, Candidate, Floats, Thread
from thread_embed_assets.reranker.entities import entities, keywords, rarity, runs, signals

HALF_LIFE_HOURS = 24.0
GOES_ON_SECONDS = 300.0  # as long the same author may go on with what was said
READ = 200
TEXT_CHARACTERS = 700  # some 180 of a model's 256 tokens; the rest is the message's
NEW_THREAD_TEXT = "[new thread]"

_LONG_HOURS = 365 * 24.0
_HOURS = FEATURES.index("hours_since_active")
_HEAD_SHARE = 3  # the title, and the first line, take at most this part of a text


def candidates_of(message: Message, threads: Sequence[Thread], characters: int = TEXT_CHARACTERS) -> list[Candidate]:
    """The threads, in the order given, and ``NEW_THREAD`` last.

    Raises:
        ValueError: see :func:`structured_features`.
    """
    found = [Candidate(t.id, thread_text(t, characters), structured_features(message, t)) for t in threads]
    return [*found, Candidate(NEW_THREAD, NEW_THREAD_TEXT, new_thread_features([c.features for c in found]))]


def structured_features(message: Message, thread: Thread) -> Floats:
    """float32 [len(FEATURES)], in their order.

    * ``entity_overlap``: share of the entities of the message that the thread has, 0 without any. Entities of the message
      are those it shows by itself, and those of the thread that it writes otherwise (``aurora`` for ``Aurora``).
    * ``keyword_matches``: of the summed rarity of the message's keywords, the share of those that the thread has.
    * ``flow_continuity``: ``0.5 ** turns_since``, halved unless the message fits the thread's last one. It does if that asks
      and this, of somebody else, does not; if both are of one author and at most ``GOES_ON_SECONDS`` apart; or if it
      mentions somebody who spoke in the thread.
    * ``recency_score``: ``0.5 ** (hours / HALF_LIFE_HOURS)``.
    * ``hours_since_active``: ``log(1 + hours)``.

    ``hours`` passed between the thread's last message and this one; where a time is not known, each turn counts as a minute.

    Raises:
        ValueError: the thread holds this message, or one that was sent after it.
    """
    said = list(_read(thread))
    hours = _hours_since(message, said, thread)
    return np.array(
        [
            _entity_overlap(message, said),
            _keyword_matches(message, said),
            0.5**thread.turns_since * (1.0 if _fits(message, said, hours) else 0.5),
            0.5 ** (hours / HALF_LIFE_HOURS),
            math.log1p(hours),
        ],
        dtype=np.float32,
    )


def new_thread_features(others: Sequence[Floats]) -> Floats:
    """The best of the other candidates in each feature, which tells how poor they all are.

    Args:
        others: float32 [len(FEATURES)] each; without any, they are those of a thread with nothing in common a year ago.
    """
    if not others:
        none = np.zeros(len(FEATURES), dtype=np.float32)
        none[_HOURS] = math.log1p(_LONG_HOURS)
        return none
    stacked = np.stack(others)
    best: Floats = stacked.max(axis=0)
    best[_HOURS] = stacked[:, _HOURS].min()
    return best


def thread_text(thread: Thread, characters: int = TEXT_CHARACTERS) -> str:
    """The title if there is one, the first message, and the last ones that fit, the newest last; a line each.

    Mentions are left out as in the ``plain`` format. At most ``characters`` in all: title and first line are cut to a third
    each, and a newest line that is too long loses its end.
    """
    head = [
        line[: characters // _HEAD_SHARE].rstrip() for line in (" ".join(thread.title.split()), _line(thread.messages[0]))
    ]
    head = [line for line in head if line]
    left = characters - sum(len(line) + 1 for line in head)
    tail: list[str] = []
    for message in reversed(thread.messages[1:]):
        if not (line := _line(message)):
            continue
        if len(line) > left:
            if not tail:
                tail.append(line[:left].rstrip())
            break
        tail.append(line)
        left -= len(line) + 1
    return "\n".join([*head, *reversed(tail)])


def _line(message: Message) -> str:
    return " ".join(FORMATS["plain"].render([message]).split())


def _read(thread: Thread) -> Iterator[Message]:
    """What is looked at of a thread."""
    if len(thread.messages) >= READ:
        yield thread.messages[0]
    yield from thread.messages[-(READ - 1) :]


def _hours_since(message: Message, said: Sequence[Message], thread: Thread) -> float:
    if any(earlier.id == message.id for earlier in said):
        raise ValueError(f"thread {thread.id} holds message {message.id} itself: features must rest on what came before")
    last = max((m.time for m in said if m.time is not None), default=None)
    if message.time is None or last is None:
        return thread.turns_since / 60
    if message.time < last:
        late = last - message.time
        raise ValueError(f"thread {thread.id} goes on {late:g} s after message {message.id}: a feature from the future")
    return (message.time - last) / 3600


def shared_entities(message: Message, said: Iterable[Message]) -> frozenset[str]:
    """What the message names and they have named, too; it may write without capitals what they wrote with."""
    thread: set[str] = set()
    for earlier in said:
        thread |= entities(earlier.text)
    return (entities(message.text) | runs(message.text)) & thread


def _entity_overlap(message: Message, said: Sequence[Message]) -> float:
    shared = shared_entities(message, said)
    found = entities(message.text) | shared
    return len(shared) / len(found) if found else 0.0


def _keyword_matches(message: Message, said: Sequence[Message]) -> float:
    wanted = keywords(message.text)
    total = sum(map(rarity, wanted))
    if not total:
        return 0.0
    thread: set[str] = set()
    for earlier in said:
        thread.update(keywords(earlier.text))
    return sum(rarity(word) for word in wanted if word in thread) / total


def _fits(message: Message, said: Sequence[Message], hours: float) -> bool:
    last = said[-1]
    if last.author == message.author:
        goes_on = hours * 3600 <= GOES_ON_SECONDS
    else:
        goes_on = signals(last.text).is_question and not signals(message.text).is_question
    return goes_on or not {m.author for m in said}.isdisjoint(MENTION.findall(message.text))
