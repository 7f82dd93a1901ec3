"""Batches in which a conversation occurs at most once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

from thread_embed_assets.training.devices import Ranks


class ConversationBatchSampler(NoDuplicatesBatchSampler):
    """Whole batches in which every text and every conversation, the hard negatives' included, is there once.

    The library's ``no_duplicates_hashed`` leaves label columns out of its comparison (sentence-transformers 6.2,
    ``valid_label_columns``), so a conversation id given as label would not be kept apart. Here no column counts as a label
    and the hidden columns of the data set are compared, too; numbers are not. In a small data set a batch takes up half
    of the conversations at most. The length is exact, so that a resumed run counts epochs as the first one did.

    Of several processes each gets its part of every batch, and the batches are those of one process alone, but for sets too
    small to be divided.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, generator: torch.Generator | None = None, seed: int = 0, **_: Any
    ) -> None:
        every_column = dataset.with_format(None)
        conversations = len(every_column.unique("conversation"))
        texts = [name for name, feature in every_column.features.items() if getattr(feature, "dtype", "") == "string"]
        a_row = sum("conversation" in name for name in texts)
        ranks = Ranks.of_this_process()
        size = min(batch_size, max(2, conversations // (2 * a_row)))
        super().__init__(
            every_column.select_columns(texts),
            batch_size=max(1, size // ranks.world) * ranks.world,
            drop_last=True,
            generator=generator,
            seed=seed,
            precompute_hashes=True,
            precompute_num_proc=0,  # in this process: forking after torch has started its threads can hang
        )
        self._ranks = ranks
        self._length = 0
        self._drawn: tuple[int, npt.NDArray[np.int32]] | None = None
        self._length = len(self._batches())

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch_size // self._ranks.world
        start = self._ranks.rank * share
        for batch in self._batches():
            yield batch[start : start + share].tolist()

    def _batches(self) -> npt.NDArray[np.int32]:
        """All of an epoch's batches, drawn before its first step: a GPU would wait for a draw row by row."""
        if self._drawn is None or self._drawn[0] != self.epoch:
            batches = np.array(list(super().__iter__()), dtype=np.int32).reshape(-1, self.batch_size)
            self._drawn = self.epoch, batches
        return self._drawn[1]

    def __len__(self) -> int:
        """The batches of one pass in epoch 0; a pass that yields fewer goes on with repeated rows until it has as many."""
        return self._length
