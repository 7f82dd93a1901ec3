"""What people and the assistant say: templates and domains, declared in YAML, each wording the property of one split.

Of five lines in a row three are train's, one is dev's and one is test's; so are the wordings of what a domain's threads say
and how it is referred to. What a model has read in training, it does not meet again: only the names that fill the slots
of the assistant's lines (dishes, steps, documents) are the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from typing import Any, Literal

import yaml

from thread_embed_assets.chat.model import Split

TopicType = Literal[
    "budget", "choose", "dispute", "draft", "learn", "move", "order", "people", "plan", "review", "schedule", "troubleshoot"
]

_FOLDER = Path(__file__).parent
_OF_FIVE = (Split.TRAIN, Split.TRAIN, Split.TRAIN, Split.DEV, Split.TEST)
_OF_FOUR = (Split.TRAIN, Split.TRAIN, Split.DEV, Split.TEST)
_OF_SIX = (Split.TRAIN, Split.TRAIN, Split.TRAIN, Split.DEV, Split.TEST, Split.TEST)
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Wording:
    """A template: ``[a|b|]`` is one of these, ``{name}`` a slot.

    Attributes:
        id: unique among all wordings; the same in every build.
    """

    id: str
    pattern: str

    @property
    def is_whole(self) -> bool:
        """Whether it is a message by itself and not a name for something."""
        return self.pattern[-1] in ".?!"

    def write(self, draw: Random, slots: Mapping[str, str]) -> str:
        """The text; of a slot in capitals (``{Said}``) the first letter is one."""
        text = _CHOICE.sub(lambda found: draw.choice(found[1].split("|")), self.pattern)
        return fill(text, slots).strip()

    def forms(self) -> Iterator[str]:
        """Every way to choose, with slots left as they are."""
        pieces = _CHOICE.split(self.pattern)
        for choice in product(*(piece.split("|") if number % 2 else [piece] for number, piece in enumerate(pieces))):
            yield "".join(choice).strip()


def fill(text: str, slots: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[1]
        return slots[name] if name in slots else sentence(slots[name.lower()])

    return _SLOT.sub(value, text)


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


@dataclass(frozen=True)
class Facet:
    """Something that a thread may say, and how people refer to it in other words.

    Attributes:
        said: clauses, by split.
        asked: names for it, and whole messages about it, by split.
    """

    id: str
    said: Mapping[Split, Sequence[Wording]]
    asked: Mapping[Split, Sequence[Wording]]


@dataclass(frozen=True)
class Topic:
    """What a thread can be about; where ``materials`` has none of a kind, the assistant says nothing of that kind.

    Attributes:
        subjects: short names for it.
        things: patterns of the names of what it is about.
        also: what people call it, without its name and seldom in its words, by split.
        needs: what the user wants to do, with ``{e}`` for the name, by split.
        materials: what fills the slots of the assistant's lines, by kind (``choices``, ``actions``, ...).
    """

    id: str
    type: str
    subjects: Sequence[str]
    things: Sequence[str]
    also: Mapping[Split, Sequence[Wording]]
    needs: Mapping[Split, Sequence[Wording]]
    materials: Mapping[str, Sequence[str]]
    facets: Sequence[Facet]


@dataclass(frozen=True)
class Domain:
    name: str
    software: bool
    topics: Sequence[Topic]


@cache
def domains() -> Mapping[str, Domain]:
    """By name, in alphabetical order."""
    return {path.stem: _domain(path) for path in sorted((_FOLDER / "domains").glob("*.yaml"))}


@cache
def wordings(file: str, key: str, split: Split) -> Sequence[Wording]:
    """The templates under one key of ``wording/<file>.yaml`` that belong to a split."""
    return _by_split(f"{file}.{key}", _read(file)[key].splitlines(), _OF_FIVE)[split]


@cache
def keys(file: str) -> Sequence[str]:
    return tuple(_read(file))


@cache
def words(key: str) -> Sequence[str]:
    """What names are made of."""
    return tuple(_read("names")[key].split())


@cache
def _read(file: str) -> Mapping[str, str]:
    found: dict[str, str] = yaml.safe_load((_FOLDER / "wording" / f"{file}.yaml").read_text(encoding="utf-8"))
    return found


def _domain(path: Path) -> Domain:
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    topics = tuple(_topic(f"{path.stem}.{topic.pop('topic')}", topic) for topic in declared["topics"])
    return Domain(path.stem, declared["software"], topics)


def _topic(name: str, declared: dict[str, Any]) -> Topic:
    facets = tuple(
        Facet(
            f"{name}.{number}",
            _by_split(f"{name}.{number}.said", _parts(facet["said"]), _OF_FOUR),
            _by_split(f"{name}.{number}.asked", _parts(facet["asked"]), _OF_SIX, shift=number % 2 * 3),
        )
        for number, facet in enumerate(declared.pop("facets"))
    )
    needs = _by_split(f"{name}.need", _parts(declared.pop("needs")), _OF_FIVE)
    also = _by_split(f"{name}.also", _parts(declared.pop("also")), _OF_SIX, shift=len(name) % 6)
    subjects, things = _parts(declared.pop("subject")), _parts(declared.pop("thing"))
    type_ = declared.pop("type")
    return Topic(name, type_, subjects, things, also, needs, {kind: _parts(text) for kind, text in declared.items()}, facets)


def _parts(text: str) -> Sequence[str]:
    return tuple(part.strip() for part in text.split(" / "))


def _by_split(
    name: str, patterns: Sequence[str], owners: Sequence[Split], shift: int = 0
) -> Mapping[Split, Sequence[Wording]]:
    """``shift`` lets the owners take turns, since the words that come to mind last are the furthest off."""
    found: dict[Split, list[Wording]] = {split: [] for split in Split}
    for number, pattern in enumerate(patterns):
        found[owners[(number + shift) % len(owners)]].append(Wording(f"{name}.{number}", pattern))
    return found
