"""A long document as several vectors: one per window of lines, of which the best counts.

An encoder reads only the beginning of a long thread, and its one vector is a mean of all that was said. A query is mostly
about one place in it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

import numpy as np

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.benchmark.retrievers import Scores, cut_to

BY_WINDOW = " by window"
WINDOW_CHARACTERS = 320  # some 70 tokens; of 64, 126 and 254 tokens the shortest windows were the best on train threads
_OVERLAP_CHARACTERS = 80
_WINDOWS_AT_ONCE = 1 << 16


def whole_and_by_window(formats: Sequence[str]) -> tuple[str, ...]:
    """The text formats, and each of them with documents read by window: ``plain``, ``plain by window``."""
    return (*formats, *(f"{name}{BY_WINDOW}" for name in formats))


def whole(text_format: str) -> str:
    """The text format, documents read whole."""
    return text_format.removesuffix(BY_WINDOW)


def windows(text: str, characters: int = WINDOW_CHARACTERS) -> list[str]:
    """Runs of whole lines of up to ``characters`` in all, in order; at least one.

    A longer line is cut at spaces where it has any. A window begins with the last line of the one before if that is short,
    so that an answer keeps its question.
    """
    found: list[str] = []
    lines: list[str] = []
    fresh = 0  # lines that no window holds yet
    for line in _short_lines(text, characters):
        if lines and sum(map(len, lines)) + len(lines) + len(line) > characters:
            found.append("\n".join(lines))
            lines = lines[-1:] if fresh and len(lines[-1]) <= min(_OVERLAP_CHARACTERS, characters - len(line) - 1) else []
            fresh = 0
        lines.append(line)
        fresh += 1
    return [*found, "\n".join(lines)] if fresh or not found else found


def _short_lines(text: str, characters: int) -> Iterator[str]:
    for line in text.split("\n"):
        yield from [line] if len(line) <= characters else textwrap.wrap(line, characters, break_on_hyphens=False)


class BestWindow:
    """Cosine similarity of a query and the best of each document's windows (MaxP of Dai and Callan, arXiv 1905.09217).

    Args:
        queries: unit vectors [queries, dim].
        windows: unit vectors [windows, dim], document by document.
        counts: windows of each document [documents], at least one each; they sum up to the number of windows.
        truncate_dim: use the first components of each vector, made unit again.
    """

    floor = float("-inf")

    def __init__(self, queries: Vectors, windows: Vectors, counts: Sequence[int], truncate_dim: int | None = None) -> None:
        assert (not counts or min(counts) > 0) and sum(counts) == len(windows)
        self.shape = (len(queries), len(counts))
        self._queries, self._windows = cut_to(queries, truncate_dim), cut_to(windows, truncate_dim)
        self._starts = np.cumsum([0, *counts])

    def block(self, start: int, stop: int) -> Scores:
        """Many windows are scored part by part, so that memory does not grow with them."""
        scores = np.empty((stop - start, self.shape[1]), dtype=np.float32)
        first = 0
        while first < self.shape[1]:
            begin = self._starts[first]
            last = max(first + 1, int(np.searchsorted(self._starts, begin + _WINDOWS_AT_ONCE, side="right")) - 1)
            part = self._queries[start:stop] @ self._windows[begin : self._starts[last]].T
            scores[:, first:last] = np.maximum.reduceat(part, self._starts[first:last] - begin, axis=1)
            first = last
        return scores
