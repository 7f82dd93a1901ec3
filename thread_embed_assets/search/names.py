"""What people are called, for the eyes of those whose data it is: in memory alone, never in a file or a log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from thread_embed_assets.chat.formats import MENTION
from thread_embed_assets.chat.people import Masker, salt
from thread_embed_assets.sources.catalog import Source
from thread_embed_assets.sources.parsers import aliases
from thread_embed_assets.storage.layout import Layout
from thread_embed_assets.storage.tables import open_table


@dataclass(frozen=True)
class Names:
    """The names of one source's people.

    Attributes:
        masker: gives a name its opaque id; None where no names are known.
        shown: opaque id to the name that results show; empty where they are to stay masked.
        known: every known name, in lower case, to the ids of those who bear it.
    """

    masker: Masker | None = field(default=None, repr=False)
    shown: Mapping[str, str] = field(default_factory=dict, repr=False)
    known: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)

    def masked(self, query: str) -> str:
        """A query as the model and the index see texts: the names of people taken out."""
        if self.masker is None:
            return query
        return MENTION.sub(" ", self.masker.mask(query, frozenset(self.known)))

    def people(self, wanted: str) -> frozenset[str]:
        """The ids of whoever is called that, by a whole name or, where nobody is, by the beginning of one."""
        name = wanted.strip().removeprefix("@").casefold()
        if name in self.known or not name:
            return self.known.get(name, frozenset())
        return frozenset().union(*(ids for other, ids in self.known.items() if other.startswith(name)))

    def in_thread(self, people: Iterable[str]) -> dict[str, str]:
        """How the people of one thread are shown, in the order in which they appear: by name, or as ``speaker_k``."""
        found: dict[str, str] = {}
        for person in people:
            if person not in found:
                found[person] = self.shown.get(person) or f"speaker_{len(found) + 1}"
        return found


def read_names(source: Source | str, layout: Layout, *, show: bool) -> Names:
    """The names that the private table keeps and, better written, those of the raw files.

    Args:
        source: a catalogue's entry; a name alone reads the private table only.
        layout: where both lie.
        show: whether results are to show them.
    """
    name = source if isinstance(source, str) else source.name
    table, files = layout.people(name), layout.raw(name) / "files"
    stored = [] if not table.exists() else list(open_table(table, "people").rows_as_dicts())
    authors = aliases(files, source) if isinstance(source, Source) and files.is_dir() else {}
    if not stored and not authors:
        return Names()
    masker = Masker(name, salt(layout), authors)
    known: dict[str, set[str]] = {}
    shown: dict[str, str] = {}
    for row in sorted(stored, key=lambda row: (row["person_id"], row["name"])):
        known.setdefault(row["name"], set()).add(row["person_id"])
        shown.setdefault(row["person_id"], row["name"])
    for alias, author in authors.items():
        person = masker.person(author)
        shown[person] = author
        for written in (alias, author):
            known.setdefault(written.casefold(), set()).add(person)
    return Names(masker, shown if show else {}, {key: frozenset(ids) for key, ids in known.items()})
