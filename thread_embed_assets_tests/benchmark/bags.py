"""A model in mteb's encoder protocol: bags of hashed words, without weights."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from mteb.models.model_meta import ModelMeta

SIZE = 96


def bags(texts: Iterable[str], alike: bool = False) -> npt.NDArray[np.float32]:
    """[texts, SIZE] counts of words, each weighted by a number of its own, so that few scores tie."""
    rows = []
    for text in texts:
        row = np.zeros(SIZE, dtype=np.float32)
        for word in [] if alike else text.casefold().split():
            key = zlib.crc32(word.encode())
            row[key % SIZE] += 1 + (key >> 8) % 997 / 997
        row[0] += 0.1
        rows.append(row)
    return np.stack(rows)


@dataclass
class BagEncoder:
    """``damage`` blurs the vectors by so much noise, ``alike`` makes them all the same."""

    damage: float = 0.0
    alike: bool = False
    mteb_model_meta: ModelMeta = field(
        default_factory=lambda: ModelMeta.create_empty({"name": "made/bags", "revision": "1", "modalities": ["text"]})
    )

    def encode(self, inputs: Iterable[Any], **_: Any) -> npt.NDArray[np.float32]:
        texts = [text for batch in inputs for text in batch["text"]]
        vectors = bags(texts, self.alike)
        if self.damage:
            for row, text in enumerate(texts):
                noise = np.random.default_rng(zlib.crc32(text.encode())).normal(size=SIZE)
                vectors[row] += np.float32(self.damage) * noise.astype(np.float32)
        return vectors

    def similarity(self, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = _unit(first) @ _unit(second).T
        return scores

    def similarity_pairwise(
        self, first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        scores: npt.NDArray[np.float32] = (_unit(first) * _unit(second)).sum(axis=1)
        return scores


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    rows = np.asarray(vectors, dtype=np.float32)
    unit: npt.NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
