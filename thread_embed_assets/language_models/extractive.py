"""The offline stand-in: lines made of a thread's own most telling words, so that the graph runs without any model.

Words are weighed by in how many messages they stand and by how rare they are in English (Zipf frequency of ``wordfreq``, in
place of an inverse document frequency: a thread's lines then depend on nothing but the thread). The central message is the
one whose words weigh most by its length. These lines are made of words that stand in the thread: they train lexical match,
say ``extractive`` in every row, and are never truth of a benchmark.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from math import sqrt

from thread_embed_assets.language_models.cost import Price
from thread_embed_assets.language_models.writers import Request, Result, Task, Written

NAME = "extractive"
_LABEL = re.compile(r"^speaker_\d+: ")
_MARKS = re.compile(r"@speaker_\d+|\[[A-Z]{2,}\]|https?://\S+|\S{40,}|\b\w+n['’]t\b|['’](?:s|ll|re|ve|d|m)\b")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_+#-]*(?:\.[A-Za-z0-9_+#-]+)*")
_FUNCTION_WORD = 5.3  # Zipf frequency from which a word carries little: "the", "anyone", "working"
_GREETINGS = "hello hey everybody anybody gonna wanna dunno hmm lol haha guess tried sorry bye"
_SMALL_TALK = frozenset(_GREETINGS.split())
_KNOWN_ONCE = 1.5  # rarer words must stand twice: else they are mostly slips of the keyboard
_TITLE_WORDS, _SUMMARY_WORDS, _QUESTION_WORDS = 5, 16, 8
_FEWEST_WORDS = 3


class ExtractiveWriter:
    """Makes lines from a thread's own words; free, deterministic, some 500 threads a second on one core."""

    name = NAME
    price: Price | None = None
    paid_for = False

    def pending(self, task: Task) -> Iterator[Result]:
        return iter(())

    def write(self, task: Task, requests: Iterable[Request]) -> Iterator[Result]:
        for request in requests:
            written = extract(request.text)
            yield Result(request.key, written, None if written else "nothing_to_say")


def extract(text: str) -> Written | None:
    """Lines about a conversation, one message a line; None if it has too few telling words for four different ones."""
    messages = [_words(_LABEL.sub("", line)) for line in text.split("\n")]
    weights = _weights(messages)
    ranked = sorted(weights, key=lambda word: (-weights[word], word))
    if len(ranked) < _FEWEST_WORDS:
        return None
    central = max(messages, key=lambda words: sum(weights.get(w, 0.0) for w in dict.fromkeys(words)) / sqrt(len(words) + 4))
    opening = next(words for words in messages if any(word in weights for word in words))
    title = _in_order(messages, ranked[:_TITLE_WORDS])
    summary = dict.fromkeys([*(word for word in central if word in weights), *ranked[:_FEWEST_WORDS]])
    start = frozenset(word for word in opening if word in weights)
    first = _at_least([word for word in ranked if word in start], ranked)
    second = _at_least([word for word in ranked if word not in start], ranked)
    questions = (_in_order(messages, words[:_QUESTION_WORDS]) for words in (first, second))
    lines = [" ".join(words) for words in (title, list(summary)[:_SUMMARY_WORDS], *questions)]
    if len(set(lines)) < len(lines):
        return None
    return Written(title=lines[0], summary=lines[1], questions=(lines[2], lines[3]))


def _at_least(words: list[str], ranked: Sequence[str]) -> list[str]:
    """The words, and if they are very few the most telling ones besides."""
    more = [word for word in ranked if word not in words]
    return words + more[: max(0, _FEWEST_WORDS - len(words))]


def _words(line: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(_MARKS.sub(" ", line)) if len(word) > 2]


def _weights(messages: Sequence[Sequence[str]]) -> dict[str, float]:
    """Telling words and their weights: the square root of the messages that hold one, times its rarity in English."""
    counts = Counter(word for words in messages for word in set(words))
    found: dict[str, float] = {}
    for word, count in counts.items():
        frequency = _zipf(word)
        if frequency < _FUNCTION_WORD and word not in _SMALL_TALK and (frequency > _KNOWN_ONCE or count > 1):
            found[word] = sqrt(count) * (7.0 - max(frequency, _KNOWN_ONCE))
    return found


def _in_order(messages: Sequence[Sequence[str]], wanted: Sequence[str]) -> list[str]:
    """The wanted words in the order in which the conversation first says them."""
    chosen = frozenset(wanted)
    return list(dict.fromkeys(word for words in messages for word in words if word in chosen))


@lru_cache(maxsize=200_000)
def _zipf(word: str) -> float:
    from wordfreq import zipf_frequency

    return float(zipf_frequency(word, "en", wordlist="small"))
