"""What a run of the reranker's training has come to, on disk as safetensors and JSON.

Imports torch: import it inside functions.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from thread_embed_assets.reranker.config import RerankerConfig
from thread_embed_assets.reranker.model import Reranker
from thread_embed_assets.storage.atomic import atomic_folder

_STATE, _WEIGHTS, _BEST, _MOMENTS = "state.json", "weights.safetensors", "best.safetensors", "optimizer.safetensors"


@dataclass
class State:
    """Steps done, what they gave, and the optimiser.

    Attributes:
        optimizer: AdamW; each of its groups has its ``peak`` rate beside the rate of the step.
        history: ``steps`` and ``epochs``, as ``training_history.json`` keeps them.
        losses: of the steps since the last of the history's points.
        best: copies of the trained weights after the best epoch so far.
    """

    optimizer: torch.optim.AdamW
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    history: dict[str, Any] = field(default_factory=lambda: {"steps": [], "epochs": []})
    losses: list[float] = field(default_factory=list)
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    @classmethod
    def fresh(cls, model: Reranker, config: RerankerConfig) -> State:
        return cls(_optimizer(model, config))

    @classmethod
    def newest(cls, work: Path, model: Reranker, config: RerankerConfig) -> State | None:
        """The state with the most steps that was saved here, its weights put back into the model; None without any."""
        folders = sorted(folder for folder in work.glob("state-*") if (folder / _STATE).is_file())
        if not folders:
            return None
        folder = folders[-1]
        state = cls(_optimizer(model, config), **json.loads((folder / _STATE).read_text(encoding="utf-8")))
        _put_back(model, load_file(folder / _WEIGHTS))
        if (folder / _BEST).exists():
            state.best = load_file(folder / _BEST)
        state._load_moments(load_file(folder / _MOMENTS))
        return state

    def save(self, work: Path, model: Reranker) -> None:
        """Write all of it beside the last state, which then goes."""
        target = work / f"state-{self.step:09d}-{len(self.history['epochs']):04d}"
        with atomic_folder(target) as part:
            save_file(_trained(model), part / _WEIGHTS)
            save_file(self._moments(), part / _MOMENTS)
            if self.best:
                save_file(self.best, part / _BEST)
            counts = {name: getattr(self, name) for name in ("step", "tokens", "seconds", "history", "losses")}
            (part / _STATE).write_text(json.dumps(counts), encoding="utf-8")
        for folder in work.glob("state-*"):
            if folder != target:
                shutil.rmtree(folder)

    def weights(self) -> list[torch.nn.Parameter]:
        return [weight for group in self.optimizer.param_groups for weight in group["params"]]

    @property
    def trained_weights(self) -> int:
        return sum(weight.numel() for weight in self.weights())

    def set_rates(self, factor: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    def count(self, tokens: int, seconds: float) -> None:
        self.step += 1
        self.tokens += tokens
        self.seconds += seconds

    def add_point(self, epoch: int) -> dict[str, Any]:
        """Add to the history where it stands, with the mean loss since the last such point."""
        point = {
            "step": self.step,
            "epoch": epoch,
            "loss": sum(self.losses) / len(self.losses),
            "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
        }
        self.history["steps"].append(point)
        self.losses.clear()
        return point

    def add_epoch(self, measured: dict[str, Any], model: Reranker) -> None:
        self.history["epochs"].append(measured)
        if self.best_epoch() is measured:
            self.best = _trained(model)

    def best_epoch(self) -> dict[str, Any]:
        """By hit@1 on dev, then by MRR; of equals the first."""
        best: dict[str, Any] = max(self.history["epochs"], key=lambda e: (e["dev"]["hit@1"], e["dev"]["mrr"], -e["epoch"]))
        return best

    def restore_best(self, model: Reranker) -> None:
        _put_back(model, self.best)

    def _moments(self) -> dict[str, torch.Tensor]:
        return {
            f"{place}.{name}": value.detach().cpu().contiguous()
            for place, weight in enumerate(self.weights())
            for name, value in self.optimizer.state.get(weight, {}).items()
        }

    def _load_moments(self, moments: dict[str, torch.Tensor]) -> None:
        weights = self.weights()
        for key, value in moments.items():
            place, _, name = key.partition(".")
            weight = weights[int(place)]
            kept = value if name == "step" else value.to(weight.device)
            self.optimizer.state[weight][name] = kept


def _optimizer(model: Reranker, config: RerankerConfig) -> torch.optim.AdamW:
    """Weights of the transformer's own have their own rate; biases and norms do not decay."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            pretrained = name.startswith("transformer.") and "lora_" not in name
            rate = config.pretrained_learning_rate if pretrained else config.learning_rate
            decay = config.weight_decay if weight.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(weight)
    return torch.optim.AdamW(
        [{"params": weights, "peak": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()]
    )


def _trained(model: Reranker) -> dict[str, torch.Tensor]:
    """Copies, on the CPU, of the weights that training changes."""
    return {
        name: weight.detach().cpu().clone().contiguous() for name, weight in model.named_parameters() if weight.requires_grad
    }


def _put_back(model: Reranker, weights: dict[str, torch.Tensor]) -> None:
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)
