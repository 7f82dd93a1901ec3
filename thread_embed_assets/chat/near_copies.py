"""Whether a text stands, whole or in large part, in a set of held-out texts.

The measure is containment of word 5-grams (Broder 1997, "On the resemblance and containment of documents"): the share of the
text's shingles found in the held-out set. Unlike Jaccard similarity it also finds a short text quoted from a long one, and a
window cut from a thread. Shingles never cross lines, so any cut of the same messages gives the same shingles.

A shingle is a 64-bit hash that is the same in every process, so it can be stored and shared. Many texts are hashed at once:
a word's hash is a polynomial of its bytes, a shingle's is one of its words' hashes, modulo 2^64 (after Karp and Rabin 1987,
"Efficient randomized pattern-matching algorithms"), with the bits mixed after each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thread_embed_assets.storage.atomic import atomic_file

SHINGLE_WORDS = 5
FEWEST_SHINGLES = 4
MESSAGE_THRESHOLD = 0.8
CONVERSATION_THRESHOLD = 0.5
RUN_WORDS = 12  # in a row: up to 11 words people say the same without having read it
NEAR_WORDS = 15  # of NEAR_SPAN words, in stretches of five or more
NEAR_SPAN = 24

_WORD = re.compile(r"\w+")
_NO_WORD = re.compile(r"[^\w\n]+")
_LABEL = re.compile(r"(?:^|(?<=\n))(?:\[\+\d+[dhm]\] )?(?:speaker_\d+: )?|@speaker_\d+")
_MENTION = re.compile(r"<@p_[0-9a-f]{10}>")

Hashes = NDArray[np.uint64]
Places = NDArray[np.int64]

_LINE_END, _TEXT_END = 1, 2
_BETWEEN_TEXTS = b"\xff"  # stands in no UTF-8


def _codes() -> bytes:
    """What each byte counts as: a byte of a word (in lower case), the end of a line or of a text, or 0."""
    ascii_codes = (ord(chr(byte).lower()) if _WORD.match(chr(byte)) else 0 for byte in range(128))
    codes = bytearray([*ascii_codes, *range(128, 256)])
    codes[ord("\n")], codes[ord(_BETWEEN_TEXTS)] = _LINE_END, _TEXT_END
    return bytes(codes)


_CODES = _codes()
_OF_BYTES = 0x9E3779B97F4A7C15  # this and the next two: odd, about half of their bits set
_OF_WORDS, _MIX = np.uint64(0xD6E8FEB86659FD93), np.uint64(0xFF51AFD7ED558CCD)
_HALF = np.uint64(32)
_BATCH_CHARACTERS = 1 << 15  # codes and powers of a batch fit into a core's second-level cache
_KEPT_POWERS = 1 << 19


@dataclass(slots=True)
class Shingled:
    """The words and shingles of several texts, one text after the other.

    Attributes:
        words: a 64-bit hash of each word in lower case, (words,).
        word_ends: where each text's words end in ``words``, (texts,).
        shingles: a 64-bit hash of each shingle, (shingles,); a shingle that stands twice is there twice.
        ends: where each text's shingles end in ``shingles``, (texts,).
    """

    words: Hashes
    word_ends: Places
    shingles: Hashes
    ends: Places


def shingled(texts: Sequence[str]) -> Shingled:
    """Words and word 5-grams of each line of each text, without speaker and time labels and mentions."""
    joined = _BETWEEN_TEXTS.join([_bytes(text) for text in texts]).translate(_CODES)
    codes = np.frombuffer(b"%c%b%c" % (_TEXT_END, joined, _TEXT_END), dtype=np.uint8)
    is_word = codes > _TEXT_END
    turns = (is_word[1:] != is_word[:-1]).nonzero()[0]
    before, last = turns[::2], turns[1::2]  # a word's place is that of the code before it
    text_ends = (codes == _TEXT_END).nonzero()[0][1 : len(texts) + 1]

    powers, inverses = _powers(len(codes))
    sums = (codes * powers).cumsum()
    words = sums.take(last)
    words -= sums.take(before)
    words *= inverses.take(before)
    _mix(words)

    of_line = text_ends.searchsorted(before, side="right")
    if _LINE_END in joined:
        of_line += (codes == _LINE_END).nonzero()[0].searchsorted(before, side="right")
    count = max(0, len(words) - SHINGLE_WORDS + 1)
    hashes = words[:count].copy()
    for later in range(1, SHINGLE_WORDS):
        hashes *= _OF_WORDS
        hashes += words[later : later + count]
    _mix(hashes)
    whole = of_line[:count] == of_line[len(words) - count :]
    return Shingled(words, before.searchsorted(text_ends), hashes[whole], before[:count][whole].searchsorted(text_ends))


def shingles(text: str) -> list[int]:
    """The hashes of one text's shingles; :func:`shingled` is many times faster for several."""
    found: list[int] = shingled([text]).shingles.tolist()
    return found


def _bytes(text: str) -> bytes:
    """The text without labels and mentions; a byte from 128 on is part of a word."""
    if "speaker_" in text or "[+" in text:
        text = _LABEL.sub("", text)
    if "<@p_" in text:
        text = _MENTION.sub("", text)
    return text.encode() if text.isascii() else _NO_WORD.sub(" ", text.lower()).encode()


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Powers 0 to ``count`` - 1 of the base of the words' polynomials, and of its inverse modulo 2^64."""
    powers, inverses = _usual_powers() if count <= _KEPT_POWERS else _computed_powers(count)
    return powers[:count], inverses


@lru_cache(maxsize=1)
def _usual_powers() -> tuple[Hashes, Hashes]:
    return _computed_powers(_KEPT_POWERS)


def _computed_powers(count: int) -> tuple[Hashes, Hashes]:
    bases = np.array([[_OF_BYTES], [pow(_OF_BYTES, -1, 1 << 64)]], dtype=np.uint64).repeat(count, axis=1)
    bases[:, 0] = 1
    powers, inverses = np.multiply.accumulate(bases, axis=1)
    return powers, inverses


def _mix(hashes: Hashes) -> None:
    """Spread every bit over the others, in place and one to one, so that sums of hashes do not cancel out."""
    hashes ^= hashes >> _HALF
    hashes *= _MIX
    hashes ^= hashes >> _HALF


def one_line(texts: Iterable[str]) -> str:
    """Several messages as one, so that shingles cross their lines: a copied stretch may be broken otherwise."""
    return " ".join(texts).replace("\n", " ")


def contained(hits: int, total: int) -> float:
    """Containment from counts; 0 where there are too few shingles to tell."""
    return hits / total if total >= FEWEST_SHINGLES else 0.0


@dataclass(frozen=True, slots=True)
class Marked:
    """Where a conversation says what is held out.

    Attributes:
        held_out: of each word, whether the 5-gram that starts with it is held out, (words,); 5-grams cross lines.
        ends: where each message's words end, (messages,).
    """

    held_out: NDArray[np.bool_]
    ends: Places

    def copies(self, positions: Sequence[int]) -> bool:
        """Whether the messages at these positions (in a row), or one of them, are held out in a part that tells something.

        That is a run of ``RUN_WORDS``, or ``NEAR_WORDS`` of ``NEAR_SPAN``, or nearly all of a shorter text.
        """
        spans = [(int(self.ends[i - 1]) if i else 0, int(self.ends[i])) for i in positions]
        if _holds_a_stretch(self.held_out[spans[0][0] : spans[-1][1]]):
            return True
        within = [self._within(*span) for span in spans]
        counts = [(int(found.sum()), len(found)) for found in within]
        whole = (sum(hits for hits, _ in counts), sum(total for _, total in counts))
        return any(contained(*count) >= MESSAGE_THRESHOLD for count in (whole, *counts))

    def _within(self, start: int, end: int) -> NDArray[np.bool_]:
        """Of the 5-grams that end before ``end``."""
        return self.held_out[start : max(start, end - SHINGLE_WORDS + 1)]


def _holds_a_stretch(held_out: NDArray[np.bool_]) -> bool:
    """Whether there is a run of ``RUN_WORDS``, or ``NEAR_WORDS`` within ``NEAR_SPAN``."""
    starts = held_out[: max(0, len(held_out) - SHINGLE_WORDS + 1)]
    if not starts.any():
        return False
    padded = np.concatenate([[False], starts, [False]])
    turns = (padded[1:] != padded[:-1]).nonzero()[0]
    if (turns[1::2] - turns[::2]).max() + SHINGLE_WORDS - 1 >= RUN_WORDS:
        return True
    covered = np.zeros(len(held_out) + 1, dtype=np.int64)
    for later in range(SHINGLE_WORDS):
        covered[later + 1 : later + 1 + len(starts)] |= starts
    so_far = covered.cumsum()
    span = min(NEAR_SPAN, len(held_out))
    return bool((so_far[span:] - so_far[:-span]).max() >= NEAR_WORDS)


class HeldOutShingles:
    """The shingles of all held-out texts, sorted: about ten bytes each, which is what held-out text costs in memory.

    Once saved, it is pickled as the name of its file, and all processes that unpickle it share one copy.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._known = np.empty(0, dtype=np.uint64)
        self._filter = _filter_of(self._known)
        self._texts: list[str] = []
        self._characters = 0
        self._hashes: list[Hashes] = []
        self._file: Path | None = None
        self.add(texts)

    def add(self, texts: Iterable[str]) -> None:
        """Hold these texts out, too."""
        for text in texts:
            self._texts.append(text)
            self._characters += len(text)
            if self._characters >= _BATCH_CHARACTERS:
                self._hash_texts()

    def add_hashes(self, hashes: Hashes) -> None:
        """Hold out texts whose shingles are at hand."""
        self._hashes.append(hashes)

    def _hash_texts(self) -> None:
        self._hashes.append(shingled(self._texts).shingles)
        self._texts, self._characters = [], 0

    def _settle(self) -> None:
        """Sort in what was added since the last time."""
        if self._texts:
            self._hash_texts()
        if self._hashes:
            everything = np.concatenate([self._known, *self._hashes])
            self._hashes, self._file = [], None
            everything.sort()  # np.unique hashes first, which takes several times as long
            first = np.ones(len(everything), dtype=np.bool_)
            np.not_equal(everything[1:], everything[:-1], out=first[1:])
            self._known = everything[first]
            self._filter = _filter_of(self._known)

    def __or__(self, other: HeldOutShingles) -> HeldOutShingles:
        """The shingles of both."""
        self._settle()
        other._settle()
        union = HeldOutShingles()
        union._hashes = [self._known, other._known]
        return union

    def __len__(self) -> int:
        self._settle()
        return len(self._known)

    def save(self, path: Path) -> None:
        """Write to a file; as long as nothing is added, pickling means naming that file."""
        self._settle()
        with atomic_file(path) as part, part.open("wb") as file:
            np.save(file, np.concatenate([np.array([len(self._filter)], dtype=np.uint64), self._filter, self._known]))
        self._file = path

    @classmethod
    def load(cls, path: Path, mmap: bool = True) -> HeldOutShingles:
        """What :meth:`save` wrote; with ``mmap`` it is read where it is used, and shared with other processes."""
        stored = np.asarray(np.load(path, mmap_mode="r" if mmap else None))
        end = 1 + int(stored[0])
        loaded = cls()
        loaded._filter, loaded._known, loaded._file = stored[1:end], stored[end:], path
        return loaded

    def __reduce__(self) -> tuple[Any, ...]:
        self._settle()
        if self._file is not None:
            return HeldOutShingles.load, (self._file,)
        return HeldOutShingles, (), {"_known": self._known, "_filter": self._filter}

    def found(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Which of the shingles are held out, in the shape of ``hashes``."""
        self._settle()
        found = _pass(self._filter, hashes)
        places = found.nonzero()[0]
        if len(places):
            likely = hashes[places]
            found[places] = self._known.take(self._known.searchsorted(likely), mode="clip") == likely
        return found

    def hits(self, text: str) -> tuple[int, int]:
        """How many of the text's shingles are held out, and how many it has."""
        return self.hits_of_each([text])[0]

    def hits_of_each(self, texts: Sequence[str]) -> list[tuple[int, int]]:
        """:meth:`hits` of several texts, looked up together, which is many times faster; best with a hundred or more."""
        return [count for batch in batches(texts) for count in self._hits_of_batch(batch)]

    def _hits_of_batch(self, texts: Sequence[str]) -> Iterator[tuple[int, int]]:
        hashed = shingled(texts)
        hits = self.found(hashed.shingles).nonzero()[0].searchsorted(hashed.ends)
        return zip(_differences(hits), _differences(hashed.ends), strict=True)

    def mark_each(self, conversations: Sequence[Sequence[str]]) -> list[Marked | None]:
        """Where each conversation says what is held out; None where it does nowhere."""
        joined = map(one_line, conversations)
        given = iter(conversations)
        return [marked for batch in batches(joined) for marked in self._mark_batch(batch, given)]

    def _mark_batch(self, joined: Sequence[str], given: Iterator[Sequence[str]]) -> Iterator[Marked | None]:
        hashed = shingled(joined)
        found = self.found(hashed.shingles)
        for start, end, word_start, word_end in zip(
            np.concatenate([[0], hashed.ends[:-1]]),
            hashed.ends,
            np.concatenate([[0], hashed.word_ends[:-1]]),
            hashed.word_ends,
            strict=True,
        ):
            texts = next(given)
            if not found[start:end].any():
                yield None
                continue
            held_out = np.zeros(word_end - word_start, dtype=np.bool_)
            held_out[: end - start] = found[start:end]
            yield Marked(held_out, shingled(texts).word_ends)

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


def batches(texts: Iterable[str], characters: int = _BATCH_CHARACTERS) -> Iterator[list[str]]:
    """The texts in lists, each closed by the text with which it reaches so many characters."""
    batch: list[str] = []
    so_far = 0
    for text in texts:
        batch.append(text)
        so_far += len(text)
        if so_far >= characters:
            yield batch
            batch, so_far = [], 0
    if batch:
        yield batch


def _differences(ends: Places) -> list[int]:
    lengths = ends.copy()
    lengths[1:] -= ends[:-1]
    found: list[int] = lengths.tolist()
    return found


# A bit for each of the first so many bits of a hash, 8 to 16 bits a shingle: nine of ten strangers stop here, at the cost of
# one look into memory instead of one for each halving of the sorted shingles.
_FILTER_BITS = 8
_WORD_BITS = 64
_OF_WORD, _BIT, _ONE = np.uint64(6), np.uint64(63), np.uint64(1)


def _filter_of(known: Hashes) -> Hashes:
    bits = max(_WORD_BITS, 1 << (_FILTER_BITS * len(known) - 1).bit_length())
    found = np.zeros(bits // _WORD_BITS, dtype=np.uint64)
    for start in range(0, len(known), _BATCH_CHARACTERS):
        heads = _heads(found, known[start : start + _BATCH_CHARACTERS])
        np.bitwise_or.at(found, heads >> _OF_WORD, _ONE << (heads & _BIT))
    return found


def _pass(filter_words: Hashes, hashes: Hashes) -> NDArray[np.bool_]:
    heads = _heads(filter_words, hashes)
    bits = filter_words.take((heads >> _OF_WORD).view(np.int64))
    bits >>= heads & _BIT
    bits &= _ONE
    return bits.astype(np.bool_)


def _heads(filter_words: Hashes, hashes: Hashes) -> Hashes:
    """The first bits of each hash, as many as number the filter's bits."""
    heads: Hashes = hashes >> np.uint64(_WORD_BITS - (len(filter_words) * _WORD_BITS - 1).bit_length())
    return heads


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
