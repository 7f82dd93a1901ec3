"""What speaks for one message of a channel answering another: the features that ``chat/disentangle.py`` weighs.

They follow those of Elsner and Charniak (2008, https://aclanthology.org/P08-1095) and Kummerfeld et al. (2019,
https://aclanthology.org/P19-1374), and look at the past alone. Three tables name them:

* ``CUES`` are of one message and what its author did before. They count for the message that asks whom it answers, and for
  each message before it that may be the answer.
* ``PAIRS`` are of the two together.
* ``STARTS`` are of a message and all before it together, and with its cues tell whether it answers nobody.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from thread_embed_assets.chat.model import Kind, Message
from thread_embed_assets.chat.words import is_everyday_word

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

WINDOW = 50  # messages before a message that it may answer: 98 of 100 annotated links are no longer
PAUSE = 12 * 3_600.0  # seconds of silence after which nothing said before is answered
UNTIMED = 10.0  # seconds from one message to the next where there are no times, as in the annotated logs

_MOST_SPEAKERS = 5_000
_MOST_WORDS = 20_000
_READ = 4_000  # characters of a message that are looked at
_SHORTEST_NAME = 3
_SHORTEST_WORD = 3
_COMMON_WORDS = 150
_LONG_AGO = 600  # messages, or minutes; what is longer ago counts as this
_NOBODY = -1
_NO_AUTHOR = -2  # of the rows before a channel's first message; equals neither a speaker nor _NOBODY
_NEVER = 2**62

_TOKEN = re.compile(r"[\w\[\]\\`^{}|'-]+(?:\.[\w\[\]\\`^{}|'-]+)*")
_ADDRESS = re.compile(r"[\s@]*([^\s:,@<][^:,\n]{0,39}?)\s*[:,](?!//)")
_MARKED = re.compile(r"<@([^<>|\s][^<>|]*)(?:\|[^<>]*)?>")
_EDGES = "-|`^_[]{}\\'."
_CODE = re.compile(r"[/\\|=$`]")


_N = TypeVar("_N")


class _Fact(NamedTuple, Generic[_N]):
    """Whole numbers about one message, or columns of them; people are numbered as they come."""

    stretch: _N  # counts the pauses
    author: _N
    to: _N  # whom it addresses
    to_too: _N
    minute: _N
    previous: _N  # position of the author's message before
    heir: _N  # whom the author addressed last before
    caller: _N  # who addressed the author last before


@dataclass(slots=True)
class _Speaker:
    """A person met; positions are -1, and people ``_NOBODY``, where there was none yet."""

    number: int
    name: str
    last: int = -1
    minute: int = 0
    to: int = _NOBODY
    to_at: int = -1
    caller: int = _NOBODY
    called_at: int = -1


@dataclass(slots=True)
class _Turn:
    """A message as it is read.

    Attributes:
        words: lower case, in order.
        first: the first word after the name it begins with.
        addresses: it names somebody met.
        begins: it begins with such a name.
        unknown: it begins like an address, but with no such name.
        run: the message before is by the same author.
        own, own_minutes: messages and minutes since the author's last message; -1 for none.
        addressed: messages since the author last addressed somebody; -1 for none in the window.
        called: messages since somebody addressed the author; -1 for none in the window.
        custom: share of the window's messages that address somebody.
    """

    text: str
    words: list[str]
    distinct: set[str]
    first: str
    addresses: bool
    begins: bool
    unknown: bool
    bot: bool
    run: bool
    own: int
    own_minutes: int
    addressed: int
    called: int
    custom: float


def _says(listed: str) -> Callable[[_Turn], float]:
    words = frozenset(listed.split())
    return lambda turn: not words.isdisjoint(turn.distinct)


def _opens(listed: str) -> Callable[[_Turn], float]:
    words = frozenset(listed.split())
    return lambda turn: turn.first in words


def _ago(steps: int) -> float:
    return 0.0 if steps < 0 else _LOGARITHM[min(steps, _LONG_AGO)]


_LOGARITHM = [math.log2(1 + steps) / 7 for steps in range(_LONG_AGO + 1)]
_LOGARITHMS = np.array(_LOGARITHM, np.float32)

CUES: dict[str, Callable[[_Turn], float]] = {
    "addresses somebody": lambda turn: turn.addresses,
    "begins with a name": lambda turn: turn.begins,
    "begins like an address": lambda turn: turn.unknown,
    "bot": lambda turn: turn.bot,
    "command": lambda turn: turn.text.startswith("!"),
    "question mark": lambda turn: "?" in turn.text,
    "link": lambda turn: "://" in turn.text,
    "code": lambda turn: _CODE.search(turn.text) is not None,
    "length": lambda turn: _ago(len(turn.words)),
    "three words or fewer": lambda turn: len(turn.words) <= 3,
    "greets": _says("hi hello hey hiya greetings morning evening yo hola everyone"),
    "thanks": _says("thanks thank thx ty tnx cheers"),
    "asks anyone": _says("anyone anybody someone somebody everybody guys folks all"),
    "tells of trouble": _says("how help problem trouble trying need want question cannot can't issue error fails"),
    "says I": _says("i i'm im i've my me"),
    "says you": _says("you your u you're"),
    "opens as question": _opens("how what why where when which who is are do does did can could should would any"),
    "opens as answer": _opens("yes no yeah yep nope ok okay nah sure right ah oh k hmm lol haha true well"),
    "goes on": _opens("and but so or because also then it that this they which"),
    "new speaker": lambda turn: turn.own < 0,
    "same speaker before": lambda turn: turn.run,
    "messages since own": lambda turn: _ago(turn.own),
    "minutes since own": lambda turn: _ago(turn.own_minutes),
    "since addressing somebody": lambda turn: _ago(turn.addressed),
    "since being addressed": lambda turn: _ago(turn.called),
    "custom of addressing": lambda turn: turn.custom,
}

_PLACE = {name: place for place, name in enumerate(CUES)}


@dataclass(slots=True)
class _People:
    """Who was met, under their names in lower case; the longest silent are forgotten when they become too many."""

    names: dict[str, _Speaker] = field(default_factory=dict)
    _met: dict[int, _Speaker] = field(default_factory=dict)
    _count: int = 0

    def meet(self, name: str) -> _Speaker:
        """The speaker of that very name, who is also known by it without ornament (``ann`` for ``_ann_``)."""
        speaker = self.names.get(name)
        if speaker is not None and speaker.name == name:
            return speaker
        if len(self._met) >= _MOST_SPEAKERS:
            self._forget()
        speaker = self._met[self._count] = self.names[name] = _Speaker(self._count, name)
        self._count += 1
        plain = name.strip(_EDGES)
        first = plain.split(" ", 1)[0]
        for short in (plain, first):
            if len(short) >= _SHORTEST_NAME:
                self.names.setdefault(short, speaker)
        return speaker

    def addressed(self, text: str, words: list[str], distinct: set[str]) -> tuple[list[_Speaker], bool, bool]:
        """Those whom a text in lower case names, whether it begins with a name, and whether it only looks so.

        A name that is an everyday word, such as "will", counts at the beginning before ``:`` or ``,`` and as ``<@NAME>``.
        """
        names = self.names
        found: list[_Speaker] = []
        begins = unknown = False
        if address := _ADDRESS.match(text):
            if speaker := names.get(address[1]) or names.get(address[1].strip(_EDGES)):
                found.append(speaker)
                begins = True
            else:
                unknown = True
        if "<@" in text:
            found += [names[name] for name in _MARKED.findall(text) if name in names]
            begins = begins or (bool(found) and text.startswith("<@"))
        if not names.keys().isdisjoint(distinct):
            for place, word in enumerate(words):
                if word in names and self._is_name(word):
                    found.append(names[word])
                    begins = begins or place == 0
        elif not found:
            plain = [word.strip(_EDGES) for word in words]
            found += [names[word] for word in plain if word in names and self._is_name(word)]
        return found, begins, unknown

    @staticmethod
    def _is_name(word: str) -> bool:
        return len(word) >= _SHORTEST_NAME and not is_everyday_word(word)

    def _forget(self) -> None:
        by_activity = sorted(self._met.values(), key=lambda speaker: max(speaker.last, speaker.called_at))
        self._met = {speaker.number: speaker for speaker in by_activity[_MOST_SPEAKERS // 2 :]}
        self.names = {name: speaker for name, speaker in self.names.items() if speaker.number in self._met}


@dataclass(slots=True)
class _Words:
    """Where each word was said within the window."""

    _places: dict[str, list[int]] = field(default_factory=dict)

    def shared(self, block: Sequence[Sequence[str]], start: int) -> tuple[Floats, Floats]:
        """Shared words of each message with each of its window, both [n, WINDOW]: weighed by rarity, and counted.

        A word said in k of the messages of the window weighs log2(1 + WINDOW / k) / 7.
        """
        cells: list[int] = []
        weights: list[float] = []
        for row, words in enumerate(block):
            here = start + row
            oldest = here - WINDOW
            nearest = row * WINDOW + here - 1
            for word in words:
                places = self._places.get(word)
                if places is None:
                    self._places[word] = [here]
                    continue
                if places[0] < oldest:
                    places[:] = [place for place in places if place >= oldest]
                cells += [nearest - place for place in places]
                weights += [_rarity(len(places))] * len(places)
                places.append(here)
        if len(self._places) > _MOST_WORDS:
            oldest = start + len(block) - WINDOW
            self._places = {word: places for word, places in self._places.items() if places[-1] >= oldest}
        shape = (len(block), WINDOW)
        flat = np.array(cells, np.int64)
        weighed = np.bincount(flat, weights, shape[0] * WINDOW).astype(np.float32)
        return weighed.reshape(shape), np.bincount(flat, minlength=shape[0] * WINDOW).astype(np.float32).reshape(shape)


@cache
def _rarity(said: int) -> float:
    return math.log2(1 + WINDOW / said) / 7 if said else 0.0


@lru_cache(maxsize=1)
def _common_words() -> frozenset[str]:
    from wordfreq import top_n_list

    return frozenset(top_n_list("en", _COMMON_WORDS))


class _Views:
    """What PAIRS and STARTS look at: n messages, [n, 1], beside the WINDOW messages before each, [n, WINDOW], nearest first.

    Attributes:
        near: no pause lies between.
        gap: in minutes.
        names, c_names: the message, the candidate addresses somebody.
        same, other: the candidate is by the same, by another author.
        to_same: both address the same person.
        latest: the candidate is its author's last message before.
        spoken: the message's author spoke after the candidate.
        answered: somebody addressed the candidate's author after it.
        heir: the message names nobody, and its author last addressed the candidate's author; ``c_heir`` the other way round.
        caller: the message names nobody, and the candidate's author was the last to address its author.
    """

    def __init__(self, facts: Ints, cues: Floats, word_counts: Floats, shared: tuple[Floats, Floats], base: int) -> None:
        positions = np.arange(base, base + len(facts))
        told = _Fact(*facts.T)
        rows = np.stack([*told, positions, _next_by_author(told, positions), _next_to_author(told, positions)])
        stretch, author, to, to_too, minute, previous, heir, caller, here = rows[:9, WINDOW:, None]
        c_stretch, c_author, c_to, c_to_too, c_minute, _, c_heir, _, place, following, next_call = _windows(rows)
        self.near: Bools = c_stretch == stretch
        self.gap = np.clip(minute - c_minute, 0, _LONG_AGO)
        self.names, self.c_names = to >= 0, c_to >= 0
        self.same: Bools = (c_author == author) & self.near
        self.other = ~self.same & self.near
        self.addresses: Bools = ((c_author == to) | (c_author == to_too)) & self.near
        self.addressed_by: Bools = ((c_to == author) | (c_to_too == author)) & self.near
        common = (c_to == to) | (c_to == to_too) | ((c_to_too >= 0) & ((c_to_too == to) | (c_to_too == to_too)))
        self.to_same: Bools = common & self.names & self.c_names & self.near
        self.latest = following >= here
        self.spoken = place < previous
        self.answered = next_call < here
        self.heir: Bools = (c_author == heir) & ~self.names & self.near
        self.c_heir: Bools = (c_heir == author) & ~self.c_names & self.near
        self.caller: Bools = (c_author == caller) & ~self.names & self.near
        self.asks, self.commands = _windows(cues[:, [_PLACE["question mark"], _PLACE["command"]]].T) > 0
        self.shared, self.shared_count = shared
        counts = np.maximum(word_counts, 1)[None]
        self.lengths = np.sqrt(counts[:, WINDOW:].T * _windows(counts)[0])


def _windows(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[columns, n, WINDOW] of [columns, WINDOW + n], the nearest first."""
    return sliding_window_view(rows, WINDOW, axis=1)[:, :-1, ::-1]


def _next_by_author(told: _Fact[Ints], positions: Ints) -> Ints:
    """Position of the author's next message."""
    following = np.full(len(positions), _NEVER)
    known = np.flatnonzero(told.previous >= positions[0])
    following[told.previous[known] - positions[0]] = positions[known]
    return following


def _next_to_author(told: _Fact[Ints], positions: Ints) -> list[int]:
    """Position of the next message that addresses the author."""
    following = [_NEVER] * len(positions)
    calls: dict[int, int] = {}
    columns = (told.author.tolist(), told.to.tolist(), told.to_too.tolist(), positions.tolist())
    for row, (author, to, to_too, position) in reversed(list(enumerate(zip(*columns, strict=True)))):
        following[row] = calls.get(author, _NEVER)
        calls[to] = calls[to_too] = position
    return following


def _nearest(cells: Bools) -> Bools:
    """The first True of each row alone."""
    found = np.zeros(cells.shape, np.bool_)
    rows, first = np.arange(len(cells)), cells.argmax(axis=1)
    found[rows, first] = cells[rows, first]
    return found


PAIRS: dict[str, Callable[[_Views], Any]] = {
    "distance": lambda v: _LOGARITHMS[1 : WINDOW + 1],
    "closeness": lambda v: 1 / np.arange(1, WINDOW + 1),
    "adjacent": lambda v: np.arange(1, WINDOW + 1) == 1,
    "time": lambda v: _LOGARITHMS[v.gap],
    "same minute": lambda v: v.gap == 0,
    "same speaker": lambda v: v.same,
    "same speaker to the same": lambda v: v.same & v.to_same,
    "same speaker to another": lambda v: v.same & v.names & v.c_names & ~v.to_same,
    "addresses": lambda v: v.addresses,
    "addressed by": lambda v: v.addressed_by,
    "another to the same": lambda v: v.other & v.to_same,
    "addresses another": lambda v: v.names & ~v.addresses & ~v.same,
    "candidate addresses another": lambda v: v.c_names & ~v.addressed_by & ~v.same,
    "speaker's latest": lambda v: v.latest,
    "spoken since": lambda v: v.spoken,
    "answered": lambda v: v.answered,
    "heir": lambda v: v.heir,
    "candidate's heir": lambda v: v.c_heir,
    "caller": lambda v: v.caller,
    "nearest of same speaker": lambda v: _nearest(v.same),
    "nearest addressed": lambda v: _nearest(v.addresses),
    "nearest addressed by": lambda v: _nearest(v.addressed_by),
    "nearest heir": lambda v: _nearest(v.heir),
    "nearest candidate's heir": lambda v: _nearest(v.c_heir),
    "nearest of another": lambda v: _nearest(v.other),
    "nearest question": lambda v: _nearest(v.asks & v.other),
    "nearest command": lambda v: _nearest(v.commands & v.other),
    "nearest to nobody": lambda v: _nearest(v.other & ~v.c_names),
    "rare shared words": lambda v: np.minimum(v.shared, 3),
    "share of shared words": lambda v: v.shared / v.lengths,
    "shared word": lambda v: v.shared_count > 0,
}

STARTS: dict[str, Callable[[_Views], Any]] = {
    "nothing before": lambda v: ~v.near.any(axis=1),
    "addressee near": lambda v: v.addresses.any(axis=1),
    "addressed lately": lambda v: v.addressed_by.any(axis=1),
    "addressed, not answered": lambda v: (v.addressed_by & ~v.spoken).any(axis=1),
    "own near": lambda v: v.same.any(axis=1),
    "own adjacent": lambda v: v.same[:, 0],
    "own question": lambda v: (v.same & v.latest & v.asks).any(axis=1),
    "adjacent question": lambda v: (v.asks & v.other)[:, 0],
    "most shared words": lambda v: np.minimum(v.shared, 3).max(axis=1),
    "silence": lambda v: np.where(v.near[:, 0], _LOGARITHMS[v.gap[:, 0]], _LOGARITHMS[-1]),
    "silence of ten": lambda v: np.where(v.near[:, 9], _LOGARITHMS[v.gap[:, 9]], _LOGARITHMS[-1]),
}


@dataclass(frozen=True)
class Features:
    """Of n messages in a row, in the order of ``CUES``, ``PAIRS`` and ``STARTS``.

    Attributes:
        cues: [WINDOW + n, CUES]: those of the messages before come first.
        pairs: [PAIRS, n, WINDOW], the nearest candidate first; 0 where there is none.
        starts: [n, STARTS].
        near: [n, WINDOW], whether there is such a candidate and no pause since.
    """

    cues: Floats
    pairs: Floats
    starts: Floats
    near: Bools


class Reader:
    """Reads one channel's messages in order; remembers the last ``WINDOW`` of them and the people met."""

    def __init__(self) -> None:
        self._position = 0
        self._stretch = 0
        self._clock: float | None = None
        self._told_late: float | None = None  # what the clock is ahead of the times, once there is one
        self._author = _NOBODY
        self._addressing: deque[bool] = deque(maxlen=WINDOW)
        self._people = _People()
        self._words = _Words()
        self._common = _common_words()
        before = _Fact(-1, _NO_AUTHOR, _NOBODY, _NOBODY, 0, -1, _NOBODY, _NOBODY)
        self._facts: Ints = np.full((WINDOW, len(before)), before, np.int64)
        self._cues: Floats = np.zeros((WINDOW, len(CUES)), np.float32)
        self._word_counts: Floats = np.zeros(WINDOW, np.float32)

    def read(self, messages: Sequence[Message], answered: Sequence[Sequence[str]]) -> Features:
        """The features of the next messages, at least one.

        Args:
            answered: for each the authors of the messages that it is marked as a reply to: they count as addressed.
        """
        start = self._position
        turns = [self._turn(message, names) for message, names in zip(messages, answered, strict=True)]
        facts = np.concatenate([self._facts, np.array([fact for fact, _, _ in turns], np.int64)])
        cues = np.concatenate([self._cues, np.array([row for _, row, _ in turns], np.float32)])
        word_counts = np.concatenate([self._word_counts, np.array([len(words) for _, _, words in turns], np.float32)])
        shared = self._words.shared([words for _, _, words in turns], start)
        views = _Views(facts, cues, word_counts, shared, start - WINDOW)
        pairs = np.empty((len(PAIRS), *views.near.shape), np.float32)
        for row, pair in zip(pairs, PAIRS.values(), strict=True):
            row[:] = pair(views)
        pairs *= views.near
        starts = np.stack([start(views) for start in STARTS.values()], axis=1).astype(np.float32)
        self._facts, self._cues, self._word_counts = facts[-WINDOW:], cues[-WINDOW:], word_counts[-WINDOW:]
        return Features(cues, pairs, starts, views.near)

    def _turn(self, message: Message, answered: Sequence[str]) -> tuple[_Fact[int], list[float], list[str]]:
        """Facts, cues and the words worth sharing of the next message."""
        people, here = self._people, self._position
        text = message.text[:_READ].casefold()
        words = _TOKEN.findall(text)
        distinct = set(words)
        named, begins, unknown = people.addressed(text, words, distinct)
        speaker = people.meet(message.author.casefold())
        replied = (people.names.get(name.casefold()) for name in answered)
        others = {other.number: other for other in (*replied, *named) if other is not None and other is not speaker}
        to, to_too = [*list(others)[:2], _NOBODY, _NOBODY][:2]
        minute = self._minute(message.time)
        oldest = here - WINDOW
        heir = speaker.to if speaker.to_at >= oldest else _NOBODY
        caller = speaker.caller if speaker.called_at >= oldest else _NOBODY
        begins = begins and bool(others)
        turn = _Turn(
            text=text,
            words=words,
            distinct=distinct,
            first=words[begins] if len(words) > begins else "",
            addresses=bool(others),
            begins=begins,
            unknown=unknown and not others,
            bot=message.kind is Kind.BOT,
            run=self._author == speaker.number,
            own=here - speaker.last if speaker.last >= 0 else -1,
            own_minutes=minute - speaker.minute if speaker.last >= 0 else -1,
            addressed=here - speaker.to_at if heir != _NOBODY else -1,
            called=here - speaker.called_at if caller != _NOBODY else -1,
            custom=sum(self._addressing) / WINDOW,
        )
        fact = _Fact(self._stretch, speaker.number, to, to_too, minute, speaker.last, heir, caller)
        self._author, self._position = speaker.number, here + 1
        self._addressing.append(turn.addresses)
        speaker.last, speaker.minute = here, minute
        if others:
            speaker.to, speaker.to_at = to, here
        for number in (to, to_too):
            if number != _NOBODY:
                others[number].caller, others[number].called_at = speaker.number, here
        worth = sorted(distinct - self._common)
        worth = [word for word in worth if len(word) >= _SHORTEST_WORD and word not in people.names]
        return fact, [cue(turn) for cue in CUES.values()], worth

    def _minute(self, time: float | None) -> int:
        """Minute of the next message, never falling, as in the logs that the weights come from; counts the pauses.

        Untimed messages before the first time count as just before it.
        """
        before = self._clock
        if time is None:
            now = 0.0 if before is None else before + UNTIMED
        else:
            if self._told_late is None:
                self._told_late = 0.0 if before is None else before + UNTIMED - time
            now = time + self._told_late
        if before is not None:
            now = max(before, now)
            self._stretch += now - before > PAUSE
        self._clock = now
        return int(now // 60)
