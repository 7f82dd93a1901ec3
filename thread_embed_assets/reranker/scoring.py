"""Scores of a reranker in torch, and how often it puts the right candidate first.

Imports torch: import it inside functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from thread_embed_assets.reranker.candidates import FEATURES, Candidate, Floats
from thread_embed_assets.reranker.model import FusedReranker, Reranker, load_reranker, pair_reader
from thread_embed_assets.reranker.onnx_reranker import Ints, JointReader, of_like_length, padded
from thread_embed_assets.reranker.thread_states import JointScorer, ThreadReader
from thread_embed_assets.reranker.tokens import TIERS, Rows
from thread_embed_assets.training.devices import DeviceChoice

_PAIRS_AT_ONCE = 64
_REMEMBERED = 2_048  # threads: 300 MB of states of 100 tokens


def score_rows(model: Reranker, rows: Rows) -> Floats:
    """Logits float32 [rows], on the model's device."""
    model.eval()
    logits = np.empty(len(rows), dtype=np.float32)
    with torch.inference_mode():
        for places in of_like_length(rows.lengths, _PAIRS_AT_ONCE):
            inputs = [torch.from_numpy(values).to(model.device) for values in rows.batch(places)]
            logits[places] = model(*inputs).cpu().numpy()
    return logits


class TorchScorer:
    """A saved reranker on a device; :meth:`rows` scores tables, :meth:`logits` one message.

    On a CPU what is read of a thread is remembered, where the model reads threads alone: messages of one channel, one after
    another, mostly have the same candidates.

    Args:
        folder: of the reranker.
        device: where to score.

    Raises:
        InputError: the folder holds no whole reranker.
    """

    def __init__(self, folder: Path, device: DeviceChoice) -> None:
        self._model, self._reader = load_reranker(folder).place_on(device).eval(), pair_reader(folder)
        self._joint = None
        if isinstance(self._model, FusedReranker) and self._model.config.joint_layers is not None and device.device == "cpu":
            parts = _Module(JointScorer(self._model)), _Module(ThreadReader(self._model))
            self._joint = JointReader(*parts, self._model.reading["separator"], _REMEMBERED)

    def rows(self, batch: pa.RecordBatch) -> Floats:
        """Logits float32 [rows] of rows with the columns message, thread and the features, in their order."""
        features = np.stack([batch[name].to_numpy() for name in FEATURES], axis=1).astype(np.float32)
        return self._scored(batch["message"].to_pylist(), batch["thread"].to_pylist(), features)

    def logits(self, message: str, candidates: Sequence[Candidate]) -> Floats:
        """float32 [candidates], in their order."""
        if not candidates:
            return np.empty(0, dtype=np.float32)
        features = np.stack([candidate.features for candidate in candidates])
        return self._scored([message] * len(candidates), [candidate.text for candidate in candidates], features)

    def _scored(self, messages: Sequence[str], threads: Sequence[str], features: Floats) -> Floats:
        read = self._reader.pairs(messages, threads)
        if self._joint is not None:
            runs = [[*places] for _, places in groupby(range(len(read)), key=lambda place: messages[place])]
            parts = [self._joint.logits([read[place] for place in run], features[run]) for run in runs]
            return np.concatenate([np.empty(0, dtype=np.float32), *parts])
        logits = np.empty(len(read), dtype=np.float32)
        with torch.inference_mode():
            for places in of_like_length([len(row) for row in read], _PAIRS_AT_ONCE):
                given = (*padded([read[place] for place in places]), features[places])
                inputs = [torch.from_numpy(values).to(self._model.device) for values in given]
                logits[places] = self._model(*inputs).cpu().numpy()
        return logits


@dataclass(frozen=True)
class _Module:
    """A part of a model, called as onnxruntime's sessions are."""

    part: nn.Module

    def run(self, names: None, feed: dict[str, Any]) -> list[Floats]:
        """What it makes of its arguments, float32."""
        given = {name: torch.from_numpy(values) for name, values in feed.items()}
        with torch.inference_mode():
            return [self.part(**given).numpy()]


def ranks(scores: Floats, labels: npt.NDArray[np.int8], groups: npt.NDArray[np.int32]) -> Ints:
    """The rank of each message's right candidate, int64 [messages].

    Of equal scores, or such as are no numbers, the wrong ones are first.

    Args:
        scores: [rows].
        labels: [rows], 1 of exactly one row of a message.
        groups: [rows], numbers of the messages from 0, rising.
    """
    right = scores[labels == 1]
    found: Ints = np.bincount(groups, weights=~(scores < right[groups])).astype(np.int64)
    return found


def hits(scores: Floats, rows: Rows) -> dict[str, Any]:
    """``hit@1``, ``mrr`` and number of messages: of all, and below ``tiers`` by tier."""
    found = ranks(scores, rows.labels, rows.groups)
    tiers = rows.tiers[rows.labels == 1]
    by_tier = {TIERS[tier]: _summary(found[tiers == tier]) for tier in np.unique(tiers)}
    return {**_summary(found), "tiers": by_tier}


def _summary(found: Ints) -> dict[str, Any]:
    return {
        "hit@1": round(float((found == 1).mean()), 4),
        "mrr": round(float((1 / found).mean()), 4),
        "messages": len(found),
    }
