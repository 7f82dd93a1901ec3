"""How many pairs of a source are kept, and which: a uniform sample, not the head of a file.

What is declared where:

* ``MOST_PAIRS``: the most of a strategy that a source gives, where the catalogue does not say otherwise.
* ``most_pairs`` of a source in ``catalog.yaml``: its own caps. They are its weight in the full catalogue, too: a training
  stage takes rows in proportion to the strategy's weight x the source's rows. Together the public sources give 3 to 4
  million pairs of strategy A, 0.8 million of B, 1.2 million of C and up to 0.5 million of D.
* ``PairConfig``: the caps of one materialisation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from heapq import nsmallest
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from thread_embed_assets.pairs.schema import Strategy
from thread_embed_assets.storage.tables import TableWriter

MOST_PAIRS: Mapping[Strategy, int] = MappingProxyType(
    {
        Strategy.THREAD: 1_000_000,
        Strategy.RESPONSE: 200_000,
        Strategy.TEMPORAL: 500_000,
        Strategy.SUMMARY: 100_000,
    }
)
# A conversation of two hundred messages makes some 100 pairs of strategy A, one of twenty makes 10. In Ubuntu IRC 4 of 1,000
# such pairs are beyond this cap, in the Slack set 19, in the DuraSpace logs, whose guessed threads are long, 71.
MOST_PER_CONVERSATION = 64

_KEY = "sampling_key"
Keys = NDArray[np.uint64]


def most_pairs(strategy: str, declared: Mapping[Any, int]) -> int:
    """A source's cap for a strategy: what the catalogue declares for it, else the strategy's own."""
    return declared.get(strategy, MOST_PAIRS[Strategy(strategy)])


def within_cap(conversations: Sequence[str], most: int, key: Callable[[int], int]) -> list[int]:
    """Positions of the pairs to keep, ascending: of a conversation with more than ``most`` those with the smallest keys."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, name in enumerate(conversations):
        places[name].append(place)
    return sorted(place for own in places.values() for place in (own if len(own) <= most else nsmallest(most, own, key)))


class UniformSample:
    """Of the rows added to a table, the ``most`` whose keys are smallest, in the order in which they were added.

    With keys that are hashes of ids, the sample is uniform, the same in any order of adding, and contained in that of a
    larger cap. What cannot be in it is dropped at once; the rest waits on disk, so that memory holds no more than twice
    ``most`` keys of 8 bytes each. Rows that wait are about ``most`` x (2 + log2(rows / most)) at most.
    """

    def __init__(self, writer: TableWriter, table: str, most: int, folder: Path) -> None:
        self._writer = writer
        self._table = table
        self._most = most
        self._path = folder / "waiting.arrow"
        self._waiting: pa.RecordBatchFileWriter | None = None
        self._smallest: Keys = np.empty(0, dtype=np.uint64)
        self._newer: list[Keys] = []
        self._limit = np.iinfo(np.uint64).max
        self._rows = 0

    def add(self, rows: pa.RecordBatch, keys: Keys) -> None:
        self._rows += len(keys)
        wanted = keys <= self._limit
        if not wanted.any():
            return
        if not wanted.all():
            rows, keys = rows.filter(pa.array(wanted)), keys[wanted]
        waiting = rows.append_column(_KEY, pa.array(keys))
        if self._waiting is None:
            packed = pa.ipc.IpcWriteOptions(compression="lz4")
            self._waiting = pa.ipc.new_stream(str(self._path), waiting.schema, options=packed)
        self._waiting.write_batch(waiting)
        self._newer.append(keys)
        if sum(map(len, self._newer)) >= max(1, self._most):
            self._tighten()

    def finish(self) -> int:
        """Write the sample to the table; returns how many rows were added but not kept."""
        if self._waiting is None:
            return self._rows
        self._waiting.close()
        self._tighten()
        kept = 0
        with pa.ipc.open_stream(str(self._path)) as reader:
            for batch in reader:
                wanted = batch.column(_KEY).to_numpy() <= self._limit
                kept += int(wanted.sum())
                self._writer.add_batch(self._table, batch.drop_columns(_KEY).filter(pa.array(wanted)))
        self._path.unlink()
        return self._rows - kept

    def _tighten(self) -> None:
        """Keep the ``most`` smallest of the keys seen so far, and set the limit to the largest of them."""
        seen = np.concatenate([self._smallest, *self._newer])
        self._newer = []
        if len(seen) > self._most:
            seen = np.partition(seen, self._most - 1)[: self._most]
            self._limit = seen.max()
        self._smallest = seen
