"""Batches in which a conversation occurs at most once."""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from sentence_transformers.base.sampler import NoDuplicatesBatchSampler


class ConversationBatchSampler(NoDuplicatesBatchSampler):
    """Whole batches in which every text and every conversation, the hard negatives' included, is there once.

    The library's ``no_duplicates_hashed`` leaves label columns out of its comparison (sentence-transformers 6.2,
    ``valid_label_columns``), so a conversation id given as label would not be kept apart. Here no column counts as a label
    and the hidden columns of the data set are compared, too. A data set with fewer conversations than a batch gets batches
    of half its conversations. The length is exact, so that a resumed run counts epochs as the first one did.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, generator: torch.Generator | None = None, seed: int = 0, **_: Any
    ) -> None:
        every_column = dataset.with_format(None)
        conversations = len(every_column.unique("conversation"))
        super().__init__(
            every_column,
            batch_size=min(batch_size, max(2, conversations // 2)),
            drop_last=True,
            generator=generator,
            seed=seed,
            precompute_hashes=True,
            precompute_num_proc=0,  # in this process: forking after torch has started its threads can hang
        )
        self._length = 0
        self._length = sum(1 for _ in self)

    def __len__(self) -> int:
        """The batches of one pass in epoch 0; a pass that yields fewer goes on with repeated rows until it has as many."""
        return self._length
