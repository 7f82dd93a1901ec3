"""Simulated users: what they have to do with, how they write, and names that nobody has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from random import Random

from thread_embed_assets.chat.model import Split
from thread_embed_assets.reranker.synthetic.wording import Domain, domains, fill, sentence, words
from thread_embed_assets.storage.fingerprint import seed as seed_of

PROFILES = 500

_OF_TEN = (*(Split.TRAIN,) * 8, Split.DEV, Split.TEST)
_WORD = re.compile(r"[a-z]{5,}")
_LONE_I = re.compile(r"\bi\b(?![.])")


@dataclass(frozen=True)
class Style:
    """How somebody types.

    Attributes:
        lower: share of messages without capitals.
        typos: share of messages with a slip.
        fillers: share that begin with ``ok``, ``so`` and the like.
        stops: share that keep the sign at the end.
    """

    lower: float
    typos: float
    fillers: float
    stops: float

    def type(self, text: str, draw: Random, spared: str = "") -> str:
        """The text as this person types it; words of ``spared`` keep their letters."""
        if draw.random() < self.typos:
            text = _slip(text, draw, spared)
        if draw.random() > self.stops and text[-1] in ".?!" and text[-2:-1] not in ".?!":
            text = text[:-1]
        return text.lower() if draw.random() < self.lower else sentence(_LONE_I.sub("I", text))


@dataclass(frozen=True)
class Profile:
    """A simulated user.

    Attributes:
        domain: what most of the threads are about.
        side: what the others are about.
    """

    id: str
    split: Split
    domain: Domain
    side: Domain
    style: Style
    seed: int

    @property
    def user(self) -> str:
        return _person(self.id, "user")

    @property
    def assistant(self) -> str:
        return _person(self.id, "assistant")


def profile(number: int, seed: int) -> Profile:
    """The same for the same numbers; each domain has as many users, and one in ten of them is dev's and one test's."""
    every = list(domains().values())
    place = number % len(every)
    draw = Random(seed_of("profile", seed, number))
    side = draw.choice([domain for domain in every if domain.software != every[place].software])
    style = Style(draw.choice([0.3, 0.9, 1.0]), draw.uniform(0, 0.2), draw.uniform(0, 0.3), draw.uniform(0.2, 1))
    split = _OF_TEN[(number // len(every) + place) % len(_OF_TEN)]
    return Profile(f"u{number:03}", split, every[place], side, style, seed_of("chat", seed, number))


def values(draw: Random) -> dict[str, str]:
    """What fills the small slots: numbers, days, sums and an invented person."""
    day, day2 = draw.sample(words("day"), 2)
    number = draw.randint(12, 80)
    low, high = sorted(draw.sample(range(3, 28), 2))
    return {
        "n": str(number),
        "n2": str(number + draw.randint(3, 30)),
        "no": str(low),
        "no2": str(high),
        "day": day,
        "day2": day2,
        "money": f"{draw.randint(4, 95) * 100:,}",
        "p": invented(draw),
    }


def name_like(pattern: str, draw: Random) -> str:
    """An invented name of a project, place or firm."""
    coin, coin2, noun = invented(draw), invented(draw), draw.choice(words("noun"))
    slots: Mapping[str, str] = {
        "Coin": coin,
        "coin": coin.lower(),
        "Coin2": coin2,
        "Adj": draw.choice(words("adjective")),
        "noun": noun,
        "Noun": noun.capitalize(),
        "n": str(draw.randint(12, 980)),
        "no": str(draw.randint(2, 12)),
    }
    return fill(pattern, slots)


def invented(draw: Random) -> str:
    """A name that is no word and no name of anybody."""
    while True:
        name = "".join(draw.choice(words(part)) for part in ("begin", "middle", "end", "last"))
        if not _is_known(name.lower()):
            return name


@cache
def _is_known(word: str) -> bool:
    from wordfreq import zipf_frequency

    return bool(zipf_frequency(word, "en") > 0)


def _slip(text: str, draw: Random, spared: str) -> str:
    """Two letters swapped, one left out or one doubled, inside a word."""
    words = [found for found in _WORD.finditer(text) if found[0] not in spared.lower()]
    if not words:
        return text
    word = draw.choice(words)
    at = draw.randrange(word.start() + 1, word.end() - 2)
    kind = draw.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :] if kind == 1 else text[:at] + text[at] + text[at:]


def _person(profile: str, role: str) -> str:
    return "p_" + blake2b(f"{profile} {role}".encode(), digest_size=5).hexdigest()
