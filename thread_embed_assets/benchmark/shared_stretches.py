"""Stretches of words that two texts share, and whether they are enough to say that one was copied.

Two texts share a stretch where the same word 5-grams follow one another in about the same order. Words are compared after
NFKC and in lower case, without punctuation, labels and mentions; a line's end is a space like any other, so neither case nor
spacing nor the breaking of lines hides anything. Each Chinese character and each Japanese kana counts as a word; languages
written without spaces in other scripts are compared by what stands between their spaces.

What is long enough was set by looking at all that 151,000 train texts of five sources share with 10,000 held-out ones:

- ``RUN_WORDS`` = 12 words in a row, wherever they stand. Up to 11 words people say the same without having read it ("can you
  say more about what you're trying to do"): outside Topical-Chat there are 108 different longest runs of 8 words, 4 of 11,
  and from 12 on five, all of them error messages or program code. In Topical-Chat, from 12 on, these are the facts that the
  talkers were given to read, and long farewells.
- ``NEAR_WORDS`` = 15 words in stretches of 5 or more, in about the same order, that make up half of a message, of a window
  or of a whole text. So many are left of 24 words when one word in six is changed, wherever that falls; two stock phrases
  are fewer ("it was nice chatting with you" and "hope you have a good day": 12).
- A message of ``MESSAGE_WORDS`` = 8 words that is also a whole message there. Shorter ones recur in any chat;
  ``chat.near_copies`` tells nothing from fewer either.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from thread_embed_assets.chat.near_copies import (
    CONVERSATION_THRESHOLD,
    FEWEST_SHINGLES,
    NEAR_WORDS,
    RUN_WORDS,
    SHINGLE_WORDS,
    Hashes,
    HeldOutShingles,
    Places,
    shingled,
)

MESSAGE_WORDS = SHINGLE_WORDS + FEWEST_SHINGLES - 1
NEAR_SHARE = CONVERSATION_THRESHOLD
_SHIFT = 18  # words put in or left out between two stretches of one copy
_APART = 36  # words from the start of one stretch to that of the next, beyond which they are not looked at together
_PAIRS_AT_ONCE = 1 << 20
_MOST_REPEATS = 32
_OF_WORDS = np.uint64(0xC2B2AE3D27D4EB4F)  # odd, about half of its bits set
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_OWN_WORD = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f])")


class Level(StrEnum):
    """How much of a held-out text stands in training: all of it, several messages in a row, or (a part of) one message.

    ``CONVERSATION``: its id is one that was trained on, whatever the text.
    """

    CONVERSATION = "conversation"
    DOCUMENT = "document"
    WINDOW = "window"
    MESSAGE = "message"


class Kind(StrEnum):
    """How it stands there.

    ``EXACT``: word for word, and as whole messages on both sides. ``QUOTED``: word for word, inside a longer message on one
    side, or a part of a message. ``NEAR``: half of its words or more, in about the same order.
    """

    EXACT = "exact"
    NEAR = "near"
    QUOTED = "quoted"


@dataclass(frozen=True)
class Shingled:
    """Several texts, one after the other: their words by number, and where 5-grams, lines and texts are.

    Attributes:
        hashes, places: of each 5-gram that lies in one text, its hash and its first word.
        lines: number of the first word of each line that has words, and the number of words in the end.
        ends: where each text ends.
    """

    hashes: Hashes
    places: Places
    lines: Places
    ends: Places

    def text_of(self, places: Places) -> Places:
        return self.ends.searchsorted(places, side="right")

    def bounds(self, text: int) -> Places:
        """Where the lines of a text start, and where it ends."""
        start, end = int(self.ends[text - 1]) if text else 0, int(self.ends[text])
        return self.lines[self.lines.searchsorted(start) : self.lines.searchsorted(end, side="right")]


def shingled_texts(texts: Iterable[str]) -> Shingled:
    of_each = [_normalised(text).split("\n") for text in texts]
    hashed = shingled([line for lines in of_each for line in lines])
    words, line_ends = hashed.words, hashed.word_ends
    ends = line_ends[np.cumsum([len(lines) for lines in of_each]) - 1]
    count = max(0, len(words) - SHINGLE_WORDS + 1)
    hashes = words[:count].copy()
    for later in range(1, SHINGLE_WORDS):
        hashes *= _OF_WORDS
        hashes += words[later : later + count]
    in_one_text = np.ones(len(words), dtype=np.bool_)
    for before in range(1, SHINGLE_WORDS):
        in_one_text[ends[ends >= before] - before] = False
    places = in_one_text[:count].nonzero()[0]
    places = places[_not_repeated(hashes[places], ends.searchsorted(places, side="right"))]
    return Shingled(hashes[places], places, np.unique(np.append(line_ends, 0)), ends)


def _normalised(text: str) -> str:
    if text.isascii():
        return text
    return _OWN_WORD.sub(r" \1 ", _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))).casefold()


@dataclass(frozen=True)
class StretchIndex:
    """Texts that others are compared with, in memory at about 50 bytes a word.

    Attributes:
        texts: their 5-grams in the order of their hashes.
        known: those hashes.
    """

    texts: Shingled
    known: HeldOutShingles

    @classmethod
    def of(cls, batches: Iterable[Sequence[str]]) -> StretchIndex:
        """Texts are numbered from 0, through all batches."""
        texts = _joined([shingled_texts(batch) for batch in batches])
        order = texts.hashes.argsort(kind="stable")
        texts = replace(texts, hashes=texts.hashes[order], places=texts.places[order])
        known = HeldOutShingles()
        known.add_hashes(texts.hashes)
        return cls(texts, known)


def _joined(parts: Sequence[Shingled]) -> Shingled:
    """The texts of all parts, one after the other."""
    start = 0
    moved = [Shingled(np.empty(0, np.uint64), *(np.empty(0, np.int64) for _ in range(3)))]
    for part in parts:
        moved.append(Shingled(part.hashes, part.places + start, part.lines + start, part.ends + start))
        start += int(part.lines[-1])
    hashes = np.concatenate([part.hashes for part in moved])
    places, lines, ends = (np.concatenate(of) for of in zip(*((p.places, p.lines, p.ends) for p in moved), strict=True))
    return Shingled(hashes, places, np.unique(lines), ends)


def matches(texts: Shingled, index: StretchIndex) -> Iterator[tuple[int, int, Level, Kind]]:
    """(number of the text, number of the text in the index, level, kind) of all that share enough."""
    known = index.texts
    shared = index.known.found(texts.hashes).nonzero()[0]
    shared = shared[_dense(texts.places[shared])]
    first = known.hashes.searchsorted(texts.hashes[shared])
    counts = known.hashes.searchsorted(texts.hashes[shared], side="right") - first
    places = texts.places[shared]
    text = texts.text_of(places)
    before = counts.cumsum() - counts
    starts = np.flatnonzero(np.diff(text, prepend=-1))
    chunk = np.repeat(before[starts] // _PAIRS_AT_ONCE, np.diff(np.append(starts, len(text))))
    for number in np.unique(chunk):
        chosen = chunk == number
        times = counts[chosen]
        here = places[chosen].repeat(times)
        within = np.arange(len(here)) - (times.cumsum() - times).repeat(times)
        there = known.places[first[chosen].repeat(times) + within]
        yield from _judged(_runs(here, there, texts, known), texts, known)


def _dense(places: Places) -> NDArray[np.bool_]:
    """Which of the 5-grams stand where ``MESSAGE_WORDS`` words or more are shared, in stretches at most ``_APART`` apart."""
    if not len(places):
        return np.zeros(0, dtype=np.bool_)
    gaps = np.diff(places)
    group = np.cumsum(np.append(0, gaps > _APART))
    covered = np.append(np.minimum(gaps, SHINGLE_WORDS), SHINGLE_WORDS)
    dense: NDArray[np.bool_] = (np.bincount(group, covered) >= MESSAGE_WORDS)[group]
    return dense


@dataclass(frozen=True)
class _Runs:
    """Runs of words that two texts share: first word here, first word there, number of words."""

    text: Places
    known: Places
    here: Places
    there: Places
    words: Places


def _runs(here: Places, there: Places, texts: Shingled, known: Shingled) -> _Runs:
    """The longest runs, ordered by text, held-out text and the distance between ``there`` and ``here``."""
    text, of = texts.text_of(here), known.text_of(there)
    order = np.lexsort((here, there - here, of, text))
    text, of, here, there = text[order], of[order], here[order], there[order]
    starts = np.ones(len(here), dtype=np.bool_)
    starts[1:] = (np.diff(here) != 1) | (np.diff(there) != 1) | (np.diff(text) != 0) | (np.diff(of) != 0)
    at = starts.nonzero()[0]
    words = np.diff(np.append(at, len(here))) + SHINGLE_WORDS - 1
    return _Runs(text[at], of[at], here[at], there[at], words)


def _judged(runs: _Runs, texts: Shingled, known: Shingled) -> Iterator[tuple[int, int, Level, Kind]]:
    if not len(runs.words):
        return
    new_pair = np.append(True, (np.diff(runs.text) != 0) | (np.diff(runs.known) != 0))
    starts = new_pair.nonzero()[0]
    shifts = runs.there - runs.here
    together = np.append(False, (np.diff(shifts) <= _SHIFT) & ~new_pair[1:])
    longest = np.maximum.reduceat(runs.words, starts)
    several = np.logical_or.reduceat(together, starts)
    enough = np.add.reduceat(runs.words, starts) >= NEAR_WORDS
    ends = np.append(starts[1:], len(runs.words))
    for group in ((longest >= MESSAGE_WORDS) | (several & enough)).nonzero()[0]:
        chosen = slice(starts[group], ends[group])
        here, there, words = runs.here[chosen], runs.there[chosen], runs.words[chosen]
        number, of = int(runs.text[chosen.start]), int(runs.known[chosen.start])
        verdict = _judge(here, there, words, texts.bounds(number), known.bounds(of))
        if verdict is not None:
            yield number, of, *verdict


def _judge(here: Places, there: Places, words: Places, text: Places, known: Places) -> tuple[Level, Kind] | None:
    """What the runs that a text shares with a held-out one amount to; None if they are too short.

    Args:
        here, there, words: the runs.
        text, known: bounds of the lines of either.
    """
    copied = any(
        last - first >= MESSAGE_WORDS and _verbatim(first, last, here, there, words, text) is Kind.EXACT
        for first, last in pairwise(known.tolist())
    )
    quoted = bool(words.max() >= RUN_WORDS)
    here, there, words = _in_order(here, there, words)
    covered = _covered(there, words, known)
    unit = _widest(covered, known, NEAR_WORDS)
    whole_text = words.sum() >= max(NEAR_WORDS, NEAR_SHARE * (text[-1] - text[0]))
    if not (copied or quoted or unit or whole_text):
        return None
    unit = unit or _widest(covered, known, 1)
    if unit is None:
        return Level.MESSAGE, Kind.QUOTED
    first, last = unit
    lines = int(((known >= first) & (known < last)).sum())
    level = Level.MESSAGE if lines == 1 else Level.DOCUMENT if unit == (known[0], known[-1]) else Level.WINDOW
    return level, _verbatim(first, last, here, there, words, text) or Kind.NEAR


def _in_order(here: Places, there: Places, words: Places) -> tuple[Places, Places, Places]:
    """Those runs of a pair that no other overlaps on either side, the longer first, about as far apart here as there."""
    shifts = there - here
    alike = np.abs(shifts[:, None] - shifts[None, :]) <= _SHIFT
    chosen: list[int] = []
    for run in sorted(alike[(alike * words).sum(axis=1).argmax()].nonzero()[0].tolist(), key=lambda run: -words[run]):
        apart = (
            (np.abs(2 * (side[chosen] - side[run]) + words[chosen] - words[run]) >= words[chosen] + words[run]).all()
            for side in (here, there)
        )
        if all(apart):
            chosen.append(run)
    return here[chosen], there[chosen], words[chosen]


def _verbatim(first: int, last: int, here: Places, there: Places, words: Places, text: Places) -> Kind | None:
    """How the held-out words from ``first`` to ``last``, or else the whole text, stand on the other side word for word."""
    within = np.flatnonzero((there <= first) & (there + words >= last))
    for run in within:
        start = here[run] + first - there[run]
        if start in text and start + last - first in text:
            return Kind.EXACT
    if len(within) or ((here <= text[0]) & (here + words >= text[-1])).any():
        return Kind.QUOTED
    return None


def _covered(starts: Places, words: Places, bounds: Places) -> Places:
    """How many words the runs cover up to each of the bounds."""
    open_runs = np.zeros(bounds[-1] - bounds[0] + 1, dtype=np.int64)
    np.add.at(open_runs, starts - bounds[0], 1)
    np.subtract.at(open_runs, starts + words - bounds[0], 1)
    covered: Places = np.append(0, (open_runs.cumsum() > 0).cumsum())[bounds - bounds[0]]
    return covered


def _widest(covered: Places, bounds: Places, fewest: int) -> tuple[int, int] | None:
    """The longest window of lines with at least ``fewest`` words covered and ``NEAR_SHARE`` of its words, as of the words of
    its first and its last line; its first word and its end."""
    good = np.flatnonzero(np.diff(covered) >= NEAR_SHARE * np.diff(bounds))
    words = bounds[good + 1][None, :] - bounds[good][:, None]
    shared = covered[good + 1][None, :] - covered[good][:, None]
    fitting = np.where((words > 0) & (shared >= np.maximum(fewest, NEAR_SHARE * words)), words, 0)
    if not fitting.any():
        return None
    start, end = np.unravel_index(fitting.argmax(), fitting.shape)
    return int(bounds[good[start]]), int(bounds[good[end] + 1])


def _not_repeated(hashes: Hashes, texts: Places) -> NDArray[np.bool_]:
    """Which of some 5-grams to keep: of one that stands again and again in a text, the first ``_MOST_REPEATS``."""
    order = np.lexsort((hashes, texts))
    starts = np.append(True, (np.diff(hashes[order]) != 0) | (np.diff(texts[order]) != 0))[: len(order)].nonzero()[0]
    counts = np.diff(np.append(starts, len(order)))
    kept = np.empty(len(order), dtype=np.bool_)
    kept[order] = np.arange(len(order)) - starts.repeat(counts) < _MOST_REPEATS
    return kept
