"""How a contender reads queries and documents."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from thread_embed_assets.chat.formats import DEFAULT_FORMAT


@dataclass(frozen=True)
class Reading:
    """A text format, and what a dense contender makes of texts in it.

    Attributes:
        text_format: a name of ``FORMATS``.
        fitted: the model weighs its tokens by their idf in the documents that are searched, as BM25 does, and not by that of
            its training texts, or all alike.
        by_window: a document is several vectors (:mod:`.by_window`), not one.
    """

    text_format: str = DEFAULT_FORMAT
    fitted: bool = False
    by_window: bool = False

    def __str__(self) -> str:
        return f"{self.text_format}{', fitted' if self.fitted else ''}{' by window' if self.by_window else ''}"


def in_formats(names: Iterable[str]) -> tuple[Reading, ...]:
    """Documents whole, in each of these text formats."""
    return tuple(Reading(name) for name in names)


def whole_and_by_window(readings: Iterable[Reading]) -> tuple[Reading, ...]:
    """Each of the readings, and then each with documents by window."""
    given = tuple(readings)
    return (*given, *(replace(reading, by_window=True) for reading in given))
