"""A long document as several vectors: one per window of lines, of which those that fit a query count.

An encoder reads only the beginning of a long thread, and its one vector is a mean of all that was said. A query is mostly
about one place in it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.benchmark.retrievers import Dense, Scores, cut_to

# Of MiniLM with token weights fitted to them, MRR@10 of 300 Slack, 591 IRC and 126 Topical-Chat threads of train: whole
# .349, .407, .312; best window of 64 tokens .415, .420, .382, of 32 tokens .435, .420, .375; all windows of 32 together
# .470, .441, .394, and 0.3 of the whole .468, .450, .407 (BM25 .372, .389, .417). Summaries of dev: whole .631, .852, .607,
# windows together .691, .801, .648, and 0.3 of the whole .734, .827, .767.
WINDOW_CHARACTERS = 160  # some 32 tokens
CONCENTRATION = 40.0
WHOLE_SHARE = 0.3
_OVERLAP_CHARACTERS = 40
_WINDOWS_AT_ONCE = 1 << 16


def windows(text: str, characters: int = WINDOW_CHARACTERS) -> list[str]:
    """Runs of whole lines of up to ``characters`` in all, in order; at least one.

    A longer line is cut at spaces where it has any. A window begins with the last line of the one before if that is short,
    so that an answer keeps its question.
    """
    return [window.text for window in placed_windows(text, characters)]


@dataclass(frozen=True)
class Window:
    """One of the :func:`windows` of a text, and the first and the last line of the text that stand in it, from 0."""

    text: str
    first: int
    last: int


def placed_windows(text: str, characters: int = WINDOW_CHARACTERS) -> list[Window]:
    """:func:`windows`, and where they stand."""
    found: list[Window] = []
    lines: list[tuple[int, str]] = []
    fresh = 0  # lines that no window holds yet
    for place, line in _short_lines(text, characters):
        if lines and sum(len(other) for _, other in lines) + len(lines) + len(line) > characters:
            found.append(_window(lines))
            short = len(lines[-1][1]) <= min(_OVERLAP_CHARACTERS, characters - len(line) - 1)
            lines = lines[-1:] if fresh and short else []
            fresh = 0
        lines.append((place, line))
        fresh += 1
    return [*found, _window(lines)] if fresh or not found else found


def _window(lines: Sequence[tuple[int, str]]) -> Window:
    places = [place for place, _ in lines] or [0]
    return Window("\n".join(line for _, line in lines), places[0], places[-1])


def _short_lines(text: str, characters: int) -> Iterator[tuple[int, str]]:
    for place, line in enumerate(text.split("\n")):
        parts = [line] if len(line) <= characters else textwrap.wrap(line, characters, break_on_hyphens=False)
        yield from ((place, part) for part in parts)


class ByWindow:
    """How well a query fits a document: to one of its windows, and to all of it.

    The mean of ``log(mean(exp(k * cosine))) / k`` over the windows and of the cosine similarity to the document read whole,
    which has the weight ``WHOLE_SHARE`` beside 1. The first is, up to a constant, the log-likelihood of the query's
    direction where a document is an even mixture of von Mises-Fisher distributions around its windows, with the
    concentration ``k`` (Banerjee et al., JMLR 6, 2005). With an infinite one the best window alone counts (MaxP of Dai and
    Callan, arXiv 1905.09217), which favours long documents: they have more windows to be best with.

    Args:
        queries: unit vectors [queries, dim].
        windows: unit vectors [windows, dim], document by document.
        counts: windows of each document [documents], at least one each; they sum up to the number of windows.
        documents: unit vectors [documents, dim] of the documents read whole; None leaves them out.
        truncate_dim: use the first components of each vector, made unit again.
        concentration: above 0.
    """

    floor = float("-inf")

    def __init__(
        self,
        queries: Vectors,
        windows: Vectors,
        counts: Sequence[int],
        documents: Vectors | None = None,
        truncate_dim: int | None = None,
        concentration: float = CONCENTRATION,
    ) -> None:
        assert (not counts or min(counts) > 0) and sum(counts) == len(windows)
        self.shape = (len(queries), len(counts))
        self._queries, self._windows = cut_to(queries, truncate_dim), cut_to(windows, truncate_dim)
        self._starts = np.cumsum([0, *counts])
        self._whole = None if documents is None else Dense(queries, documents, truncate_dim)
        self._concentration = concentration

    def block(self, start: int, stop: int) -> Scores:
        """Many windows are scored part by part, so that memory does not grow with them."""
        scores = np.empty((stop - start, self.shape[1]), dtype=np.float32)
        first = 0
        while first < self.shape[1]:
            begin = self._starts[first]
            last = max(first + 1, int(np.searchsorted(self._starts, begin + _WINDOWS_AT_ONCE, side="right")) - 1)
            cosines = self._queries[start:stop] @ self._windows[begin : self._starts[last]].T
            scores[:, first:last] = self._together(cosines, self._starts[first : last + 1] - begin)
            first = last
        if self._whole is not None:
            scores += WHOLE_SHARE * self._whole.block(start, stop)
            scores /= 1 + WHOLE_SHARE
        return scores

    def _together(self, cosines: Scores, starts: NDArray[np.intp]) -> Scores:
        best: Scores = np.maximum.reduceat(cosines, starts[:-1], axis=1)
        if self._concentration == np.inf:
            return best
        counts = np.diff(starts)
        cosines -= np.repeat(best, counts, axis=1)
        mean = np.add.reduceat(np.exp(self._concentration * cosines), starts[:-1], axis=1) / counts
        return best + (np.log(mean) / self._concentration).astype(np.float32)
