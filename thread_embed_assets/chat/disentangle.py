"""Threads of a channel that has none: each message is linked to the message it most likely answers, or starts a thread.

A small network of one hidden layer weighs the features of ``chat/antecedents.py`` for each of the messages before, and for
starting anew; the best wins. Its weights lie in ``disentangle_weights.json`` and were fitted by ``training/disentangler.py``
on annotated Ubuntu IRC. Reply marks are believed, not weighed.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from thread_embed_assets.chat.antecedents import CUES, PAIRS, STARTS, WINDOW, Features, Floats, Ints, Reader
from thread_embed_assets.chat.model import Message
from thread_embed_assets.errors import InputError

WEIGHTS = Path(__file__).with_name("disentangle_weights.json")
REACH = 1_000  # messages back that a reply mark is followed
LONGEST = 5_000  # messages of the channel after which a thread is cut

_BLOCK = 128
_DECIMALS = 4
_BARRED = np.float32(-1e9)


def disentangle(messages: Iterable[Message], weights: Weights | None = None) -> Iterator[list[Message]]:
    """The threads of one channel, each in time order, by their first messages.

    Every message comes out once, in one thread. One with ``parents`` keeps them, and is in the thread of those among the
    last ``REACH`` messages (joined, if they are several); if none is, it starts a thread. One without is guessed to answer
    one of the last ``WINDOW`` messages, and comes out as a copy with that parent, or to start a thread. Nothing is guessed
    across a silence of more than ``antecedents.PAUSE``; reply marks reach over it.

    A thread is yielded when none of its messages is among the last ``REACH`` and no earlier thread is open, so the threads
    come in the order of their first messages. One whose first message is ``LONGEST`` messages back is cut there: what goes
    on with it starts a thread. So no more than about ``LONGEST`` messages are held. No message's link depends on later ones.

    Args:
        messages: of one channel, in time order, spoken by people or bots, with their authors' real names. Times may be
            missing; one that falls counts as the one before.
        weights: by default those that come with the package.

    Raises:
        InputError: the weights are missing, damaged or of other features.
    """
    weights, reader, threads = weights or load_weights(), Reader(), _Threads()
    waiting = iter(messages)
    while block := list(islice(waiting, _BLOCK)):
        answered = threads.enter(block)
        features = reader.read(block, answered)
        with _threads_of_blas().limit(limits=1):  # products this small take four times the CPU when spread
            scores = weights.scores(features)
        for steps in choose(scores).tolist():
            threads.link(steps)
        yield from threads.closed()
    yield from threads.rest()


@lru_cache(maxsize=1)
def _threads_of_blas() -> ThreadpoolController:
    return ThreadpoolController()


def choose(scores: Floats) -> Ints:
    """How many messages back the message answered is, of scores [n, WINDOW + 1]; 0 for none. Of equals the nearest."""
    best = scores.argmax(axis=1)
    return np.where(best == WINDOW, 0, best + 1)


@dataclass(frozen=True)
class Weights:
    """The network, H and S hidden units wide.

    Attributes:
        asking, candidate: [CUES, H] for the cues of the message that asks, of the candidate.
        pair: [PAIRS, H]. bias, out: [H].
        start: [CUES + STARTS, S]. start_bias, start_out: [S]. start_offset: [1].
    """

    asking: Floats
    candidate: Floats
    pair: Floats
    bias: Floats
    out: Floats
    start: Floats
    start_bias: Floats
    start_out: Floats
    start_offset: Floats

    def scores(self, features: Features) -> Floats:
        """[n, WINDOW + 1]: of each candidate, the nearest first, and last of starting a thread."""
        count = len(features.near)
        cues = features.cues[WINDOW:]
        asking = cues @ self.asking + self.bias
        candidate = np.lib.stride_tricks.sliding_window_view(features.cues @ self.candidate, WINDOW, axis=0)
        hidden = (self.pair.T @ features.pairs.reshape(len(PAIRS), -1)).reshape(-1, count, WINDOW)
        hidden += candidate[:-1, :, ::-1].transpose(1, 0, 2)
        hidden += asking.T[:, :, None]
        np.maximum(hidden, 0, out=hidden)
        scores = np.empty((count, WINDOW + 1), np.float32)
        scores[:, :-1] = np.where(features.near, np.tensordot(self.out, hidden, 1), _BARRED)
        start = np.maximum(np.hstack([cues, features.starts]) @ self.start + self.start_bias, 0)
        scores[:, -1] = start @ self.start_out + self.start_offset
        return scores

    def as_json(self) -> dict[str, Any]:
        """Rounded, by feature name where a row belongs to one."""

        def rounded(block: str) -> list[Any]:
            found: list[Any] = np.round(np.asarray(getattr(self, block), np.float64), _DECIMALS).tolist()
            return found

        named = {block: dict(zip(names, rounded(block), strict=True)) for block, names in _ROWS.items()}
        return named | {block: rounded(block) for block in _VECTORS}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Weights:
        """Raises: KeyError or ValueError, if features are missing, too many, or of several widths."""
        for block, names in _ROWS.items():
            if told[block].keys() != set(names):
                raise ValueError(f"{block} has other features than the code: {sorted(told[block].keys() ^ set(names))}")
        rows = {block: np.array([told[block][name] for name in names], np.float32) for block, names in _ROWS.items()}
        return cls(**rows, **{block: np.array(told[block], np.float32) for block in _VECTORS})


_ROWS = {"asking": tuple(CUES), "candidate": tuple(CUES), "pair": tuple(PAIRS), "start": (*CUES, *STARTS)}
_VECTORS = ("bias", "out", "start_bias", "start_out", "start_offset")


@lru_cache(maxsize=1)
def load_weights(path: Path = WEIGHTS) -> Weights:
    """Raises InputError: the file is missing, damaged, or of other features than the code's."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return Weights.from_json(told["weights"])
    except (OSError, KeyError, ValueError, TypeError) as error:
        remedy = "Fit them again: python -m thread_embed_assets.training.disentangler"
        raise InputError(path, f"the disentangler's weights cannot be used ({error})", remedy) from error


@dataclass(slots=True)
class _Thread:
    """Positions of its first and last message; messages with their positions, unordered; and what became of it."""

    first: int
    last: int
    messages: list[tuple[int, Message]]
    joined_to: _Thread | None = None
    closed: bool = False


@dataclass(slots=True)
class _Threads:
    """The open threads of one channel, whose messages are counted from 0.

    Attributes:
        _met: message id to its position and author, of the last ``REACH`` messages; of equal ids the last.
        _ids: those ids in order.
        _entered: messages to be linked, with the positions of their marked parents.
        _recent: position to message id and thread, of the last ``REACH`` messages.
        _open: by first position, ascending.
    """

    _met: dict[str, tuple[int, str]] = field(default_factory=dict)
    _ids: deque[str] = field(default_factory=deque)
    _entered: deque[tuple[Message, list[int]]] = field(default_factory=deque)
    _recent: dict[int, tuple[str, _Thread]] = field(default_factory=dict)
    _open: dict[int, _Thread] = field(default_factory=dict)
    _position: int = 0

    def enter(self, messages: Sequence[Message]) -> list[list[str]]:
        """Take the next messages in; the authors of the parents they are marked to answer."""
        answered: list[list[str]] = []
        met = self._met
        for position, message in enumerate(messages, self._position):
            parents = [met[parent] for parent in message.parents if parent in met]
            answered.append([author for _, author in parents])
            self._entered.append((message, [place for place, _ in parents]))
            met[message.id] = position, message.author
            self._ids.append(message.id)
            if len(self._ids) > REACH:
                oldest = self._ids.popleft()
                if met[oldest][0] <= position - REACH:
                    del met[oldest]
        return answered

    def link(self, steps: int) -> None:
        """Put the next message taken in to its marked parents, or to the message so many steps back, if there are any."""
        message, places = self._entered.popleft()
        here = self._position
        self._position += 1
        if not message.parents and steps:
            parent, thread = self._recent[here - steps]
            if not _top(thread).closed:
                places = [here - steps]
                message = Message(message.id, message.author, message.text, message.time, (parent,), message.kind)
        thread = self._joined([self._recent[place][1] for place in places]) or _Thread(here, here, [])
        thread.last = here
        thread.messages.append((here, message))
        self._open.setdefault(thread.first, thread)
        self._recent[here] = message.id, thread
        self._recent.pop(here - REACH, None)

    def _joined(self, found: Iterable[_Thread]) -> _Thread | None:
        """The open ones of these threads as one, the earliest."""
        threads = {thread.first: thread for thread in map(_top, found) if not thread.closed}
        if not threads:
            return None
        earliest = threads.pop(min(threads))
        for thread in threads.values():
            thread.joined_to = earliest
            earliest.messages += thread.messages
            thread.messages = []
            del self._open[thread.first]
        return earliest

    def closed(self) -> Iterator[list[Message]]:
        """The threads that nothing can be added to, as far as no earlier one is open."""
        while self._open:
            thread = next(iter(self._open.values()))
            if thread.last >= self._position - REACH and thread.first > self._position - LONGEST:
                return
            yield self._close(thread)

    def rest(self) -> Iterator[list[Message]]:
        while self._open:
            yield self._close(next(iter(self._open.values())))

    def _close(self, thread: _Thread) -> list[Message]:
        del self._open[thread.first]
        thread.closed = True
        return [message for _, message in sorted(thread.messages, key=itemgetter(0))]


def _top(thread: _Thread) -> _Thread:
    while thread.joined_to is not None:
        thread = thread.joined_to
    return thread
