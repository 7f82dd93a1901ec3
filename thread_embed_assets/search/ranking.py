"""An index in memory: how well a query fits each of its threads, by words and by meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from thread_embed_assets.benchmark.by_window import ByWindow
from thread_embed_assets.benchmark.embeddings import Vectors
from thread_embed_assets.benchmark.retrievers import Scores
from thread_embed_assets.search.index import reading

K1, B = 1.5, 0.75  # as the benchmark's BM25

_AT_ONCE = 1 << 15  # vectors that are made float32 at once
_ROWS = 4_096

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Index:
    """What of a room's threads is needed to rank them, in the order of their numbers.

    Attributes:
        path: the file, where their words are looked up.
        content: names what was searched when it was read.
        threads: numbers in the file [threads], ascending.
        words: how many words each has [threads].
        vectors: float16 [all vectors, dim]: of each thread, read whole, and then its windows.
        starts: where each thread's vectors begin, and where the last ends [threads + 1].
    """

    path: Path
    content: str
    ids: Sequence[str]
    channels: Sequence[str]
    people: Sequence[frozenset[str]]
    started: npt.NDArray[np.float64]
    ended: npt.NDArray[np.float64]
    threads: npt.NDArray[np.int32]
    words: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float16] = field(repr=False)
    starts: Places = field(repr=False)

    def dense(self, query: Vectors, places: Places) -> Scores:
        """The benchmark's ``ByWindow`` of one query, a unit vector [1, dim], and the threads at these places."""
        scores = np.empty(len(places), dtype=np.float32)
        counts = np.diff(self.starts)[places]
        ends = np.cumsum(counts)
        first = 0
        while first < len(places):
            before = int(ends[first - 1]) if first else 0
            last = max(first + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
            rows = _runs(self.starts[places[first:last]], counts[first:last])
            vectors = self.vectors[rows].astype(np.float32)
            whole = np.cumsum([0, *counts[first : last - 1]])
            windows = np.delete(vectors, whole, axis=0)
            scorer = ByWindow(query, windows, (counts[first:last] - 1).tolist(), vectors[whole])
            scores[first:last] = scorer.block(0, 1)[0]
            first = last
        return scores

    def best_window(self, query: Vectors, place: int) -> int:
        """Which of a thread's windows is nearest to the query."""
        start, stop = self.starts[place], self.starts[place + 1]
        return int(np.argmax(self.vectors[start + 1 : stop].astype(np.float32) @ query[0]))

    def weights(self, words: Sequence[str], places: Places) -> tuple[Scores, dict[str, float]]:
        """BM25 of the threads at these places, and what each of the words is worth (its idf; only of those that occur).

        Args:
            words: of the query, as often as they stand in it.
            places: ascending.
        """
        scores = np.zeros(len(self.ids), dtype=np.float64)
        worth: dict[str, float] = {}
        total, average = len(self.ids), float(self.words.mean()) if len(self.words) else 1.0
        for word, (threads, counts) in _counted(self.path, sorted(set(words))).items():
            known = np.isin(threads, self.threads)  # another process may have brought the file up to date since
            found, counts = np.searchsorted(self.threads, threads[known]), counts[known]
            worth[word] = math.log(1 + (total - len(found) + 0.5) / (len(found) + 0.5))
            length = K1 * (1 - B + B * self.words[found] / average)
            scores[found] += words.count(word) * worth[word] * counts / (length + counts)
        return scores[places].astype(np.float32), worth


def _runs(starts: Places, counts: Places) -> Places:
    """starts[0], starts[0] + 1, ... counts[0] of them, then starts[1], ..."""
    ends = np.cumsum(counts)
    steps = np.arange(int(ends[-1])) - np.repeat(ends - counts, counts)
    return np.asarray(np.repeat(starts, counts) + steps, dtype=np.intp)


def _counted(path: Path, words: Sequence[str]) -> Mapping[str, tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
    """Of each word that occurs, the threads it stands in and how often."""
    if not words:
        return {}
    with reading(path) as connection:
        query = "SELECT word, list(thread ORDER BY thread), list(count ORDER BY thread) FROM words"
        rows = connection.execute(f"{query} WHERE word IN (SELECT unnest(?)) GROUP BY word", [list(words)]).fetchall()
    return {word: (np.array(threads, dtype=np.int32), np.array(counts, dtype=np.int32)) for word, threads, counts in rows}


def load(path: Path) -> Index:
    """The index as it lies on disk.

    Raises:
        InputError: another process is writing to it.
        duckdb.Error: it is damaged.
    """
    with reading(path) as connection:
        [(content,)] = connection.execute("SELECT content FROM search_index").fetchall()
        numbers = connection.sql("SELECT thread, words, parts, started, ended FROM threads ORDER BY thread").to_arrow_table()
        starts = np.cumsum([0, *numbers["parts"].to_pylist()], dtype=np.intp)
        ids: list[str] = []
        channels: list[str] = []
        people: list[frozenset[str]] = []
        blobs: list[npt.NDArray[np.float16]] = []
        query = "SELECT thread_id, channel, people, vectors FROM threads ORDER BY thread"
        for batch in connection.sql(query).to_arrow_reader(_ROWS):
            ids += batch["thread_id"].to_pylist()
            channels += batch["channel"].to_pylist()
            people += map(frozenset, batch["people"].to_pylist())
            blobs.append(np.frombuffer(b"".join(batch["vectors"].to_pylist()), dtype=np.float16))
    vectors = np.concatenate(blobs) if blobs else np.empty(0, dtype=np.float16)
    return Index(
        path,
        str(content),
        ids,
        channels,
        people,
        started=np.array(numbers["started"].to_pylist(), dtype=np.float64),
        ended=np.array(numbers["ended"].to_pylist(), dtype=np.float64),
        threads=np.array(numbers["thread"].to_pylist(), dtype=np.int32),
        words=np.array(numbers["words"].to_pylist(), dtype=np.int32),
        vectors=vectors.reshape(int(starts[-1]), -1) if ids else vectors.reshape(0, 1),
        starts=starts,
    )
