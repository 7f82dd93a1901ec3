"""Other ways to read a task: with people's names, by names alone, with typing errors, in other words."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Literal

from thread_embed_assets.chat.formats import MENTION
from thread_embed_assets.chat.model import Message
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import open_table

View = Literal["masked", "intact", "names", "typos", "paraphrase"]

_PERSON = re.compile(r"<@?(p_[0-9a-f]{10})>")
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    letter: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in _KEYBOARD
    for place, letter in enumerate(row)
}
_TYPO_EVERY = 12  # letters


def with_people(messages: Sequence[Message]) -> str:
    """The messages with the opaque ids of authors and of those they mention: ``<p_...> text <@p_...>``, a line each."""
    return "\n".join(f"<{m.author}> {m.text}" for m in messages)


def read_names(people: Path) -> dict[str, str]:
    """Person id to the first of their names, from the private table; empty where there is none."""
    if not people.exists():
        return {}
    rows = sorted(open_table(people, "people").rows_as_dicts(), key=lambda row: (str(row["person_id"]), str(row["name"])))
    return {str(row["person_id"]): str(row["name"]) for row in reversed(rows)}


def intact(text: str, names: Mapping[str, str]) -> str:
    """A text of :func:`with_people` as its platform showed it: ``<name> text``, mentions as bare names."""
    shown = MENTION.sub(lambda found: names.get(found[1], ""), text)
    return _PERSON.sub(lambda found: f"<{names.get(found[1], '')}>", shown)


def names_only(text: str, names: Mapping[str, str]) -> str:
    """Only the names of those who speak and are mentioned, in their order."""
    return " ".join(names.get(person, "") for person in _PERSON.findall(text))


def with_typos(text: str, key: str) -> str:
    """The text with a typing error in about one of twelve letters, drawn by ``key``.

    Errors are those of Damerau (1964): two letters swapped, one left out, one doubled, one replaced (by its neighbour on a
    QWERTY keyboard). Text with hardly a letter stays as it is.
    """
    draw = Random(seed("typos", key))
    letters = list(text)
    places = [i for i in range(1, len(letters)) if {letters[i - 1], letters[i]} <= set(string.ascii_letters)]
    for place in sorted(draw.sample(places, max(1, len(places) // _TYPO_EVERY)) if len(places) > 2 else [], reverse=True):
        letter = letters[place]
        match draw.choice(("swap", "leave out", "double", "replace")):
            case "swap":
                letters[place - 1 : place + 1] = [letter, letters[place - 1]]
            case "leave out":
                letters[place] = ""
            case "double":
                letters[place] = letter * 2
            case _:
                letters[place] = draw.choice(_NEIGHBOURS[letter.lower()] or letter)
    return "".join(letters)
