"""Whether a text stands, whole or in large part, in a set of held-out texts.

The measure is containment of word 5-grams (Broder 1997, "On the resemblance and containment of documents"): the share of the
text's shingles found in the held-out set. Unlike Jaccard similarity it also finds a short text quoted from a long one, and a
window cut from a thread. Shingles never cross lines, so any cut of the same messages gives the same shingles.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

SHINGLE_WORDS = 5
FEWEST_SHINGLES = 4
MESSAGE_THRESHOLD = 0.8
CONVERSATION_THRESHOLD = 0.5

_WORD = re.compile(r"\w+")
_LABEL = re.compile(r"(?:^|(?<=\n))(?:\[\+\d+[dhm]\] )?(?:speaker_\d+: )?|@speaker_\d+")
_MENTION = re.compile(r"<@p_[0-9a-f]{10}>")


def shingles(text: str) -> list[int]:
    """64-bit hashes of the word 5-grams of each line, without speaker and time labels and mentions."""
    if "speaker_" in text or "[+" in text:
        text = _LABEL.sub("", text)
    if "<@p_" in text:
        text = _MENTION.sub("", text)
    found: list[int] = []
    for line in text.lower().split("\n"):
        words = _WORD.findall(line)
        if len(words) >= SHINGLE_WORDS:
            found.extend(map(hash, zip(*(words[start:] for start in range(SHINGLE_WORDS)), strict=False)))
    return found


def contained(hits: int, total: int) -> float:
    """Containment from counts; 0 where there are too few shingles to tell."""
    return hits / total if total >= FEWEST_SHINGLES else 0.0


class HeldOutShingles:
    """The shingles of all held-out texts, sorted: 8 bytes each, which is what held-out text costs in memory."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._added = array("q")
        self._sorted: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self.add(texts)

    def add(self, texts: Iterable[str]) -> None:
        """Hold these texts out, too."""
        for text in texts:
            self._added.extend(shingles(text))

    def _known(self) -> NDArray[np.int64]:
        if self._added:
            self._sorted = _sorted_once(self._sorted, np.frombuffer(self._added, dtype=np.int64))
            self._added = array("q")
        return self._sorted

    def __or__(self, other: HeldOutShingles) -> HeldOutShingles:
        """The shingles of both."""
        union = HeldOutShingles(())
        union._sorted = _sorted_once(self._known(), other._known())
        return union

    def __len__(self) -> int:
        return len(self._known())

    def hits(self, text: str) -> tuple[int, int]:
        """How many of the text's shingles are held out, and how many it has."""
        return self.hits_of_each([text])[0]

    def hits_of_each(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """:meth:`hits` of several texts, looked up together, which is several times faster."""
        wanted = array("q")
        ends = [0]
        for text in texts:
            wanted.extend(shingles(text))
            ends.append(len(wanted))
        known = self._known()
        if wanted and len(known):
            hashes = np.frombuffer(wanted, dtype=np.int64)
            found = known.take(known.searchsorted(hashes), mode="clip") == hashes
            if found.any():
                before = [0, *found.cumsum().tolist()]
                return [(before[end] - before[start], end - start) for start, end in pairwise(ends)]
        return [(0, end - start) for start, end in pairwise(ends)]

    def containment(self, text: str) -> float:
        """Share of the text's shingles that are held out, in [0, 1]; 0 for a text of fewer than 4 shingles.

        Shorter texts ("what version are you on") recur in any chat and say nothing about a leak.
        """
        return contained(*self.hits(text))

    def is_near_copy(self, text: str) -> bool:
        """Whether at least 80 % of the text stands in the held-out texts."""
        return self.containment(text) >= MESSAGE_THRESHOLD

    def leaks_conversation(self, texts: list[str]) -> bool:
        """Whether half of a conversation, or nearly all of one of its messages, is held out."""
        counts = self.hits_of_each(texts)
        whole = contained(sum(hits for hits, _ in counts), sum(total for _, total in counts))
        return whole >= CONVERSATION_THRESHOLD or any(contained(*count) >= MESSAGE_THRESHOLD for count in counts)


def _sorted_once(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Both, sorted, each number once; np.unique hashes first, which takes several times as long."""
    both = np.sort(np.concatenate([left, right]))
    once: NDArray[np.int64] = both[np.diff(both, prepend=~both[:1]) != 0]
    return once


def similarity(left: str, right: str) -> float:
    """Jaccard similarity of the two texts' word sets, in [0, 1]; for telling near-copies among negatives."""
    return overlap(word_set(left), word_set(right))


def word_set(text: str) -> frozenset[str]:
    """The text's words in lower case, to compare one text with several."""
    return frozenset(_WORD.findall(text.lower()))


def overlap(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard similarity of two word sets, in [0, 1]."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if left or right else 1.0
