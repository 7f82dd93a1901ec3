"""The best weights on dev while a stage trains, and when to stop for want of gain.

Imports torch: import it inside functions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from thread_embed_assets.training.adapters import restore_weights, trained_weights
from thread_embed_assets.training.loss_curve import DevPoint

logger = logging.getLogger(__name__)

_POINTS = "dev_points.json"
_WEIGHTS = "best_on_dev.safetensors"


class EarlyStop:
    """Measures on dev, keeps the weights of the best measure, and counts the measures since.

    Its state travels in the trainer's checkpoints, so a resumed run stops where the whole one does.

    Attributes:
        points: every measure so far, the one before the first step included.
        exhausted: ``patience`` measures in a row brought no gain.
    """

    def __init__(self, measure: Callable[[], dict[str, Any]], every: int, patience: int | None) -> None:
        self.points: list[DevPoint] = []
        self._measure = measure
        self._every = every
        self._patience = patience
        self._weights: dict[str, torch.Tensor] = {}

    @property
    def best_step(self) -> int:
        """The step of the best measure, of equals the first."""
        return max(self.points, key=lambda point: (point["mrr"], -point["step"]))["step"] if self.points else 0

    @property
    def exhausted(self) -> bool:
        since = [point for point in self.points if point["step"] > self.best_step]
        return self._patience is not None and len(since) >= self._patience

    def start(self, before: dict[str, Any], model: torch.nn.Module) -> None:
        """Take what was measured before the first step as the measure to beat."""
        if before:
            self._add(0, before, model)

    def step_done(self, step: int, model: torch.nn.Module) -> None:
        """Measure if it is time to."""
        if self.points and self._every and step % self._every == 0:
            self._add(step, self._measure(), model)

    def finish(self, step: int, model: torch.nn.Module) -> None:
        """Measure the last step, and put the best weights into the model if there were measures on the way."""
        if not self.points:
            return
        if self.points[-1]["step"] != step and not self.exhausted:
            self._add(step, self._measure(), model)
        if self._every and self.points[-1]["step"] != self.best_step:
            logger.info("the weights of step %d are the best on dev and are kept", self.best_step)
            restore_weights(model, self._weights)

    def save(self, folder: Path) -> None:
        (folder / _POINTS).write_text(json.dumps(self.points), encoding="utf-8")
        if self._weights:
            save_file(self._weights, folder / _WEIGHTS)

    def load(self, folder: Path) -> None:
        self.points = json.loads((folder / _POINTS).read_text(encoding="utf-8"))
        self._weights = load_file(folder / _WEIGHTS) if (folder / _WEIGHTS).exists() else {}

    def _add(self, step: int, measured: dict[str, Any], model: torch.nn.Module) -> None:
        self.points.append(DevPoint(step=step, mrr=measured["mrr@10"], sets=measured["sets"]))
        logger.info("step %d  MRR@10 on dev %.4f  (best %.4f)", step, measured["mrr@10"], max(p["mrr"] for p in self.points))
        if self._every and self.best_step == step:
            self._weights = trained_weights(model)
