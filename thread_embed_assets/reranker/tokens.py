"""Examples as token numbers on disk, written once and read by every epoch: no list of all texts is ever in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from thread_embed_assets.errors import InputError
from thread_embed_assets.reranker.candidates import FEATURES, Floats, Tier
from thread_embed_assets.reranker.onnx_reranker import Ints, PairReader, padded
from thread_embed_assets.storage.atomic import atomic_folder
from thread_embed_assets.storage.fingerprint import seed
from thread_embed_assets.storage.tables import TableHandle

TIERS: tuple[str, ...] = get_args(Tier)
COLUMNS = ("group_id", "candidate_id", "tier", "message", "thread", *FEATURES, "label")
BY_MESSAGE = "group_id, candidate_id"
ROWS_AT_ONCE = 2_048
# Batches are as wide as a multiple of it. With ever new widths the heap of a training on a CPU goes to pieces: of 16 pairs
# a step, 1.1 GB became 2.3 in 120 steps, and stayed at 1.5 in few widths.
_WIDTHS = 16
# Each is a file; of one row there are as many numbers as the second says.
_FILES: dict[str, tuple[Any, int]] = {
    "tokens": (np.int32, 1),
    "lengths": (np.int32, 1),
    "features": (np.float32, len(FEATURES)),
    "labels": (np.int8, 1),
    "tiers": (np.int8, 1),
    "groups": (np.int32, 1),
}


@dataclass(frozen=True)
class Rows:
    """Pairs of a message and a candidate, message by message.

    Attributes:
        tokens: int32 [tokens of all rows].
        lengths: int32 [rows], tokens of each.
        features: float32 [rows, features], not normalised.
        labels: int8 [rows], 1 of the candidate that is right.
        tiers: int8 [rows], places in ``TIERS``.
        groups: int32 [rows], numbers of the messages from 0, rising.
    """

    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int32]
    features: Floats
    labels: npt.NDArray[np.int8]
    tiers: npt.NDArray[np.int8]
    groups: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def ends(self) -> Ints:
        """int64 [rows], where in ``tokens`` each row ends."""
        return np.cumsum(self.lengths, dtype=np.int64)

    @cached_property
    def longest(self) -> int:
        return int(self.lengths.max())

    def batch(self, places: npt.NDArray[np.intp]) -> tuple[Ints, Ints, Floats]:
        """Token numbers and mask, int64 [places, width], and features of some rows."""
        lengths = self.lengths[places]
        width = min(-(-int(lengths.max()) // _WIDTHS) * _WIDTHS, self.longest)
        spans = zip(self.ends[places], lengths, strict=True)
        ids, mask = padded([self.tokens[end - length : end] for end, length in spans], width)
        return ids, mask, self.features[places]


def rows_of(batch: pa.RecordBatch, reader: PairReader, groups: npt.NDArray[np.int32]) -> Rows:
    """The rows of a part of a table, with the numbers of their messages int32 [rows]."""
    columns = {name: batch.column(name) for name in COLUMNS}
    read = reader.pairs(columns["message"].to_pylist(), columns["thread"].to_pylist())
    return Rows(
        tokens=np.fromiter((token for row in read for token in row), dtype=np.int32),
        lengths=np.array([len(row) for row in read], dtype=np.int32),
        features=np.stack([columns[name].to_numpy(zero_copy_only=False) for name in FEATURES], axis=1).astype(np.float32),
        labels=columns["label"].to_numpy(zero_copy_only=False).astype(np.int8),
        tiers=np.array([TIERS.index(tier) for tier in columns["tier"].to_pylist()], dtype=np.int8),
        groups=groups,
    )


def prepare_rows(
    examples: Sequence[TableHandle], split: str, reader: PairReader, folder: Path, most: int | None, draw: int
) -> Rows:
    """The pairs of a split; of a folder that is there already, those that were written to it.

    Args:
        examples: tables with the schema ``EXAMPLES``.
        split: train, dev or test.
        reader: makes token numbers of texts.
        folder: for the files, and nothing else.
        most: messages to take, a uniform sample; None takes all.
        draw: seeds the sample.

    Raises:
        InputError: the tables have no such examples, or a message has not exactly one right candidate.
    """
    place = ", ".join(str(handle.path) for handle in examples)
    if not folder.exists():
        where = f"split = '{split}'"
        with atomic_folder(folder) as part:
            _write(examples, where, reader, part, _sample(examples, where, most, draw))
    rows = _open(folder)
    if not len(rows):
        raise InputError(place, f"there are no examples of the split {split}", "Materialise the examples again")
    wrong = int((np.bincount(rows.groups, weights=rows.labels) != 1).sum())
    if wrong:
        raise InputError(
            place, f"{wrong} messages of {split} have not exactly one right candidate", "Materialise the examples again"
        )
    return rows


def _sample(examples: Sequence[TableHandle], where: str, most: int | None, draw: int) -> Callable[[str], bool]:
    """Whether a message is in the sample; the messages with the lowest numbers drawn from their ids are."""
    if most is None:
        return lambda group: True
    drawn = np.array(
        [
            seed("reranker", draw, group)
            for handle in examples
            for batch in handle.scan(["group_id"], f"{where} AND label = 1")
            for group in batch.column(0).to_pylist()
        ],
        dtype=np.uint64,
    )
    if len(drawn) <= most:
        return lambda group: True
    highest = int(np.partition(drawn, most - 1)[most - 1])
    return lambda group: seed("reranker", draw, group) <= highest


def _write(
    examples: Sequence[TableHandle], where: str, reader: PairReader, folder: Path, wanted: Callable[[str], bool]
) -> None:
    files = {name: (folder / f"{name}.bin").open("wb") for name in _FILES}
    try:
        for batch, groups in _numbered(examples, where, wanted):
            rows = rows_of(batch, reader, groups)
            for name, file in files.items():
                getattr(rows, name).tofile(file)
    finally:
        for file in files.values():
            file.close()


def _numbered(
    examples: Sequence[TableHandle], where: str, wanted: Callable[[str], bool]
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.int32]]]:
    """The wanted rows in Arrow batches, and the numbers of their messages."""
    number, last, taken = -1, "", False
    for handle in examples:
        for batch in handle.scan(COLUMNS, where, BY_MESSAGE, ROWS_AT_ONCE):
            kept: list[bool] = []
            numbers: list[int] = []
            for group in batch.column("group_id").to_pylist():
                if group != last:
                    last, taken = group, wanted(group)
                    number += taken
                kept.append(taken)
                if taken:
                    numbers.append(number)
            yield batch.filter(pa.array(kept)), np.array(numbers, dtype=np.int32)


def _open(folder: Path) -> Rows:
    found: dict[str, Any] = {}
    for name, (dtype, width) in _FILES.items():
        path = folder / f"{name}.bin"
        values = np.memmap(path, dtype=dtype, mode="r") if path.stat().st_size else np.empty(0, dtype=dtype)
        found[name] = values.reshape(-1, width) if width > 1 else values
    return Rows(**found)
