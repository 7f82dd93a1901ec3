"""Whether a text stands, whole or in large part, in a set of held-out texts.

The measure is containment of word 5-grams (Broder 1997, "On the resemblance and containment of documents"): the share of the
text's shingles found in the held-out set. Unlike Jaccard similarity it also finds a short text quoted from a long one, and a
window cut from a thread. Shingles never cross lines, so any cut of the same messages gives the same shingles.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

SHINGLE_WORDS = 5
FEWEST_SHINGLES = 4
MESSAGE_THRESHOLD = 0.8
CONVERSATION_THRESHOLD = 0.5

_WORD = re.compile(r"\w+")
_LABEL = re.compile(r"(?:^|(?<=\n))(?:\[\+\d+[dhm]\] )?(?:speaker_\d+: )?|@speaker_\d+|<@p_[0-9a-f]{10}>")


def shingles(text: str) -> list[int]:
    """64-bit hashes of the word 5-grams of each line, without speaker and time labels and mentions."""
    if "speaker_" in text or "[+" in text or "<@p_" in text:
        text = _LABEL.sub("", text)
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
    """The shingles of all held-out texts, sorted: 8 bytes each."""

    def __init__(self, texts: Iterable[str]) -> None:
        found = array("q")
        for text in texts:
            found.extend(shingles(text))
        self._sorted: NDArray[np.int64] = np.unique(np.frombuffer(found, dtype=np.int64))

    def __or__(self, other: HeldOutShingles) -> HeldOutShingles:
        """The shingles of both."""
        union = HeldOutShingles(())
        union._sorted = np.union1d(self._sorted, other._sorted)
        return union

    def __len__(self) -> int:
        return len(self._sorted)

    def hits(self, text: str) -> tuple[int, int]:
        """How many of the text's shingles are held out, and how many it has."""
        found = shingles(text)
        if not found or not len(self._sorted):
            return 0, len(found)
        wanted = np.array(found, dtype=np.int64)
        places = np.minimum(np.searchsorted(self._sorted, wanted), len(self._sorted) - 1)
        return int(np.count_nonzero(self._sorted[places] == wanted)), len(found)

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
        hits, total = self.hits("\n".join(texts))
        return hits > 0 and (contained(hits, total) >= CONVERSATION_THRESHOLD or any(map(self.is_near_copy, texts)))


def similarity(left: str, right: str) -> float:
    """Jaccard similarity of the two texts' word sets, in [0, 1]; for telling near-copies among negatives."""
    a, b = set(_WORD.findall(left.lower())), set(_WORD.findall(right.lower()))
    return len(a & b) / len(a | b) if a or b else 1.0
