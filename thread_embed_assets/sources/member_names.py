"""The names that the members of a workspace go by, so that each of them can be masked."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

_SHORTEST_FIRST_NAME = 3
_SHORTEST_LAST_NAME = 4
_LAST_NAME = re.compile(r"[^\W\d_][\w'’.-]*")


def name_parts(names: Iterable[str]) -> set[str]:
    """First names of at least three letters, and last names of at least four, of names such as ``Ada Lowe (she/her)``."""
    found: set[str] = set()
    for name in names:
        words = name.split()
        if words and _letters(words[0]) >= _SHORTEST_FIRST_NAME:
            found.add(words[0])
        lasts = [word for word in words[1:] if _LAST_NAME.fullmatch(word)]
        if lasts and _letters(lasts[-1]) >= _SHORTEST_LAST_NAME:
            found.add(lasts[-1])
    return found


def sole_owners(names: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Every name that is one member's alone, to that member; upper and lower case are one, and shared names lead nowhere.

    Args:
        names: member to all names of that member.
    """
    owners = Counter(key for known in names.values() for key in {name.casefold() for name in known})
    return {
        alias: member
        for member, known in names.items()
        for alias in known
        if alias != member and owners[alias.casefold()] == 1
    }


def author_names(names: Mapping[str, Collection[str]]) -> dict[str, str]:
    """One name for each member, by id: the first of the member's that nobody shares, else the id.

    Args:
        names: member id to the names, the best first.
    """
    shared = Counter(key for known in names.values() for key in {name.casefold() for name in known})
    return {member: next((n for n in known if shared[n.casefold()] == 1), member) for member, known in names.items()}


def _letters(word: str) -> int:
    return sum(map(str.isalpha, word))
