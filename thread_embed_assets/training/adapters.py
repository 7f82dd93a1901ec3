"""What of a model is trained: all of it, without its word embeddings, or low-rank matrices beside its linear layers."""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from thread_embed_assets.training.config import StageConfig


def choose_trained_weights(model: SentenceTransformer, config: StageConfig) -> None:
    """Mark the weights that ``config`` trains, in place; with ``adapter: lora`` matrices are added (arXiv 2106.09685).

    The draw of the matrices takes from torch's generator: seed it before.
    """
    backbone: Any = model[0].auto_model
    if config.adapter == "lora":
        from peft import LoraConfig

        model.add_adapter(LoraConfig(r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear"))
    if config.freeze_word_embeddings:
        backbone.get_input_embeddings().requires_grad_(False)


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies, on the CPU, of the weights that training changes."""
    return {
        name: weight.detach().cpu().clone().contiguous() for name, weight in model.named_parameters() if weight.requires_grad
    }


def restore_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Put back what :func:`trained_weights` gave; a name that the model has not is a KeyError."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(weight)


def merge_adapter(model: SentenceTransformer) -> None:
    """Add low-rank matrices to the weights beside them and remove them, in place; a model without stays as it is."""
    backbone: Any = model[0].auto_model
    if not getattr(backbone, "_hf_peft_config_loaded", False):
        return
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            merged: Any = layer
            merged.merge(safe_merge=True)
            parent, _, own = name.rpartition(".")
            setattr(backbone.get_submodule(parent), own, merged.get_base_layer())
    del backbone.peft_config
    backbone._hf_peft_config_loaded = False
    backbone.requires_grad_(True)
